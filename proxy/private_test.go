package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"anyedge/internal/message"
	"anyedge/internal/steering"
	"anyedge/proxy"
	"anyedge/replay"
)

// private is a listener for the apps of the edge's geo.
func private(protocols ...string) proxy.Listener {
	return proxy.Listener{Config: proxy.ListenerConfig{Name: "calls", Private: true, Protocols: protocols}, Addresses: loopback()}
}

// callable runs three geos whose edges have a private listener.
func callable(t *testing.T, h http.HandlerFunc) *fleet {
	t.Helper()
	f := newFleet("fra", "iad", "nrt")
	for _, geo := range f.order {
		hidden := shop(backend(t, h).URL)
		hidden.Name, hidden.Hosts, hidden.Listeners = "hidden", []string{"hidden.example"}, []string{"https"}
		f.start(t, geo, proxy.Setup{
			Services:  []proxy.ServiceConfig{shop(backend(t, h).URL), hidden},
			Listeners: []proxy.Listener{secure("https"), plain("http"), private()},
		})
	}
	for _, geo := range f.order {
		f.plan(geo, steering.ShedPlan{})
	}
	return f
}

// call sends a request with that host to the private listener.
func (e *edge) call(t *testing.T, method, host, target string, body io.Reader, fields ...string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+e.addr("calls")+target, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	for i := 0; i < len(fields); i += 2 {
		r.Header.Add(fields[i], fields[i+1])
	}
	return e.send(t, r)
}

// An app reaches a service by name: the instances of its own geo, or those of
// the geo that the host names.
func TestCalls(t *testing.T) {
	f := callable(t, instructing)
	fra := f.edges["fra"]
	for _, tt := range []struct {
		name, host, target string
		status             int
		body               string // all of it when status is 200, else a part
		code               string // Replay-Geo-Error
		hops               []string
	}{
		{"a service", "shop.internal", "/", 200, "fra GET 0", "", nil},
		{"this geo by name", "fra.shop.internal", "/", 200, "fra GET 0", "", nil},
		{"another geo", "nrt.shop.internal", "/any/path?q", 200, "nrt GET 0", "", []string{"replay fra>nrt"}},
		{"spelled otherwise", "NRT.Shop.INTERNAL.:8080", "/", 200, "nrt GET 0", "", []string{"replay fra>nrt"}},
		{"an app here asks for a replay", "shop.internal", "/?at=fra&to=nrt", 200, "nrt GET 0", "", []string{"replay fra>nrt"}},
		{"the app there asks for one", "nrt.shop.internal", "/?at=nrt&to=iad", 200, "iad GET 0", "", []string{"replay fra>nrt", "replay fra>iad"}},
		{"back to this geo", "nrt.shop.internal", "/?at=nrt&to=fra", 200, "fra GET 0", "", []string{"replay fra>nrt"}},
		{"there to itself", "nrt.shop.internal", "/?at=nrt&to=nrt", 508, "", "loop", []string{"replay fra>nrt"}},
		{"one hop too many", "nrt.shop.internal", "/?at=nrt,iad&to=iad,fra", 508, "2 of 2", "loop", []string{"replay fra>nrt", "replay fra>iad"}},

		{"unknown service", "shpo.internal", "/", 404, `"shpo.internal": no service here`, "", nil},
		{"unknown service there", "nrt.shpo.internal", "/", 404, "no service here", "", nil},
		{"unknown geo", "syd.shop.internal", "/", 404, `"syd.shop.internal": no geo`, "", nil},
		{"deeper", "a.nrt.shop.internal", "/", 404, "no service here", "", nil},
		{"a service of other listeners", "nrt.hidden.internal", "/", 404, "no service here", "", nil},
		{"the zone alone", "internal", "/", 421, "takes SERVICE.internal and GEO.SERVICE.internal", "", nil},
		{"nothing before it", ".internal", "/", 400, "", "", nil},
		{"a service's own host", "shop.example", "/", 421, "SERVICE.internal", "", nil},
		{"a zone that ends alike", "nrt.shop.notinternal", "/", 421, "SERVICE.internal", "", nil},
		{"an address", "127.0.0.1", "/", 421, "SERVICE.internal", "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := len(f.taken())
			got := fra.call(t, "GET", tt.host, tt.target, nil)
			if got.Status != tt.status || got.Status == 200 && got.Body != tt.body || !strings.Contains(got.Body, tt.body) || got.Header.Get("Replay-Geo-Error") != tt.code {
				t.Errorf("got %d %q, Replay-Geo-Error %q", got.Status, got.Body, got.Header.Get("Replay-Geo-Error"))
			}
			if hops := f.taken()[before:]; !slices.Equal(hops, tt.hops) {
				t.Errorf("hops %q, want %q", hops, tt.hops)
			}
			for name := range got.Header {
				if strings.HasPrefix(name, "Replay-") && name != "Replay-Geo-Error" {
					t.Errorf("the app sees %s", name)
				}
			}
		})
	}
}

