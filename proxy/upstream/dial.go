package upstream

import (
	"context"
	"net"

	"anyedge/internal/message"
	"anyedge/proxy/h1"
	"anyedge/proxy/h2"
	"anyedge/proxy/proxyproto"
)

// Dial makes the client that a backend's URL asks for: HTTP/1.1 for http,
// HTTP/2 without TLS for h2c. It does not connect yet.
func Dial(b BackendConfig, t TimeoutsConfig) (message.RoundTripper, error) {
	u, err := b.parse()
	if err != nil {
		return nil, err
	}
	if u.Scheme == schemeH2C {
		return h2.NewClient(h2.ClientConfig{
			Name:           b.Name,
			Addr:           hostPort(u),
			Connect:        t.connect(),
			ResponseHeader: t.responseHeader(),
			Idle:           t.idle(),
		}), nil
	}
	return h1.NewClient(h1.ClientConfig{
		Name:           b.Name,
		Addr:           hostPort(u),
		Connect:        t.connect(),
		ResponseHeader: t.responseHeader(),
		Idle:           t.idle(),
		Preamble:       b.preamble(),
	}), nil
}

// preamble returns what tells the backend whose connection it gets; nil: nothing
// does.
func (b BackendConfig) preamble() func([]byte, *message.Request) []byte {
	v := b.proxyVersion()
	if v == 0 {
		return nil
	}
	return func(to []byte, r *message.Request) []byte {
		return proxyproto.Append(to, v, proxyproto.Header{Source: r.Peer, Destination: r.Local})
	}
}

// proxyVersion is that of the PROXY headers that the backend wants; 0: none.
func (b BackendConfig) proxyVersion() proxyproto.Version {
	switch b.ProxyProtocol {
	case proxyproto.V1.String():
		return proxyproto.V1
	case proxyproto.V2.String():
		return proxyproto.V2
	}
	return 0
}

// checkDialer opens connections for checks: they speak for the edge itself.
func (b BackendConfig) checkDialer(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, addr)
	v := b.proxyVersion()
	if err != nil || v == 0 {
		return c, err
	}
	if _, err := c.Write(proxyproto.Append(nil, v, proxyproto.Header{})); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}
