package h3_test

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"testing"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"anyedge/internal/message"
	"anyedge/internal/message/enginetest"
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

// transport returns a client that is closed when the test ends.
func transport(t *testing.T, client *tls.Config) *http3.Transport {
	t.Helper()
	tr := &http3.Transport{TLSClientConfig: client, DisableCompression: true}
	t.Cleanup(func() { _ = tr.Close() })
	return tr
}

func TestServer(t *testing.T) {
	enginetest.TestServer(t, message.HTTP3, func(t *testing.T, handler message.RoundTripper) enginetest.Server {
		t.Helper()
		server, client := enginetest.TLS(t)
		s := h3.NewServer(h3.Config{TLS: server}, handler, enginetest.Log(t))
		socket := serve(t, s)
		return enginetest.Server{
			URL: "https://" + socket.LocalAddr().String(), Shutdown: s.Shutdown, Client: transport(t, client),
		}
	})
}

// A dialer is the asking side of HTTP/3, with a connection that it dials when it is
// first asked.
type dialer struct {
	tls  *tls.Config
	addr string

	mu     sync.Mutex
	client *h3.Client
	quic   *quic.Conn
	ended  chan struct{}
}

// between returns the asking side of HTTP/3 as the fabric has it.
func between(t *testing.T, client *tls.Config, addr net.Addr) *dialer {
	t.Helper()
	d := &dialer{tls: client.Clone(), addr: addr.String(), ended: make(chan struct{})}
	d.tls.NextProtos = []string{h3.ALPN}
	t.Cleanup(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.quic != nil {
			_ = d.quic.CloseWithError(0x100, "")
			<-d.ended
		}
	})
	return d
}

func (d *dialer) open(ctx context.Context) (*h3.Client, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.client != nil {
		return d.client, nil
	}
	q, err := quic.DialAddr(ctx, d.addr, d.tls, &quic.Config{})
	if err != nil {
		return nil, &message.TryError{Sent: message.NothingSent, To: d.addr, Err: err}
	}
	if d.client, err = h3.NewClient(q, h3.ClientConfig{To: d.addr}); err != nil {
		return nil, err
	}
	d.quic = q
	go func() {
		defer close(d.ended)
		var serving sync.WaitGroup
		defer serving.Wait()
		for {
			u, err := q.AcceptUniStream(context.Background())
			if err != nil {
				return
			}
			serving.Go(func() { d.client.ServeUniStream(u) })
		}
	}()
	return d.client, nil
}

// RoundTrip asks.
func (d *dialer) RoundTrip(ctx context.Context, r *message.Request) (*message.Response, error) {
	c, err := d.open(ctx)
	if err != nil {
		return nil, err
	}
	return c.RoundTrip(ctx, r)
}

// TestRelay puts an asking side behind the answering one.
func TestRelay(t *testing.T) {
	enginetest.TestServer(t, message.HTTP3, func(t *testing.T, handler message.RoundTripper) enginetest.Server {
		t.Helper()
		server, client := enginetest.TLS(t)
		behind := serve(t, h3.NewServer(h3.Config{TLS: server}, handler, enginetest.Log(t))).LocalAddr()
		s := h3.NewServer(h3.Config{TLS: server}, between(t, client, behind), enginetest.Log(t))
		front := serve(t, s).LocalAddr()
		return enginetest.Server{
			URL: "https://" + front.String(), Shutdown: s.Shutdown, Client: transport(t, client), Local: behind.String(),
		}
	})
}