// The app there gets the request as the one here sent it, and learns who sent
// it on; what the sender claims of edges is removed.
func TestCallProvenance(t *testing.T) {
	f := callable(t, echo)
	content := strings.Repeat("x", 64<<10)
	got := f.edges["fra"].call(t, "PUT", "nrt.shop.internal", "/a%2fb?c", strings.NewReader(content),
		"Edge-Hop", "shed", "Edge-Visited", "nrt", "Edge-Service", "hidden", "Edge-Client", "192.0.2.1:1",
		"Replay-Geo-Src", "geo=iad", "X-Kept", "yes")
	if got.Status != 200 || got.Header.Get("Edge-Geo") != "nrt" || got.Header.Get("Edge-Entry") != "fra" {
		t.Fatalf("got %d %v %s", got.Status, got.Header, got.Body)
	}
	e := decode(t, got.Body)
	if e.Method != "PUT" || e.Target != "/a%2fb?c" || e.Host != "nrt.shop.internal" || e.Body != content || e.Header.Get("X-Kept") != "yes" {
		t.Errorf("nrt's app got %s %s %s, %d bytes, %v", e.Method, e.Target, e.Host, len(e.Body), e.Header)
	}
	for name := range e.Header {
		if strings.HasPrefix(name, "Edge-") && name != "Edge-Geo" {
			t.Errorf("nrt's app sees %s: %q", name, e.Header[name])
		}
	}
	src, err := replay.Verify(replay.NewSigner([32]byte{7}).Public(), e.Header.Get("Replay-Geo-Src"))
	if err != nil || src.Geo != "fra" || src.Node != "fra-edge1" || len(src.Hops) != 0 {
		t.Errorf("Replay-Geo-Src %q: %+v, %v", e.Header.Get("Replay-Geo-Src"), src, err)
	}
	if e.Header.Get("X-Forwarded-For") != "127.0.0.1" || e.Header.Get("X-Forwarded-Proto") != "http" {
		t.Errorf("X-Forwarded-For %q", e.Header.Get("X-Forwarded-For"))
	}
}

// A call is served where it says or not at all: it is neither shed nor does it
// fail over, here or there.
func TestCallStays(t *testing.T) {
	f := callable(t, says("served"))
	fra := f.edges["fra"]
	f.plan("fra", all("iad"))
	f.plan("nrt", all("iad"))
	f.plan("iad", takes(100))
	for host, want := range map[string]string{"shop.internal": "fra", "fra.shop.internal": "fra", "nrt.shop.internal": "nrt"} {
		for range 20 {
			got := fra.call(t, "GET", host, "/", nil)
			if got.Status != 200 || got.Header.Get("Edge-Geo") != want {
				t.Fatalf("%s: %d by %s", host, got.Status, got.Header.Get("Edge-Geo"))
			}
		}
	}
	for _, hop := range f.taken() {
		if hop != "replay fra>nrt" {
			t.Fatalf("a call moved: %s", hop)
		}
	}
	if got := fra.get(t, "http://shop.example/"); got.Header.Get("Edge-Geo") != "iad" {
		t.Errorf("a client's request was not shed: by %s", got.Header.Get("Edge-Geo"))
	}

	t.Run("no backend here", func(t *testing.T) {
		f := newFleet("fra", "iad")
		f.start(t, "iad", proxy.Setup{Services: []proxy.ServiceConfig{shop(backend(t, says("served")).URL)}})
		f.start(t, "fra", proxy.Setup{Services: []proxy.ServiceConfig{shop("http://127.0.0.1:1")}, Listeners: []proxy.Listener{private(), plain("http")}})
		f.plan("fra", steering.ShedPlan{})
		if got := f.edges["fra"].get(t, "http://shop.example/"); got.Status != 200 || got.Header.Get("Edge-Geo") != "iad" {
			t.Errorf("a client's request: %d by %s", got.Status, got.Header.Get("Edge-Geo"))
		}
		got := f.edges["fra"].call(t, "GET", "shop.internal", "/", nil)
		if got.Status != 503 || got.Header.Get("Retry-After") == "" || got.Header.Get("Edge-Geo") != "fra" {
			t.Errorf("a call: %d %v %s", got.Status, got.Header, got.Body)
		}
		if got := f.edges["fra"].call(t, "GET", "iad.shop.internal", "/", nil); got.Status != 200 || got.Body != "served" {
			t.Errorf("a call of iad: %d %s", got.Status, got.Body)
		}
	})
}

