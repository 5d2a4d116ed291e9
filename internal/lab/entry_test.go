package lab_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"anyedge/internal/lab"
)

// A place is where an entry's connections may go: it answers every line and
// every datagram with its name and the address that it sees.
type place struct {
	name string
	site *lab.Site
	tcp  *net.TCPListener
	udp  *net.UDPConn
}

func newPlace(t *testing.T, name, addr string) *place {
	t.Helper()
	tcp, udp := listen(t, addr)
	p := &place{name: name, site: lab.NewSite(name, tcp.Addr().(*net.TCPAddr).AddrPort()), tcp: tcp, udp: udp}
	var wg sync.WaitGroup
	wg.Go(p.serveTCP)
	wg.Go(p.serveUDP)
	t.Cleanup(func() { tcp.Close(); udp.Close(); wg.Wait() })
	return p
}

// listen binds one port of addr for TCP and UDP.
func listen(t *testing.T, addr string) (tcp *net.TCPListener, udp *net.UDPConn) {
	t.Helper()
	waitFor(t, "a port that is free for TCP and UDP", func() bool {
		var err error
		if tcp, err = net.ListenTCP("tcp4", &net.TCPAddr{IP: net.ParseIP(addr)}); err != nil {
			return false
		}
		udp, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(tcp.Addr().(*net.TCPAddr).AddrPort()))
		if err != nil {
			tcp.Close()
		}
		return err == nil
	})
	return tcp, udp
}

func (p *place) serveTCP() {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c, err := p.tcp.Accept()
		if err != nil {
			return
		}
		wg.Go(func() {
			defer c.Close()
			fmt.Fprintf(c, "%s %s\n", p.name, c.RemoteAddr().(*net.TCPAddr).IP)
			_, _ = io.Copy(c, c)
		})
	}
}

func (p *place) serveUDP() {
	buf := make([]byte, 2048)
	for {
		_, from, err := p.udp.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		_, _ = p.udp.WriteToUDPAddrPort([]byte(p.name+" "+from.String()), from)
	}
}

// newEntry runs an entry whose route can be changed.
func newEntry(t *testing.T, first *lab.Site) (*lab.Entry, *atomic.Pointer[lab.Site]) {
	t.Helper()
	route := new(atomic.Pointer[lab.Site])
	route.Store(first)
	e, err := lab.NewEntry(netip.MustParseAddrPort("127.0.0.1:0"), route.Load, logger(t))
	if err != nil {
		t.Fatal(err)
	}
	start(t, e.Run)
	return e, route
}

