package h2_test

import (
	"testing"

	"anyedge/internal/message"
	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h2"
)

// open returns a client that is closed when the test ends.
func open(t *testing.T, cfg h2.ClientConfig) *h2.Client {
	t.Helper()
	c := h2.NewClient(cfg)
	t.Cleanup(c.Close)
	return c
}

func TestClient(t *testing.T) {
	enginetest.TestClient(t, message.HTTP2, func(t *testing.T, addr string) message.RoundTripper {
		t.Helper()
		return open(t, h2.ClientConfig{Addr: addr})
	})
}