// A geo that cannot take a call is named in the answer.
func TestCallOfAGeoThatIsNotWell(t *testing.T) {
	f := callable(t, says("served"))
	fra := f.edges["fra"]
	refused := func(what, text string) {
		t.Helper()
		got := fra.call(t, "POST", "nrt.shop.internal", "/", strings.NewReader("x"))
		if got.Status != 503 || got.Header.Get("Replay-Geo-Error") != "no-candidate" || got.Header.Get("Retry-After") == "" || !strings.Contains(got.Body, text) {
			t.Errorf("%s: %d %v %q", what, got.Status, got.Header, got.Body)
		}
	}
	f.mu.Lock()
	f.intercept = func(string, *message.Request) (*message.Response, error) {
		return &message.Response{Status: 503, Header: message.Header{{Name: "Edge-Busy", Value: "no-room"}}}, nil
	}
	f.mu.Unlock()
	refused("busy", "busy: no-room")
	f.mu.Lock()
	f.intercept = nil
	f.cut["nrt"] = true
	f.mu.Unlock()
	refused("cut off", "nrt: unreachable")
	f.mu.Lock()
	f.cut["nrt"] = false
	f.mu.Unlock()
	f.without(t, "nrt")
	refused("without backends", "nrt: no healthy backend")
}

// On a public listener such a host is a host like any other: no client gets
// into a geo of its choice.
func TestPublicListenersTakeNoCalls(t *testing.T) {
	f := newFleet("fra", "nrt")
	every := shop(backend(t, says("served")).URL)
	every.Hosts = []string{"*"}
	f.start(t, "nrt", proxy.Setup{Services: []proxy.ServiceConfig{every}})
	only := shop(backend(t, says("served")).URL)
	fra := f.start(t, "fra", proxy.Setup{Services: []proxy.ServiceConfig{only}, Listeners: []proxy.Listener{secure("https"), plain("http"), private()}})
	f.plan("fra", steering.ShedPlan{})
	for _, host := range []string{"nrt.shop.internal", "fra.shop.internal", "shop.internal"} {
		for url, want := range map[string]int{"http://shop.example/": 404, "https://shop.example/": 421} {
			if got := fra.get(t, url, "Host", host); got.Status != want {
				t.Errorf("%s at %s: %d by %s", host, url, got.Status, got.Header.Get("Edge-Geo"))
			}
		}
	}
	f.start(t, "fra", proxy.Setup{Services: []proxy.ServiceConfig{every}})
	f.plan("fra", steering.ShedPlan{})
	if got := f.edges["fra"].get(t, "http://shop.example/", "Host", "nrt.shop.internal"); got.Status != 200 || got.Header.Get("Edge-Geo") != "fra" {
		t.Errorf("a service of every host: %d by %s", got.Status, got.Header.Get("Edge-Geo"))
	}
	if hops := f.taken(); len(hops) != 0 {
		t.Errorf("hops %q", hops)
	}
}

