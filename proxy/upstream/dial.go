package upstream

import (
	"anyedge/internal/message"
	"anyedge/proxy/h1"
	"anyedge/proxy/h2"
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
	}), nil
}
