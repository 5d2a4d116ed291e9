package h3_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"anyedge/internal/message"
	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h3"
)

// A ticketCache tells of the tickets that it gets.
type ticketCache struct {
	tls.ClientSessionCache
	got chan struct{}
	one sync.Once
}

// Put keeps a ticket.
func (c *ticketCache) Put(key string, s *tls.ClientSessionState) {
	c.ClientSessionCache.Put(key, s)
	c.one.Do(func() { close(c.got) })
}

// hold starts a way to addr on which no packet comes back until it is opened.
func hold(t *testing.T, addr net.Addr) (way net.Addr, open func()) {
	t.Helper()
	front, back := listen(t), listen(t)
	opened := make(chan struct{})
	open = sync.OnceFunc(func() { close(opened) })
	var client *net.UDPAddr
	known := make(chan struct{})
	knows := sync.OnceFunc(func() { close(known) })
	var running sync.WaitGroup
	running.Go(func() {
		copyPackets(front, func(p []byte, from *net.UDPAddr) {
			if client == nil {
				client = from
			}
			knows()
			_, _ = back.WriteToUDP(p, addr.(*net.UDPAddr))
		})
	})
	running.Go(func() {
		copyPackets(back, func(p []byte, _ *net.UDPAddr) {
			<-opened
			<-known
			_, _ = front.WriteToUDP(p, client)
		})
	})
	t.Cleanup(func() {
		open()
		_ = front.Close()
		_ = back.Close()
		running.Wait()
	})
	return front.LocalAddr(), open
}

// What comes in 0-RTT may be another's copy: safe requests say so, others wait for
// the end of the handshake.
func TestEarlyData(t *testing.T) {
	server, client := enginetest.TLS(t)
	seen := make(chan string, 1)
	addr := serve(t, h3.NewServer(h3.Config{TLS: server, EarlyData: true}, message.RoundTripFunc(func(_ context.Context, r *message.Request) (*message.Response, error) {
		seen <- r.Method + " " + strings.Clone(r.Header.Joined("Early-Data"))
		return enginetest.Text(200, ""), nil
	}), enginetest.Log(t))).LocalAddr()
	cache := &ticketCache{ClientSessionCache: tls.NewLRUClientSessionCache(4), got: make(chan struct{})}
	client.ClientSessionCache, client.ServerName = cache, "edge.example"
	first := dialRaw(t, client, addr.String())
	if got := first.outcome(first.bidi(request("GET", "early-data: 1"), true)); got != "200" {
		t.Fatal(got)
	}
	if got := enginetest.Within(t, "request", seen); got != "GET 1" { // an edge before this one said so
		t.Errorf("%q after the handshake", got)
	}
	enginetest.Within(t, "a session ticket", cache.got)

	for _, tt := range []struct {
		method string
		waits  bool
		want   string
	}{{"GET", false, "GET 1"}, {"HEAD", false, "HEAD 1"}, {"POST", true, "POST "}, {"DELETE", true, "DELETE "}} {
		t.Run(tt.method, func(t *testing.T) {
			way, open := hold(t, addr)
			secure := client.Clone()
			secure.NextProtos = []string{h3.ALPN}
			q, err := quic.DialAddrEarly(t.Context(), way.String(), secure, &quic.Config{})
			if err != nil {
				t.Fatal(err)
			}
			defer q.CloseWithError(0x100, "")
			c := &rawClient{q, t}
			s := c.bidi(request(tt.method), true)
			if tt.waits {
				select {
				case got := <-seen:
					t.Errorf("%q before the end of the handshake", got)
				case <-time.After(100 * time.Millisecond): // a bound on what must not happen
				}
				open()
			}
			if got := enginetest.Within(t, "request", seen); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
			open()
			if got := c.outcome(s); got != "200" {
				t.Error(got)
			}
			if !q.ConnectionState().Used0RTT {
				t.Error("0-RTT was not used")
			}
		})
	}
}

// Unless it is wanted, nothing comes before the end of the handshake.
func TestNoEarlyData(t *testing.T) {
	server, client := enginetest.TLS(t)
	addr := serve(t, h3.NewServer(h3.Config{TLS: server}, ok, enginetest.Log(t))).LocalAddr().String()
	cache := &ticketCache{ClientSessionCache: tls.NewLRUClientSessionCache(4), got: make(chan struct{})}
	client.ClientSessionCache, client.ServerName = cache, "edge.example"
	dialRaw(t, client, addr)
	enginetest.Within(t, "a session ticket", cache.got)
	secure := client.Clone()
	secure.NextProtos = []string{h3.ALPN}
	q, err := quic.DialAddrEarly(t.Context(), addr, secure, &quic.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer q.CloseWithError(0x100, "")
	c := &rawClient{q, t}
	s := c.bidi(request("GET"), true)
	if b, err := io.ReadAll(s); err != nil || q.ConnectionState().Used0RTT {
		t.Errorf("%q, %v; 0-RTT %v", b, err, q.ConnectionState().Used0RTT)
	}
}
