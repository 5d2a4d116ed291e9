package h3_test

import (
	"context"
	"net"
	"testing"

	"github.com/quic-go/quic-go/http3"

	"anyedge/internal/message"
	"anyedge/internal/message/nethttp/enginetest"
	"anyedge/proxy/h3"
)

// listen returns a loopback socket that the test closes.
func listen(t *testing.T) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// serve runs a server until the test ends and returns its address.
func serve(t *testing.T, s *h3.Server) *net.UDPConn {
	t.Helper()
	socket := listen(t)
	served := make(chan error, 1)
	go func() { served <- s.Serve(socket) }()
	enginetest.Stop(t, func(ctx context.Context) error {
		err := s.Shutdown(ctx)
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
		return err
	})
	return socket
}

func TestServer(t *testing.T) {
	enginetest.TestServer(t, message.HTTP3, func(t *testing.T, handler message.RoundTripper) enginetest.Server {
		t.Helper()
		server, client := enginetest.TLS(t)
		s := h3.NewServer(h3.Config{TLS: server}, handler, enginetest.Log(t))
		socket := serve(t, s)
		tr := &http3.Transport{TLSClientConfig: client, DisableCompression: true}
		t.Cleanup(func() { _ = tr.Close() })
		return enginetest.Server{URL: "https://" + socket.LocalAddr().String(), Shutdown: s.Shutdown, Client: tr}
	})
}
