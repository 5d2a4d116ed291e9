package proxy

import (
	"context"
	"fmt"
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

// ServeThrough serves a request as the engines of a listener have it served.
func (p *Proxy) ServeThrough(ctx context.Context, name string, r *message.Request) (*message.Response, error) {
	for _, l := range p.listeners {
		if l.cfg.Name == name {
			return p.serve(ctx, l, r)
		}
	}
	return nil, fmt.Errorf("no listener %s", name)
}

// FarewellsDue returns how many clients of WebSockets are still to be told that
// they should go.
func (p *Proxy) FarewellsDue() int {
	w := p.webSockets
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for s := range w.running {
		s.mu.Lock()
		if !s.leave {
			n++
		}
		s.mu.Unlock()
	}
	return n
}
