package h2_test

import (
	"crypto/tls"
	"net"
	"net/http"
	"testing"

	"anyedge/internal/message"
	"anyedge/internal/message/nethttp/enginetest"
	"anyedge/proxy/h2"
)

// start serves handler in plain text and returns the address.
func start(t *testing.T, cfg h2.Config, handler message.RoundTripper) (*h2.Server, string) {
	t.Helper()
	s := h2.NewServer(cfg, handler, enginetest.Log(t))
	enginetest.Stop(t, s.Shutdown)
	return s, enginetest.Listen(t, s.ServeConn)
}

// transport returns a client that speaks HTTP/2 alone.
func transport(t *testing.T, client *tls.Config) http.RoundTripper {
	t.Helper()
	var protocols http.Protocols
	protocols.SetHTTP2(client != nil)
	protocols.SetUnencryptedHTTP2(client == nil)
	tr := &http.Transport{TLSClientConfig: client, Protocols: &protocols, DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

func TestServerPlain(t *testing.T) {
	enginetest.TestServer(t, message.HTTP2, func(t *testing.T, handler message.RoundTripper) enginetest.Server {
		t.Helper()
		s, addr := start(t, h2.Config{}, handler)
		return enginetest.Server{URL: "http://" + addr, Shutdown: s.Shutdown, Client: transport(t, nil)}
	})
}

func TestServerTLS(t *testing.T) {
	enginetest.TestServer(t, message.HTTP2, func(t *testing.T, handler message.RoundTripper) enginetest.Server {
		t.Helper()
		s := h2.NewServer(h2.Config{}, handler, enginetest.Log(t))
		enginetest.Stop(t, s.Shutdown)
		server, client := enginetest.TLS(t, "h2")
		addr := enginetest.Listen(t, func(c net.Conn) { s.ServeConn(tls.Server(c, server)) })
		return enginetest.Server{URL: "https://" + addr, Shutdown: s.Shutdown, Client: transport(t, client)}
	})
}

// TestRelay puts the asking side behind the answering one.
func TestRelay(t *testing.T) {
	enginetest.TestServer(t, message.HTTP2, func(t *testing.T, handler message.RoundTripper) enginetest.Server {
		t.Helper()
		_, behind := start(t, h2.Config{}, handler)
		s, addr := start(t, h2.Config{}, open(t, h2.ClientConfig{Addr: behind}))
		return enginetest.Server{
			URL: "http://" + addr, Shutdown: s.Shutdown, Local: behind,
			Client: transport(t, nil),
		}
	})
}
