package proxy_test

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"anyedge/proxy"
)

// refused returns how often a listener refused something by a rule.
func (e *edge) refused(listener string, rule proxy.Rule) int {
	for _, l := range e.Listeners() {
		for _, r := range l.Refused {
			if l.Name == listener && r.Rule == rule {
				return int(r.Count)
			}
		}
	}
	for _, r := range e.Refused() {
		if r.Listener == listener && r.Rule == rule {
			return int(r.Count)
		}
	}
	return -1
}

// connections returns how many a listener has.
func (e *edge) connections(listener string) int {
	for _, l := range e.Listeners() {
		if l.Name == listener {
			return l.Connections
		}
	}
	return -1
}

// dialFrom connects from an address of the loopback net.
func dialFrom(t *testing.T, from, to string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.DialContext(t.Context(), "tcp", to)
	switch {
	case errors.Is(err, syscall.ECONNRESET): // refused so soon
		var far net.Conn
		c, far = net.Pipe()
		_ = far.Close()
	case err != nil:
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

// asked sends a request on c and returns what the backend saw; nil: no answer.
func asked(t *testing.T, c net.Conn) *echoed {
	t.Helper()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n"); err != nil {
		return nil
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	var e echoed
	if err := json.NewDecoder(resp.Body).Decode(&e); err != nil {
		t.Fatal(err)
	}
	return &e
}

// proxied starts an edge that takes PROXY headers from 127.0.0.2.
func proxied(t *testing.T, mode string) *edge {
	t.Helper()
	h, s := plain("http"), secure("https")
	for _, l := range []*proxy.Listener{&h, &s} {
		l.Config.ProxyProtocol = mode
		l.Config.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}
		l.Config.Protocols = []string{"h1"}
	}
	return start(t, proxy.Setup{Listeners: []proxy.Listener{h, s}, Services: []proxy.ServiceConfig{shop(backend(t, echo).URL)}})
}

const (
	line    = "PROXY TCP4 192.0.2.7 203.0.113.1 4000 443\r\n"
	binary  = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x08\xcb\x00\x71\x01\x0f\xa0\x01\xbb"
	binary6 = "\r\n\r\n\x00\r\nQUIT\n\x21\x21\x00\x24\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x0f\xa0\x01\xbb"
	local   = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
)

// Whose connection it is, as the PROXY header of a listed peer says.
func TestProxyHeader(t *testing.T) {
	for _, tt := range []struct {
		name, mode, from, header string
		client                   string // "": refused
	}{
		{"v1", "accept", "127.0.0.2", line, "192.0.2.7"},
		{"v2", "accept", "127.0.0.2", binary, "192.0.2.8"},
		{"v2 IPv6", "accept", "127.0.0.2", binary6, "2001:db8::1"},
		{"v2 local", "accept", "127.0.0.2", local, "127.0.0.2"},
		{"v1 unknown", "accept", "127.0.0.2", "PROXY UNKNOWN\r\n", "127.0.0.2"},
		{"v1, required", "require", "127.0.0.2", line, "192.0.2.7"},
		{"none from a listed peer", "accept", "127.0.0.2", "", ""},
		{"none from another", "accept", "127.0.0.1", "", "127.0.0.1"},
		{"none from another, required", "require", "127.0.0.1", "", ""},
		{"from another, required", "require", "127.0.0.1", line, ""},
		{"broken", "accept", "127.0.0.2", "PROXY TCP4 192.0.2.7 203.0.113.1 04000 443\r\n", ""},
		{"off", "off", "127.0.0.2", "", "127.0.0.2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := proxied(t, tt.mode)
			for _, listener := range []string{"http", "https"} {
				c := dialFrom(t, tt.from, e.addr(listener))
				_, _ = io.WriteString(c, tt.header)
				if listener == "https" {
					c = tls.Client(c, &tls.Config{InsecureSkipVerify: true, ServerName: "shop.example"})
				}
				got := asked(t, c)
				switch {
				case tt.client == "" && got != nil:
					t.Errorf("%s: answered: %v", listener, got)
				case tt.client == "":
					waitFor(t, "the count", func() bool { return e.refused(listener, proxy.RuleProxyHeader) == 1 })
				case got == nil:
					t.Errorf("%s: no answer", listener)
				case got.Header.Get("X-Forwarded-For") != tt.client:
					t.Errorf("%s: client %q, want %q", listener, got.Header.Get("X-Forwarded-For"), tt.client)
				}
				_ = c.Close()
				waitFor(t, "the connection to be forgotten", func() bool { return e.connections(listener) == 0 })
			}
		})
	}
}

// A PROXY header that another than the listed peers sends is no request.
func TestProxyHeaderFromAnybody(t *testing.T) {
	e := proxied(t, "accept")
	c := dialFrom(t, "127.0.0.1", e.addr("http"))
	_, _ = io.WriteString(c, line+"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 400 {
		t.Errorf("status %d, want 400", resp.StatusCode)
	}
}