// A service whose backend is the private listener goes round in a circle that
// has an end, and so do apps that send their requests on to each other.
func TestCallsInACircle(t *testing.T) {
	port := freePort(t)
	calls := private()
	calls.Addresses = []netip.AddrPort{port}
	circle := proxy.ServiceConfig{Name: "shop", Hosts: []string{"*"}}
	circle.Backends = shop("http://" + port.String()).Backends
	e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{circle}, Listeners: []proxy.Listener{calls}})
	got := e.call(t, "GET", "shop.internal", "/", nil)
	if got.Status != 508 || !strings.Contains(got.Body, "at 8 edges") {
		t.Errorf("got %d %q", got.Status, got.Body)
	}
	if n := len(e.log.requests()); n > 9 {
		t.Errorf("%d requests", n)
	}
}

func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// Strangers are turned away, whatever protocol they speak.
func TestCallsOfStrangers(t *testing.T) {
	calls := private()
	e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{shop(backend(t, says("served")).URL)}, Listeners: []proxy.Listener{calls}})
	for peer, want := range map[string]int{
		"127.0.0.1:1": 200, "10.1.2.3:1": 200, "192.168.0.1:1": 200, "[fd00::1]:1": 200, "[fe80::1%eth0]:1": 200, "[::ffff:10.0.0.1]:1": 200,
		"198.51.100.1:1": 403, "[2001:db8::1]:1": 403, "100.64.0.1:1": 403, "[::ffff:198.51.100.1]:1": 403,
	} {
		resp, err := e.ServeThrough(t.Context(), "calls", &message.Request{
			Version: message.HTTP1, Method: "GET", Scheme: "http", Authority: "shop.internal", Target: "/",
			Peer: netip.MustParseAddrPort(peer), Header: message.Header{{Name: "X-Forwarded-For", Value: "10.0.0.1"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if resp.Close(); resp.Status != want {
			t.Errorf("from %s: %d, want %d", peer, resp.Status, want)
		}
	}
}

// A WebSocket goes to the geo that the host names, end to end.
func TestCallUpgrades(t *testing.T) {
	f := callable(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" {
			w.WriteHeader(400)
			return
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Where: %s\r\n\r\n", r.Header.Get("Edge-Geo"))
		_ = rw.Flush()
		line, _ := rw.ReadString('\n')
		_, _ = io.WriteString(conn, "echo "+line)
	})
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", f.edges["fra"].addr("calls"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(conn, "GET /ws HTTP/1.1\r\nHost: nrt.shop.internal\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 101 || resp.Header.Get("X-Where") != "nrt" {
		t.Fatalf("%+v, %v", resp, err)
	}
	_, _ = io.WriteString(conn, "hello\n")
	if line, err := r.ReadString('\n'); line != "echo hello\n" {
		t.Errorf("%q, %v", line, err)
	}
}

// A private listener may speak HTTP/2 without TLS.
func TestCallsOverH2C(t *testing.T) {
	e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{shop(backend(t, echo).URL)}, Listeners: []proxy.Listener{private("h2")}})
	var h2 http.Protocols
	h2.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: &h2, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, e.addr("calls"))
	}}
	defer tr.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), "POST", "http://shop.internal/", bytes.NewReader([]byte("hello")))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: tr, Timeout: patience}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if got := decode(t, string(b)); err != nil || resp.ProtoMajor != 2 || got.Body != "hello" || got.Host != "shop.internal" {
		t.Errorf("%s %s, %v", resp.Proto, b, err)
	}
}

// What a private listener cannot be is said when it is made.
func TestPrivateListenerRefused(t *testing.T) {
	for _, tt := range []struct {
		edit func(*proxy.ListenerConfig)
		want string
	}{
		{func(c *proxy.ListenerConfig) { c.VIPs = []string{"www"} }, "listener calls: is private, and a VIP's traffic is public"},
		{func(c *proxy.ListenerConfig) { c.RedirectHTTPS = true }, "listener calls: is private: it serves apps"},
	} {
		calls := private()
		tt.edit(&calls.Config)
		if _, err := try(t, proxy.Setup{Listeners: []proxy.Listener{calls}}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %s", err, tt.want)
		}
	}
}

func decode(t *testing.T, body string) echoed {
	t.Helper()
	var e echoed
	if err := json.Unmarshal([]byte(body), &e); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return e
}
