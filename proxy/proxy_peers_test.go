package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anyedge/proxy"
	"anyedge/proxy/proxyproto"
)

// runPeer starts a program that stays, and ends it with the test.
func runPeer(t *testing.T, name string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/" + name); err != nil {
			missing(t, name)
		}
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// haproxyTCP returns the configuration of one that carries TCP from an address to
// another.
func haproxyTCP(t *testing.T, from, to, bind, server string) string {
	t.Helper()
	return writeFile(t, fmt.Sprintf(`global
    maxconn 200
defaults
    mode tcp
    timeout connect 5s
    timeout client 20s
    timeout server 20s
listen l
    bind %s %s
    server s %s %s
`, from, bind, to, server))
}

// HAProxy says in its PROXY headers whose connections it carries, and when it
// speaks for itself.
func TestProxyHeaderOfPeers(t *testing.T) {
	for _, tt := range []struct {
		name  string
		start func(t *testing.T, from, to string)
	}{
		{"haproxy v1", func(t *testing.T, from, to string) {
			t.Helper()
			runPeer(t, "haproxy", "-db", "-f", haproxyTCP(t, from, to, "", "source 127.0.0.2 send-proxy"))
		}},
		{"haproxy v2", func(t *testing.T, from, to string) {
			t.Helper()
			runPeer(t, "haproxy", "-db", "-f", haproxyTCP(t, from, to, "", "source 127.0.0.2 send-proxy-v2 check check-send-proxy inter 50ms"))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := plain("http")
			h.Config.ProxyProtocol, h.Config.TrustedProxies = "require", []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}
			e := start(t, proxy.Setup{Listeners: []proxy.Listener{h}, Services: []proxy.ServiceConfig{shop(backend(t, echo).URL)}})
			from := freePort(t).String()
			tt.start(t, from, e.addr("http"))
			var got *echoed
			waitFor(t, "an answer through "+tt.name, func() bool {
				d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 77)}}
				c, err := d.DialContext(t.Context(), "tcp", from)
				if err != nil {
					return false
				}
				defer c.Close()
				got = asked(t, c)
				return got != nil
			})
			if client := got.Header.Get("X-Forwarded-For"); client != "127.0.0.77" {
				t.Errorf("client %q, want 127.0.0.77", client)
			}
			if n := e.refused("http", proxy.RuleProxyHeader); n != 0 {
				t.Errorf("%d of its headers were refused", n)
			}
		})
	}
}

// curl sends a PROXY header of its own.
func TestProxyHeaderOfCurl(t *testing.T) {
	h := plain("http")
	h.Config.ProxyProtocol, h.Config.TrustedProxies = "require", []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	e := start(t, proxy.Setup{Listeners: []proxy.Listener{h, secure("https")}, Services: []proxy.ServiceConfig{shop(backend(t, says("hello")).URL)}})
	if got := e.curl(t, "--haproxy-protocol", "-H", "Host: shop.example", "http://"+e.addr("http")+"/"); got != "hello" {
		t.Errorf("got %q", got)
	}
	if n := e.refused("http", proxy.RuleProxyHeader); n != 0 {
		t.Errorf("%d headers were refused", n)
	}
}

// exchange sends a request and returns the content of its answer.
func exchange(t *testing.T, c net.Conn, request string) string {
	t.Helper()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// nginx and HAProxy behind us read from our PROXY headers whose connections they
// get, also from our checks.
func TestProxyHeaderToPeers(t *testing.T) {
	peers := []struct {
		name  string
		start func(t *testing.T, at string)
	}{
		{"nginx", func(t *testing.T, at string) {
			t.Helper()
			dir := t.TempDir()
			conf := fmt.Sprintf("daemon off; master_process off; pid %[1]s/pid; error_log stderr; events {}\n"+
				"http { access_log off; server { listen %[2]s proxy_protocol; location / { return 200 \"$proxy_protocol_addr\"; } } }\n", dir, at)
			runPeer(t, "nginx", "-p", dir, "-e", "stderr", "-c", writeFile(t, conf))
		}},
		{"haproxy", func(t *testing.T, at string) {
			t.Helper()
			runPeer(t, "haproxy", "-db", "-f", writeFile(t, fmt.Sprintf("global\n maxconn 100\ndefaults\n mode http\n timeout connect 5s\n timeout client 20s\n timeout server 20s\n"+
				"frontend f\n bind %s accept-proxy\n http-request return status 200 content-type text/plain lf-string %%[src]\n", at)))
		}},
	}
	for _, peer := range peers {
		for _, version := range []string{"v1", "v2"} {
			t.Run(peer.name+" "+version, func(t *testing.T) {
				at := freePort(t).String()
				peer.start(t, at)
				s := shop("http://" + at)
				s.Backends[0].ProxyProtocol = version
				e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{s}})
				waitFor(t, "a healthy "+peer.name, func() bool { return e.service("shop").Healthy == 1 })
				for range 2 {
					for _, client := range []string{"127.0.0.77", "127.0.0.78"} {
						c := dialFrom(t, client, e.addr("http"))
						for range 3 {
							if got := exchange(t, c, "GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n"); got != client {
								t.Errorf("%s sees client %q, want %q", peer.name, got, client)
							}
						}
					}
				}
			})
		}
	}
}

// A connection to a backend that gets PROXY headers carries the requests of one
// client connection.
func TestProxyHeaderPerClient(t *testing.T) {
	var mu sync.Mutex
	var headers []string
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.RemoteAddr) })}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(headed{l, func(h proxyproto.Header) {
			mu.Lock()
			defer mu.Unlock()
			if h.Source.IsValid() {
				headers = append(headers, h.Source.String()+" "+h.Destination.String())
			}
		}})
	}()
	t.Cleanup(func() { _ = server.Close(); <-served })
	s := shop("http://" + l.Addr().String())
	s.Health.HTTP = nil
	s.Backends[0].ProxyProtocol = "v2"
	e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{s}})
	waitFor(t, "a healthy backend", func() bool { return e.service("shop").Healthy == 1 })
	var want []string
	for range 3 {
		c := dialFrom(t, "127.0.0.1", e.addr("http"))
		want = append(want, c.LocalAddr().String()+" "+e.addr("http"))
		for range 3 {
			if got := exchange(t, c, "GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n"); got == "" {
				t.Error("no answer")
			}
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff(want, headers); diff != "" {
		t.Error(diff)
	}
}

// headed is a listener whose connections begin with PROXY headers.
type headed struct {
	net.Listener
	saw func(proxyproto.Header)
}

func (h headed) Accept() (net.Conn, error) {
	c, err := h.Listener.Accept()
	if err != nil {
		return nil, err
	}
	header, err := proxyproto.Read(c)
	if err != nil {
		return c, c.Close()
	}
	h.saw(header)
	return c, nil
}
