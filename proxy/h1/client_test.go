package h1_test

import (
	"testing"

	"anyedge/internal/message"
	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h1"
)

// open returns a client that is closed when the test ends.
func open(t *testing.T, cfg h1.ClientConfig) *h1.Client {
	t.Helper()
	c := h1.NewClient(cfg)
	t.Cleanup(c.Close)
	return c
}

func TestClient(t *testing.T) {
	enginetest.TestClient(t, message.HTTP1, func(t *testing.T, addr string) message.RoundTripper {
		t.Helper()
		return open(t, h1.ClientConfig{Addr: addr})
	})
}
