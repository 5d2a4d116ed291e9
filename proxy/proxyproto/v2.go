package proxyproto

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
)

const (
	signature = "\r\n\r\n\x00\r\nQUIT\n"
	fixedV2   = 16   // bytes before the addresses
	maxV2     = 4096 // bytes behind them; a proxy that says all that the specification has needs a tenth
)

// Commands, and families with their transport.
const (
	cmdLocal = 0x20
	cmdProxy = 0x21
	unspec   = 0x00
	tcp4     = 0x11
	tcp6     = 0x21
)

var errBinary = errors.New("a binary PROXY header has another form")

// readV2 reads the rest of a header whose first bytes are in b.
func readV2(r io.Reader, b []byte) (Header, error) {
	if _, err := io.ReadFull(r, b[minHeader:fixedV2]); err != nil {
		return Header{}, err
	}
	command, family := b[12], b[13]
	length := int(binary.BigEndian.Uint16(b[14:fixedV2]))
	switch {
	case command != cmdLocal && command != cmdProxy:
		return Header{}, fmt.Errorf("%w: version and command %#02x", errBinary, command)
	case length > maxV2:
		return Header{}, fmt.Errorf("%w: %d bytes", errBinary, length)
	}
	rest := make([]byte, length)
	if _, err := io.ReadFull(r, rest); err != nil {
		return Header{}, err
	}
	if command == cmdLocal || family == unspec { // what follows is to be ignored
		return Header{}, nil
	}
	return parseV2(family, rest)
}

// parseV2 reads addresses, and steps over what follows them.
func parseV2(family byte, b []byte) (Header, error) {
	var size int // of an address
	switch family {
	case tcp4:
		size = 4
	case tcp6:
		size = 16
	default:
		return Header{}, fmt.Errorf("%w: family and transport %#02x are not TCP's", errBinary, family)
	}
	if len(b) < 2*size+4 {
		return Header{}, fmt.Errorf("%w: it ends within the addresses", errBinary)
	}
	src, _ := netip.AddrFromSlice(b[:size])
	dst, _ := netip.AddrFromSlice(b[size : 2*size])
	ports, tlvs := b[2*size:2*size+4], b[2*size+4:]
	for len(tlvs) > 0 { // type, length, value
		if len(tlvs) < 3 || len(tlvs)-3 < int(binary.BigEndian.Uint16(tlvs[1:])) {
			return Header{}, fmt.Errorf("%w: it ends within a value", errBinary)
		}
		tlvs = tlvs[3+binary.BigEndian.Uint16(tlvs[1:]):]
	}
	return Header{
		Source:      netip.AddrPortFrom(src, binary.BigEndian.Uint16(ports)),
		Destination: netip.AddrPortFrom(dst, binary.BigEndian.Uint16(ports[2:])),
	}, nil
}

func appendV2(b []byte, h Header) []byte {
	b = append(b, signature...)
	if !h.Source.IsValid() {
		return append(b, cmdLocal, unspec, 0, 0)
	}
	src, dst := h.Source.Addr().AsSlice(), h.Destination.Addr().AsSlice()
	family := byte(tcp6)
	if h.Source.Addr().Is4() {
		family = tcp4
	}
	b = append(b, cmdProxy, family)
	b = binary.BigEndian.AppendUint16(b, uint16(2*len(src)+4))
	b = append(append(b, src...), dst...)
	b = binary.BigEndian.AppendUint16(b, h.Source.Port())
	return binary.BigEndian.AppendUint16(b, h.Destination.Port())
}
