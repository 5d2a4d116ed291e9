package proxy

import (
	"net/netip"

	"anyedge/internal/message"
)

// Parsers of outside bytes, for fuzzing.
var (
	Normalise = normalise
	ClientOf  = clientOf
)

// ParseAuthority returns host and port.
func ParseAuthority(s string) (host, port string, err error) {
	a, err := parseAuthority(s)
	return a.host, a.port, err
}

// ParseInbound returns what a hop's fields say.
func ParseInbound(h message.Header, from string) (visited []string, client netip.AddrPort, want float64, err error) {
	in, err := parseInbound(h, from)
	return in.visited, in.client, in.want, err
}
