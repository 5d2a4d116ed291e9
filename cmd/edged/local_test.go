package main_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/quic-go/quic-go/http3"

	"anyedge/internal/lab"
	"anyedge/internal/testpeer"
)

// Addresses of the tests in this package: nobody else's, so that a port found
// free stays free.
const (
	edgeIP    = "127.0.71.1"
	backendIP = "127.0.71.2"
	birdIP    = "127.0.71.3"
)

// localConfig is a reverse proxy without node, geos, fabric and bgp; the tests
// complete it with services.
func localConfig(port uint16, services string) string {
	return fmt.Sprintf(`
listeners:
  - name: https
    bind: ["%[1]s:%[2]d"]
    protocols: [h1, h2, h3]
    tls: {certificates: [dev]}
certificates:
  - name: dev
    self_signed: true
    domains: [shop.localhost, localhost, %[1]s]
services:
%[3]s`, edgeIP, port, services)
}

func serviceAt(name, path, addr string) string {
	return fmt.Sprintf("  - {name: %s, hosts: [\"*\"], paths: [\"%s\"], backends: [{name: %s-a, url: \"http://%s\"}]}\n", name, path, name, addr)
}

func logger(t *testing.T) *slog.Logger {
	t.Helper()
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

// startApp runs an instance of the demo's app.
func startApp(t *testing.T, geo, name string) *lab.Backend {
	t.Helper()
	b := lab.NewBackend(geo, name, netip.MustParseAddrPort(backendIP+":0"), logger(t))
	up(t, b)
	t.Cleanup(func() {
		if b.Alive() {
			_ = b.Down()
		}
	})
	return b
}

func up(t *testing.T, b *lab.Backend) {
	t.Helper()
	if err := b.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func down(t *testing.T, b *lab.Backend) {
	t.Helper()
	if err := b.Down(); err != nil {
		t.Fatal(err)
	}
}

// appSaid reads an answer of the demo's app.
func appSaid(t *testing.T, body []byte) lab.Answer {
	t.Helper()
	var a lab.Answer
	if err := json.Unmarshal(body, &a); err != nil {
		t.Fatalf("not the app's answer: %v\n%s", err, body)
	}
	return a
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func sumOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// curl runs curl and returns the answer; version is curl's word for the
// protocol that was spoken.
func curl(t *testing.T, stdin []byte, args ...string) (version string, got reply) {
	t.Helper()
	testpeer.Need(t, "curl")
	body := filepath.Join(t.TempDir(), "body")
	args = append([]string{"-sS", "--max-time", "60", "-o", body, "-w", "%{http_version} %{response_code} %header{retry-after}"}, args...)
	cmd := exec.CommandContext(t.Context(), "curl", args...)
	cmd.Stdin = bytes.NewReader(stdin)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("curl %s: %v\n%s", strings.Join(args, " "), err, &errs)
	}
	words := strings.Fields(string(out))
	if len(words) < 2 {
		t.Fatalf("curl said %q", out)
	}
	got.header = http.Header{}
	if len(words) > 2 {
		got.header.Set("Retry-After", words[2])
	}
	got.status, _ = strconv.Atoi(words[1])
	got.body = readFile(t, body)
	return words[0], got
}

// TestLocalProxy is the reverse proxy of configs/examples/local.yaml: curl
// trusts the CA that the status shows, and every protocol carries a body whole.
func TestLocalProxy(t *testing.T) {
	t.Parallel()
	app := startApp(t, "here", "app-a")
	port := testpeer.FreePort(t, edgeIP)
	d := start(t, localConfig(port, serviceAt("app", "/", app.Addr.String())))
	ca := d.ca(t)
	url := fmt.Sprintf("https://%s:%d", edgeIP, port)
	body := randomBytes(300_000)

	for _, tt := range []struct{ flag, version, via string }{
		{"--http1.1", "1.1", "1.1 edged"},
		{"--http2", "2", "2 edged"},
	} {
		t.Run("curl "+tt.flag, func(t *testing.T) {
			version, got := curl(t, body, tt.flag, "--cacert", ca, "-H", "Replay-Geo-Src: geo=forged", "--data-binary", "@-", url+"/some/path?q=1")
			if version != tt.version || got.status != 200 {
				t.Fatalf("HTTP/%s %d: %s", version, got.status, got.body)
			}
			a := appSaid(t, got.body)
			if a.Method != "POST" || a.Path != "/some/path?q=1" || a.SHA256 != sumOf(body) {
				t.Errorf("the app got %s %s with %d bytes, SHA-256 %s", a.Method, a.Path, a.Body, a.SHA256)
			}
			if a.Via["Via"] != tt.via || a.Via["X-Forwarded-Proto"] != "https" || a.Via["Edge-Geo"] != "local" || a.Via["Replay-Geo-Src"] != "" {
				t.Errorf("the app was told %v", a.Via)
			}
		})
	}
	t.Run("h3", func(t *testing.T) {
		transport := &http3.Transport{TLSClientConfig: &tls.Config{RootCAs: caPool(t, ca)}}
		defer transport.Close()
		got := mustAsk(t, &http.Client{Transport: transport, Timeout: testpeer.Patience}, "POST", url+"/", body)
		if a := appSaid(t, got.body); got.status != 200 || a.SHA256 != sumOf(body) || a.Via["Via"] != "3 edged" {
			t.Errorf("%d %+v", got.status, a)
		}
	})
	t.Run("the backend dies and comes back", func(t *testing.T) {
		down(t, app)
		for range 3 {
			if _, got := curl(t, nil, "--cacert", ca, url+"/"); got.status != 503 || got.header.Get("Retry-After") == "" {
				t.Errorf("without a backend: %d, Retry-After %q", got.status, got.header.Get("Retry-After"))
			}
		}
		up(t, app)
		testpeer.WaitFor(t, "an answer after the revival", func() bool {
			_, got := curl(t, nil, "--cacert", ca, url+"/")
			return got.status == 200
		})
	})
}

// TestGarbageFromBackend lets backends answer what is no HTTP.
func TestGarbageFromBackend(t *testing.T) {
	t.Parallel()
	cases := []struct{ name, says string }{
		{"noise", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"},
		{"prose", "Good morning, what can I do for you?\r\n\r\n"},
		{"nothing", ""},
		{"status", "HTTP/1.1 two hundred\r\n\r\n"},
		{"length", "HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n"},
		{"field", "HTTP/1.1 200 OK\r\nno colon here\r\n\r\n"},
		{"half", "HTTP/1.1 200 OK\r\nContent-Ty"},
	}
	var services strings.Builder
	for _, tt := range cases {
		services.WriteString(serviceAt(tt.name, "/"+tt.name, sayOnConnect(t, tt.says)))
	}
	port := testpeer.FreePort(t, edgeIP)
	d := start(t, localConfig(port, services.String()))
	client := browser(t, d.ca(t))
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			got := mustAsk(t, client, "POST", fmt.Sprintf("https://%s:%d/%s", edgeIP, port, tt.name), []byte("x"))
			if got.status != 502 {
				t.Errorf("%d %s, want 502", got.status, got.body)
			}
		})
	}
}

// sayOnConnect listens, and says text to whoever has sent a request.
func sayOnConnect(t *testing.T, text string) string {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", backendIP+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if _, err := c.Read(make([]byte, 64<<10)); err != nil {
					return // a health check
				}
				_, _ = io.WriteString(c, text)
			}()
		}
	}()
	return l.Addr().String()
}
