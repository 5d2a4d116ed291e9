package h1_test

import (
	"crypto/tls"
	"net"
	"net/http"
	"testing"

	"anyedge/internal/message"
	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h1"
	"anyedge/proxy/wire"
)

// start serves handler in plain text and returns the address.
func start(t *testing.T, cfg h1.Config, handler message.RoundTripper) (*h1.Server, string) {
	t.Helper()
	s := h1.NewServer(cfg, handler, enginetest.Log(t))
	enginetest.Stop(t, s.Shutdown)
	return s, enginetest.Listen(t, s.ServeConn)
}

// overTLS returns the server's side of TLS on c.
func overTLS(t *testing.T, c net.Conn, cfg *tls.Config) net.Conn {
	t.Helper()
	w, err := wire.New(c.(*net.TCPConn))
	if err != nil {
		t.Error(err)
	}
	return tls.Server(w, cfg)
}

func transport(t *testing.T, tr *http.Transport) http.RoundTripper {
	t.Helper()
	tr.DisableCompression = true
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

func TestServerPlain(t *testing.T) {
	enginetest.TestServer(t, message.HTTP1, func(t *testing.T, handler message.RoundTripper) enginetest.Server {
		t.Helper()
		s, addr := start(t, h1.Config{}, handler)
		return enginetest.Server{
			URL: "http://" + addr, Shutdown: s.Shutdown,
			Client: transport(t, &http.Transport{}),
		}
	})
}

func TestServerTLS(t *testing.T) {
	enginetest.TestServer(t, message.HTTP1, func(t *testing.T, handler message.RoundTripper) enginetest.Server {
		t.Helper()
		s := h1.NewServer(h1.Config{}, handler, enginetest.Log(t))
		enginetest.Stop(t, s.Shutdown)
		server, client := enginetest.TLS(t, "http/1.1")
		addr := enginetest.Listen(t, func(c net.Conn) { s.ServeConn(overTLS(t, c, server)) })
		return enginetest.Server{
			URL: "https://" + addr, Shutdown: s.Shutdown,
			Client: transport(t, &http.Transport{TLSClientConfig: client}),
		}
	})
}

// TestRelay puts the asking side behind the answering one.
func TestRelay(t *testing.T) {
	enginetest.TestServer(t, message.HTTP1, func(t *testing.T, handler message.RoundTripper) enginetest.Server {
		t.Helper()
		_, behind := start(t, h1.Config{}, handler)
		s, addr := start(t, h1.Config{}, open(t, h1.ClientConfig{Addr: behind}))
		return enginetest.Server{
			URL: "http://" + addr, Shutdown: s.Shutdown, Local: behind,
			Client: transport(t, &http.Transport{}),
		}
	})
}
