package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"anyedge/proxy"
)

// Drain: what runs ends in peace, nothing new is taken.
func TestDrain(t *testing.T) {
	h1 := func(t *testing.T, e *edge) *http.Client {
		t.Helper()
		return e.client(t)
	}
	h2 := func(t *testing.T, e *edge) *http.Client {
		t.Helper()
		c := e.client(t)
		c.Transport.(*http.Transport).ForceAttemptHTTP2 = true
		return c
	}
	h3 := func(t *testing.T, e *edge) *http.Client {
		t.Helper()
		return e.http3Client(t)
	}
	for _, test := range []struct {
		name, url string
		client    func(*testing.T, *edge) *http.Client
		major     int
	}{
		{"plain", "http://shop.example/", h1, 1},
		{"h1", "https://shop.example/", h1, 1},
		{"h2", "https://shop.example/", h2, 2},
		{"h3", "", h3, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			began, release := make(chan struct{}), make(chan struct{})
			e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{shop(backend(t, func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, "first half, ")
				_ = http.NewResponseController(w).Flush()
				close(began)
				<-release
				_, _ = io.WriteString(w, "second half")
			}).URL)}})
			answered := make(chan answer, 1)
			client := test.client(t, e)
			addr := e.addr("http")
			url := test.url
			if url == "" {
				url = "https://" + e.addr("https") + "/"
			}
			go func() {
				r, _ := http.NewRequestWithContext(t.Context(), "GET", url, nil)
				r.Host = "shop.example"
				resp, err := client.Do(r)
				if err != nil {
					t.Error(err)
					close(answered)
					return
				}
				defer resp.Body.Close()
				b, err := io.ReadAll(resp.Body)
				if err != nil {
					t.Error(err)
				}
				answered <- answer{Status: resp.StatusCode, Body: string(b), Response: resp}
			}()
			<-began
			stopped := make(chan struct{})
			go func() { e.stop(); close(stopped) }()
			waitFor(t, "the listener to close", func() bool {
				var d net.Dialer
				c, err := d.DialContext(t.Context(), "tcp", addr)
				if err == nil {
					_ = c.Close()
				}
				return err != nil
			})
			for _, l := range e.Listeners() {
				if l.Up {
					t.Errorf("listener %s says that it is up", l.Name)
				}
			}
			select {
			case <-stopped:
				t.Error("Run ended while a request runs")
			default:
			}
			close(release)
			if got := <-answered; got.Body != "first half, second half" || got.ProtoMajor != test.major {
				t.Errorf("got %d %q over %s", got.Status, got.Body, got.Proto)
			}
			<-stopped
		})
	}
}

// A request that does not end is cut off after ShutdownMax.
func TestDrainIsBounded(t *testing.T) {
	began := make(chan struct{})
	e := start(t, proxy.Setup{ShutdownMax: 100 * time.Millisecond, Services: []proxy.ServiceConfig{shop(backend(t, func(_ http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
	}).URL)}})
	client := e.client(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		r, _ := http.NewRequestWithContext(t.Context(), "GET", "http://shop.example/", nil)
		if resp, err := client.Do(r); err == nil {
			_ = resp.Body.Close()
		}
	}()
	<-began
	e.stop()
	<-done
}

func TestPortInUse(t *testing.T) {
	var lc net.ListenConfig
	tcp, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := lc.ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	at := func(l proxy.Listener, a string) proxy.Listener {
		l.Addresses = []netip.AddrPort{netip.MustParseAddrPort(a)}
		return l
	}
	overUDP := at(secure("https"), udp.LocalAddr().String())
	overUDP.Config.Protocols = []string{"h3"}
	tests := []struct {
		listener proxy.Listener
		want     string
	}{
		{
			at(plain("http"), tcp.Addr().String()),
			fmt.Sprintf("listener http: %s is in use by another listener of this process; stop it or change listeners[].bind", tcp.Addr()),
		},
		{
			overUDP,
			fmt.Sprintf("listener https: %s is in use by another listener of this process; stop it or change listeners[].bind", udp.LocalAddr()),
		},
		{
			at(plain("http"), "192.0.2.1:80"),
			"listener http: 192.0.2.1:80 is no address of this machine; add it to an interface or change listeners[].bind",
		},
	}
	for _, test := range tests {
		_, err := try(t, proxy.Setup{Services: []proxy.ServiceConfig{shop()}, Listeners: []proxy.Listener{plain("fine"), test.listener}})
		if err == nil || err.Error() != test.want {
			t.Errorf("got  %v\nwant %s", err, test.want)
		}
	}
}

