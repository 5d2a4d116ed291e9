package proxyproto

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
)

const (
	prefixV1 = "PROXY "
	maxLine  = 107 // bytes with CRLF, as the specification has it
)

var errLine = errors.New("a PROXY line has another form")

// readV1 reads the rest of a line whose first bytes are in b. It takes byte by
// byte: nothing says how long the line is.
func readV1(r io.Reader, b []byte) (Header, error) {
	n := minHeader
	for b[n-2] != '\r' || b[n-1] != '\n' {
		if n == maxLine {
			return Header{}, fmt.Errorf("%w: over %d bytes", errLine, maxLine)
		}
		if _, err := io.ReadFull(r, b[n:n+1]); err != nil {
			return Header{}, err
		}
		n++
	}
	return parseV1(string(b[:n-2]))
}

// parseV1 reads a line without its CRLF.
func parseV1(line string) (Header, error) {
	f := strings.Split(line, " ")
	if f[1] == "UNKNOWN" { // what follows is to be ignored
		return Header{}, nil
	}
	if len(f) != 6 || f[1] != "TCP4" && f[1] != "TCP6" {
		return Header{}, errLine
	}
	var h Header
	for i, to := range []*netip.AddrPort{&h.Source, &h.Destination} {
		a, err := netip.ParseAddr(f[2+i])
		if err != nil || a.Is4() != (f[1] == "TCP4") || a.Zone() != "" {
			return Header{}, fmt.Errorf("%w: an address is none of %s", errLine, f[1])
		}
		port, err := strconv.ParseUint(f[4+i], 10, 16)
		if err != nil || strconv.FormatUint(port, 10) != f[4+i] {
			return Header{}, fmt.Errorf("%w: a port is none", errLine)
		}
		*to = netip.AddrPortFrom(a, uint16(port))
	}
	return h, nil
}

func appendV1(b []byte, h Header) []byte {
	if !h.Source.IsValid() {
		return append(b, "PROXY UNKNOWN\r\n"...)
	}
	family := "TCP6 "
	if h.Source.Addr().Is4() {
		family = "TCP4 "
	}
	b = append(append(b, prefixV1...), family...)
	b = append(h.Source.Addr().AppendTo(b), ' ')
	b = append(h.Destination.Addr().AppendTo(b), ' ')
	b = append(strconv.AppendUint(b, uint64(h.Source.Port()), 10), ' ')
	b = strconv.AppendUint(b, uint64(h.Destination.Port()), 10)
	return append(b, "\r\n"...)
}