// connect opens a TCP connection through e and returns it with its greeting.
func connect(t *testing.T, e *lab.Entry, from string) (c *net.TCPConn, place, seen string) {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := d.DialContext(t.Context(), "tcp4", e.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fscanf(conn, "%s %s\n", &place, &seen); err != nil {
		t.Fatalf("no greeting: %v", err)
	}
	return conn.(*net.TCPConn), place, seen
}

// ask sends a datagram through c and returns who answers and what it sees.
func ask(t *testing.T, c net.Conn) (place string, seen netip.AddrPort) {
	t.Helper()
	buf := make([]byte, 2048)
	waitFor(t, "an answer", func() bool {
		_, _ = c.Write([]byte("hello"))
		_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		n, err := c.Read(buf)
		if err != nil {
			return false
		}
		var addr string
		_, err = fmt.Sscanf(string(buf[:n]), "%s %s", &place, &addr)
		seen, _ = netip.ParseAddrPort(addr)
		return err == nil
	})
	return place, seen
}

func dialUDP(t *testing.T, e *lab.Entry, from string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(from)}}
	c, err := d.DialContext(t.Context(), "udp4", e.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestEntryKeepsClientAddresses(t *testing.T) {
	e, _ := newEntry(t, newPlace(t, "fra", "127.0.42.1").site)
	seen := make(map[string]bool)
	for range 3 {
		_, _, addr := connect(t, e, "127.0.0.1")
		_, from := ask(t, dialUDP(t, e, "127.0.0.1"))
		for _, a := range []string{addr, from.Addr().String()} {
			if seen[a] || a == "127.0.0.1" {
				t.Errorf("two clients look like one: %s", a)
			}
			seen[a] = true
		}
	}
	const own = "127.5.6.7"
	if _, _, addr := connect(t, e, own); addr != own {
		t.Errorf("TCP client %s is seen as %s", own, addr)
	}
	if _, from := ask(t, dialUDP(t, e, own)); from.Addr().String() != own {
		t.Errorf("UDP client %s is seen as %s", own, from)
	}
}

func TestEntryFollowsTheRouteWithNewConnectionsOnly(t *testing.T) {
	fra, iad := newPlace(t, "fra", "127.0.42.1"), newPlace(t, "iad", "127.0.42.2")
	e, route := newEntry(t, fra.site)
	tcp, first, _ := connect(t, e, "127.0.0.1")
	udp := dialUDP(t, e, "127.0.0.1")
	firstUDP, _ := ask(t, udp)
	route.Store(iad.site)
	_, second, _ := connect(t, e, "127.0.0.1")
	secondUDP, _ := ask(t, dialUDP(t, e, "127.0.0.1"))
	if first != "fra" || firstUDP != "fra" || second != "iad" || secondUDP != "iad" {
		t.Errorf("before: %s, %s; after: %s, %s", first, firstUDP, second, secondUDP)
	}
	if who, _ := ask(t, udp); who != "fra" {
		t.Errorf("an established flow moved to %s", who)
	}
	echo(t, tcp, 1<<20)
}

// echo sends n bytes through c and wants them back.
func echo(t *testing.T, c *net.TCPConn, n int) {
	t.Helper()
	sent := make([]byte, n)
	_, _ = rand.Read(sent)
	go func() {
		_, _ = c.Write(sent)
		_ = c.CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("sent %d bytes, got %d back: %v", n, len(got), err)
	}
}

func TestEntryResetsConnectionsOfTheDead(t *testing.T) {
	fra, iad := newPlace(t, "fra", "127.0.42.1"), newPlace(t, "iad", "127.0.42.2")
	e, route := newEntry(t, fra.site)
	tcp, _, _ := connect(t, e, "127.0.0.1")
	udp := dialUDP(t, e, "127.0.0.1")
	_, before := ask(t, udp)
	route.Store(iad.site)
	fra.site.Die()
	if _, err := tcp.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("TCP ended with %v, want a reset", err)
	}
	who, after := ask(t, udp)
	if who != "iad" || after != before {
		t.Errorf("the flow went to %s from %s, want iad from %s as before", who, after, before)
	}
}

func TestEntryRefuses(t *testing.T) {
	gone := newPlace(t, "gone", "127.0.42.3")
	gone.tcp.Close()
	for _, test := range []struct {
		name string
		site *lab.Site
	}{{"without a route", nil}, {"when nobody listens there", gone.site}} {
		t.Run(test.name, func(t *testing.T) {
			e, _ := newEntry(t, test.site)
			c, err := net.Dial("tcp4", e.Addr().String())
			if err == nil {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(patience))
				_, err = c.Read(make([]byte, 1))
			}
			if !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("got %v, want a reset", err)
			}
		})
	}
}

func TestEntryPassesOnHowAConnectionEnds(t *testing.T) {
	ends := make(chan net.Conn, 2)
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.ParseIP("127.0.42.4")})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			ends <- c
		}
	}()
	e, _ := newEntry(t, lab.NewSite("fra", l.Addr().(*net.TCPAddr).AddrPort()))
	for _, test := range []struct {
		name string
		end  func(*net.TCPConn)
		want error
	}{
		{"closed", func(c *net.TCPConn) { c.Close() }, io.EOF},
		{"reset", func(c *net.TCPConn) { _ = c.SetLinger(0); c.Close() }, syscall.ECONNRESET},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := net.Dial("tcp4", e.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			test.end((<-ends).(*net.TCPConn))
			_ = c.SetDeadline(time.Now().Add(patience))
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

func TestEntryAddressInUse(t *testing.T) {
	e, _ := newEntry(t, nil)
	_, err := lab.NewEntry(e.Addr(), func() *lab.Site { return nil }, logger(t))
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("got %v, want that the address is in use", err)
	}
}

func TestSiteDiesOnce(t *testing.T) {
	s := lab.NewSite("fra", netip.AddrPort{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-s.Gone(); cancel() }()
	s.Die()
	s.Die()
	<-ctx.Done()
}