// The holder of a port is named when /proc tells.
func TestPortInUseByAnotherProcess(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		missing(t, "python3")
	}
	cmd := exec.CommandContext(t.Context(), python, "-c",
		"import socket,sys\ns=socket.create_server(('127.0.0.1',0))\nprint(s.getsockname()[1],flush=True)\nsys.stdin.read()")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close(); _ = cmd.Wait() }()
	port, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	l := plain("http")
	l.Addresses = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:" + strings.TrimSpace(port))}
	_, err = try(t, proxy.Setup{Listeners: []proxy.Listener{l}})
	comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", cmd.Process.Pid))
	want := fmt.Sprintf("listener http: %s is in use by %s (pid %d); stop it or change listeners[].bind", l.Addresses[0], strings.TrimSpace(string(comm)), cmd.Process.Pid)
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestRedirectHTTPS(t *testing.T) {
	redirect := plain("http")
	redirect.Config.RedirectHTTPS = true
	standard := secure("https")
	e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{shop()}, Listeners: []proxy.Listener{redirect, standard}})
	tests := []struct {
		method, target, host string
		status               int
		location             string
	}{
		{"GET", "/a%2Fb?q=1", "shop.example:80", 301, "https://shop.example/a%2Fb?q=1"},
		{"POST", "/", "shop.example", 308, "https://shop.example/"},
		{"GET", "/", "[2001:db8::1]:80", 301, "https://[2001:db8::1]/"},
		{"GET", "//evil.example/", "shop.example", 301, "https://shop.example//evil.example/"},
	}
	for _, test := range tests {
		got := raw(t, e, test.method, test.target, test.host)
		if got.Status != test.status || got.Header.Get("Location") != test.location {
			t.Errorf("%s %s: got %d %s", test.host, test.target, got.Status, got.Header.Get("Location"))
		}
	}
	if got := raw(t, e, "GET", "/", "a b"); got.Status != 400 {
		t.Errorf("a bad host: got %d", got.Status)
	}
}

// HTTP on the port of HTTPS gets a word about it.
func TestPlainTextToTLS(t *testing.T) {
	e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{shop()}})
	r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+e.addr("https")+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	got := e.send(t, r)
	if got.Status != 400 || !strings.Contains(got.Body, "https") {
		t.Errorf("got %d %q", got.Status, got.Body)
	}
}

func TestStatus(t *testing.T) {
	e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{shop(backend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/bad" {
			w.WriteHeader(500)
		}
	}).URL, "http://127.0.0.1:1")}})
	for range 3 {
		e.get(t, "http://shop.example/")
	}
	e.get(t, "http://shop.example/bad")
	waitFor(t, "one backend of two", func() bool { s := e.service("shop"); return s.Healthy == 1 && s.Total == 2 })
	s := e.service("shop")
	if s.Rate < 0.3 || s.Rate > 4 || s.ErrorRate != 0.25 || s.Samples != 4 || s.P50 <= 0 || s.P99 < s.P50 || s.P99 > patience {
		t.Errorf("%+v", s)
	}
	for _, l := range e.Listeners() {
		if !l.Up || len(l.Addresses) != 1 || len(l.Services) != 1 {
			t.Errorf("%+v", l)
		}
	}
	first := e.Alive()
	waitFor(t, "another heartbeat", func() bool { return e.Alive().After(first) })
	select {
	case <-e.Changed():
	default:
		t.Error("no change was signalled although a verdict came")
	}
}

func TestAccessLog(t *testing.T) {
	none := 0.0
	app := backend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/bad" {
			w.WriteHeader(500)
		}
		_, _ = io.WriteString(w, "12345")
	})
	e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{shop(app.URL)}})
	e.get(t, "http://shop.example/x?q=1")
	line := e.logged(t, "/x?q=1")
	want := map[string]any{
		"method": "GET", "host": "shop.example", "status": 200.0, "bytes": 5.0, "service": "shop", "backend": "shop-a",
		"geo": "fra", "entry": "fra", "client": "127.0.0.1", "version": "h1",
	}
	for k, v := range want {
		if line[k] != v {
			t.Errorf("%s: got %v, want %v", k, line[k], v)
		}
	}
	if ms, ok := line["duration_ms"].(float64); !ok || ms <= 0 {
		t.Errorf("duration_ms %v", line["duration_ms"])
	}

	e = start(t, proxy.Setup{
		Services: []proxy.ServiceConfig{shop(app.URL)},
		Log:      proxy.LogConfig{Access: proxy.AccessLogConfig{Sample: &none, AlwaysOnStatus: []string{"5xx"}}},
	})
	e.get(t, "http://shop.example/fine")
	e.get(t, "http://shop.example/bad")
	e.logged(t, "/bad")
	if n := len(e.log.requests()); n != 1 {
		t.Errorf("%d lines, want the one of /bad", n)
	}
}

// A handshake that does not come does not keep the proxy from ending.
func TestSilentClient(t *testing.T) {
	e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{shop()}})
	for _, listener := range []string{"https", "http"} {
		var d net.Dialer
		c, err := d.DialContext(t.Context(), "tcp", e.addr(listener))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	done := make(chan struct{})
	go func() { e.stop(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		t.Fatal("still running")
	}
}