// A peer that sends nothing, or a bit of a header, is left after its time.
func TestProxyHeaderLate(t *testing.T) {
	h := plain("http")
	h.Config.ProxyProtocol, h.Config.TrustedProxies = "require", []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	h.Config.Limits.HandshakeTimeout = new(50 * time.Millisecond)
	e := start(t, proxy.Setup{Listeners: []proxy.Listener{h}})
	for _, begin := range []string{"", "PROXY TCP4 192", line[:len(line)-1], binary[:20]} {
		c := dialFrom(t, "127.0.0.1", e.addr("http"))
		_, _ = io.WriteString(c, begin)
		if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("after %q: read %d bytes, %v", begin, n, err)
		}
	}
	waitFor(t, "four counts", func() bool { return e.refused("http", proxy.RuleArrival) == 4 && e.connections("http") == 0 })
}

// wasReset reports whether the peer ended c without a byte.
func wasReset(c net.Conn) bool {
	n, err := c.Read(make([]byte, 1))
	return n == 0 && (errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF))
}

// conns_per_ip: a client has no more connections than that, before TLS; others
// do not notice, and a PROXY header's client is the one who counts.
func TestConnectionsPerClient(t *testing.T) {
	for _, listener := range []string{"http", "https"} {
		t.Run(listener, func(t *testing.T) {
			l := plain("http")
			if listener == "https" {
				l = secure("https")
			}
			l.Config.Limits.ConnsPerIP = new(3)
			l.Config.ProxyProtocol, l.Config.TrustedProxies = "accept", []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}
			e := start(t, proxy.Setup{Listeners: []proxy.Listener{l}})
			var first net.Conn
			for i := range 3 {
				c := dialFrom(t, "127.0.0.1", e.addr(listener))
				if i == 0 {
					first = c
				}
			}
			waitFor(t, "three connections", func() bool { return e.connections(listener) == 3 })
			if c := dialFrom(t, "127.0.0.1", e.addr(listener)); !wasReset(c) {
				t.Error("a fourth connection of one client stays")
			}
			for i := range 4 {
				if got := e.refused(listener, proxy.RuleClientConnections); got != 1 {
					t.Errorf("%d refused, want 1", got)
				}
				dialFrom(t, fmt.Sprintf("127.0.1.%d", i), e.addr(listener))
			}
			waitFor(t, "other clients' connections", func() bool { return e.connections(listener) == 7 })
			for i := range 4 {
				c := dialFrom(t, "127.0.0.2", e.addr(listener))
				_, _ = io.WriteString(c, strings.Replace(line, "192.0.2.7", "127.0.0.1", 1))
				if !wasReset(c) {
					t.Errorf("connection %d through a proxy does not count", i)
				}
			}
			if got := e.refused(listener, proxy.RuleClientConnections); got != 5 {
				t.Errorf("%d refused, want 5", got)
			}
			_ = first.Close()
			if listener == "http" { // the engine reads it
				waitFor(t, "the first to be forgotten", func() bool { return e.connections(listener) == 6 })
				c := dialFrom(t, "127.0.0.1", e.addr(listener))
				_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
				if _, err := io.ReadAll(c); err != nil {
					t.Errorf("no answer in the place of one that left: %v", err)
				}
			}
		})
	}
}

