package proxy_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"anyedge/proxy"
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
