// Package proxyproto reads and writes the header of the PROXY protocol
// (versions 1 and 2), by which one TCP proxy tells the next whose connection it
// carries.
//
// [Read] takes exactly the header off a connection, so that what follows is the
// connection as if it came from its client. It is strict: a header that two
// readers could understand differently is an error. Which peers may send one is
// not its business. The specification is HAProxy's doc/proxy-protocol.txt.
package proxyproto

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
)

// A Header says whose connection it is. Both addresses are of the same family,
// or both are invalid: the proxy speaks for itself (a health check) or does not
// know.
type Header struct {
	Source      netip.AddrPort // of the client
	Destination netip.AddrPort // where the client connected to
}

// A Version is that of a header.
type Version uint8

// The versions of the protocol.
const (
	V1 Version = 1 // a line of text
	V2 Version = 2 // binary
)

// String returns the word of the configuration.
func (v Version) String() string { return fmt.Sprintf("v%d", uint8(v)) }

// ErrNoHeader means that a connection did not begin with a header.
var ErrNoHeader = errors.New("the connection does not begin with a PROXY header")

// minHeader is the length of the shortest header, "PROXY UNKNOWN" and CRLF: that
// much can be read without taking what follows.
const minHeader = 15 // bytes

// Read reads a header and not one byte more. Its error wraps ErrNoHeader when
// the first bytes are none, and is that of r when r ends or fails.
func Read(r io.Reader) (Header, error) {
	var b [maxLine]byte
	if _, err := io.ReadFull(r, b[:minHeader]); err != nil {
		return Header{}, err
	}
	switch {
	case string(b[:len(signature)]) == signature:
		return readV2(r, b[:])
	case string(b[:len(prefixV1)]) == prefixV1:
		return readV1(r, b[:])
	}
	return Header{}, ErrNoHeader
}

// Append appends h in version v. A zero h says that the proxy speaks for itself;
// a destination that is unknown, or of another family, is said to be the
// unspecified address.
func Append(b []byte, v Version, h Header) []byte {
	src, dst := h.Source.Addr().Unmap().WithZone(""), h.Destination.Addr().Unmap().WithZone("")
	if src.IsValid() && src.BitLen() != dst.BitLen() {
		dst = netip.IPv6Unspecified()
		if src.Is4() {
			dst = netip.IPv4Unspecified()
		}
		h.Destination = netip.AddrPort{}
	}
	h.Source = netip.AddrPortFrom(src, h.Source.Port())
	h.Destination = netip.AddrPortFrom(dst, h.Destination.Port())
	if v == V1 {
		return appendV1(b, h)
	}
	return appendV2(b, h)
}