// conns_per_ip counts QUIC connections too; from half of it on, clients prove
// their addresses.
func TestQUICConnectionsPerClient(t *testing.T) {
	l := secure("https")
	l.Config.Limits.ConnsPerIP = new(3)
	e := start(t, proxy.Setup{Listeners: []proxy.Listener{l}})
	get := func(c *http.Client) error {
		r, err := http.NewRequestWithContext(t.Context(), "OPTIONS", "https://"+e.addr("https")+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(r)
		if err == nil {
			_ = resp.Body.Close()
		}
		return err
	}
	var first *http.Client
	for i := range 3 {
		c := e.http3Client(t)
		if err := get(c); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		if i == 0 {
			first = c
		}
	}
	if err := get(e.http3Client(t)); err == nil {
		t.Error("a fourth connection of one client is served")
	}
	if n := e.refused("https", proxy.RuleClientConnections); n == 0 || e.connections("https") != 3 {
		t.Errorf("%d refused, %d connections", n, e.connections("https"))
	}
	first.CloseIdleConnections()
	waitFor(t, "room", func() bool { return get(e.http3Client(t)) == nil })
}

// limits.connections: the listener takes no more.
func TestConnections(t *testing.T) {
	l := plain("http")
	l.Config.Limits.Connections = new(5)
	e := start(t, proxy.Setup{Listeners: []proxy.Listener{l}})
	for range 5 {
		dialFrom(t, "127.0.0.1", e.addr("http"))
	}
	waitFor(t, "five connections", func() bool { return e.connections("http") == 5 })
	if !wasReset(dialFrom(t, "127.0.0.4", e.addr("http"))) || e.refused("http", proxy.RuleConnections) != 1 {
		t.Error("a sixth connection stays")
	}
}

// Connections that never speak hold little, and those that do are served.
func TestSilentConnections(t *testing.T) {
	const silent, most = 2000, 200
	l := secure("https")
	l.Config.Limits.Handshakes = new(most)
	e := start(t, proxy.Setup{Listeners: []proxy.Listener{l}, Services: []proxy.ServiceConfig{shop(backend(t, says("here")).URL)}})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	routines := runtime.NumGoroutine()
	for i := range silent {
		dialFrom(t, "127.0.0.1", e.addr("https"))
		if i%500 == 0 {
			if got := e.get(t, "https://shop.example/"); got.Body != "here" {
				t.Errorf("after %d silent connections: %d %q", i, got.Status, got.Body)
			}
		}
	}
	waitFor(t, "the oldest to make room", func() bool { return e.refused("https", proxy.RuleHandshakes) >= silent-most-10 })
	if got := e.get(t, "https://shop.example/"); got.Body != "here" {
		t.Errorf("got %d %q", got.Status, got.Body)
	}
	waitFor(t, "connections that made room to be forgotten", func() bool { return e.connections("https") <= most+20 })
	runtime.ReadMemStats(&after)
	// The test's own half of 2,000 connections is in it.
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 32<<20 {
		t.Errorf("the heap has grown by %d MiB", grown>>20)
	}
	if more := runtime.NumGoroutine() - routines; more > 2*most+50 {
		t.Errorf("%d goroutines more", more)
	}
}

// What goes wrong in a handshake is counted by its kind.
func TestHandshakesByKind(t *testing.T) {
	l := secure("https")
	l.Config.Limits.HandshakeTimeout = new(time.Second)
	e := start(t, proxy.Setup{Listeners: []proxy.Listener{l}})
	client := func(c *tls.Config) func(net.Conn) {
		c.ServerName = "shop.example"
		return func(nc net.Conn) { _ = tls.Client(nc, c).HandshakeContext(t.Context()) }
	}
	for _, tt := range []struct {
		rule proxy.Rule
		do   func(net.Conn)
	}{
		{proxy.RuleNotTLS, func(c net.Conn) { _, _ = io.WriteString(c, "GET / HTTP/1.1\r\n\r\n"); _, _ = io.ReadAll(c) }},
		{proxy.RuleGone, func(net.Conn) {}},
		{proxy.RuleArrival, func(c net.Conn) { _, _ = io.ReadAll(c) }},
		{proxy.RuleAlert, client(&tls.Config{})},
		{proxy.RuleVersion, client(&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11, InsecureSkipVerify: true})},
		{proxy.RuleCipher, client(&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA}, InsecureSkipVerify: true})},
		{proxy.RuleALPN, client(&tls.Config{NextProtos: []string{"smtp"}, InsecureSkipVerify: true})},
	} {
		t.Run(string(tt.rule), func(t *testing.T) {
			c := dialFrom(t, "127.0.0.1", e.addr("https"))
			tt.do(c)
			_ = c.Close()
			waitFor(t, "the count", func() bool { return e.refused("https", tt.rule) == 1 })
		})
	}
	waitFor(t, "all to be forgotten", func() bool { return e.connections("https") == 0 })
}

// A listener that could mean two things is none.
func TestListenerRefuses(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	for _, tt := range []struct {
		name string
		edit func(*proxy.ListenerConfig)
		want string
	}{
		{"mode", func(c *proxy.ListenerConfig) { c.ProxyProtocol = "maybe" }, "want off, accept or require"},
		{"nobody trusted", func(c *proxy.ListenerConfig) { c.ProxyProtocol = "accept" }, "trusted_proxies, which is empty"},
		{"h3", func(c *proxy.ListenerConfig) { c.ProxyProtocol, c.TrustedProxies = "require", trusted }, "QUIC has no PROXY header"},
		{"connections", func(c *proxy.ListenerConfig) { c.Limits.Connections = new(0) }, "connections: 0 is below 1"},
		{"per client", func(c *proxy.ListenerConfig) { c.Limits.ConnsPerIP = new(-1) }, "conns_per_ip: -1 is below 0"},
		{"time", func(c *proxy.ListenerConfig) { c.Limits.HandshakeTimeout = new(time.Duration(0)) }, "handshake_timeout: must be above 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := secure("https")
			tt.edit(&l.Config)
			_, err := try(t, proxy.Setup{Listeners: []proxy.Listener{l}})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q in it", err, tt.want)
			}
		})
	}
}
