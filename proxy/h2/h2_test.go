package h2_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync/atomic"
	"testing"

	"anyedge/internal/message"
	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h2"
	"anyedge/proxy/wire"
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
		addr := enginetest.Listen(t, func(c net.Conn) { s.ServeConn(overTLS(t, c, server)) })
		return enginetest.Server{URL: "https://" + addr, Shutdown: s.Shutdown, Client: transport(t, client)}
	})
}

// overTLS returns the server's side of TLS on c, as a listener makes it.
func overTLS(t *testing.T, c net.Conn, cfg *tls.Config) net.Conn {
	t.Helper()
	w, err := wire.New(c.(*net.TCPConn))
	if err != nil {
		t.Error(err)
	}
	return tls.Server(w, cfg)
}

// writes counts the writes to a connection that is none of TCP.
type writes struct {
	net.Conn
	count atomic.Int32
}

func (w *writes) Write(p []byte) (int, error) {
	w.count.Add(1)
	return w.Conn.Write(p)
}

// An answer is one write, head and content.
func TestOneWrite(t *testing.T) {
	s := h2.NewServer(h2.Config{}, message.RoundTripFunc(func(context.Context, *message.Request) (*message.Response, error) {
		return &message.Response{Status: 200, Length: 4, Body: message.Content("word")}, nil
	}), enginetest.Log(t))
	enginetest.Stop(t, s.Shutdown)
	conns := make(chan *writes, 1)
	addr := enginetest.Listen(t, func(c net.Conn) {
		w := &writes{Conn: c}
		conns <- w
		s.ServeConn(w)
	})
	p := dial(t, addr)
	ours := enginetest.Within(t, "connection", conns)
	p.must(p.request(1, true, "GET"))
	p.answer(1, false)
	before := ours.count.Load()
	for id := uint32(3); id < 23; id += 2 {
		p.must(p.request(id, true, "GET"))
		if got := p.answer(id, false); got.content != "word" {
			t.Fatalf("%+v", got)
		}
	}
	if n := ours.count.Load() - before; n != 10 {
		t.Errorf("10 answers in %d writes", n)
	}
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
