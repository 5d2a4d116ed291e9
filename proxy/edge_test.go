package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"anyedge/proxy"
	"anyedge/proxy/certs"
	"anyedge/proxy/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// An edge is a running proxy of one geo.
type edge struct {
	*proxy.Proxy
	geo  string
	ca   string // path of its CA
	log  *logLines
	stop func() // ends Run and waits
}

// start runs the proxy that s says on loopback, with a development certificate.
// Listeners are "https" (h1, h2, h3) and "http" unless s has its own.
func start(tb testing.TB, s proxy.Setup) *edge {
	tb.Helper()
	e, err := try(tb, s)
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

func try(tb testing.TB, s proxy.Setup) (*edge, error) {
	tb.Helper()
	e := &edge{geo: s.Geo, log: &logLines{t: tb}}
	if e.geo == "" {
		e.geo = "fra"
	}
	s.Geo, s.Node = e.geo, e.geo+"-edge1"
	log := slog.New(slog.NewJSONHandler(e.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	store, err := certs.New([]certs.Config{{Name: "dev", SelfSigned: true, Domains: []string{"shop.example", "*.example", "127.0.0.1", "localhost"}}}, tb.TempDir(), log)
	if err != nil {
		return nil, err
	}
	e.ca, s.Certificates = store.CAPath(), store
	if s.Listeners == nil {
		s.Listeners = []proxy.Listener{secure("https"), plain("http")}
	}
	if e.Proxy, err = proxy.New(s, log); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(tb.Context())
	ready, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		err = e.Run(ctx, func() { close(ready) })
	}()
	e.stop = func() { cancel(); <-done }
	select {
	case <-ready:
	case <-done:
		return nil, err
	}
	tb.Cleanup(e.stop)
	for _, svc := range s.Services {
		if len(svc.Backends) > 0 {
			waitFor(tb, "first verdict of "+svc.Name, func() bool { return e.service(svc.Name).Reported })
		}
	}
	return e, nil
}

func loopback() []netip.AddrPort { return []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")} }

func secure(name string) proxy.Listener {
	return proxy.Listener{
		Config:    proxy.ListenerConfig{Name: name, Protocols: []string{"h1", "h2", "h3"}, TLS: &proxy.TLSConfig{Certificates: []string{"dev"}}},
		Addresses: loopback(),
	}
}

func plain(name string) proxy.Listener {
	return proxy.Listener{Config: proxy.ListenerConfig{Name: name}, Addresses: loopback()}
}

func (e *edge) service(name string) proxy.ServiceStatus {
	for _, s := range e.Services() {
		if s.Name == name {
			return s
		}
	}
	return proxy.ServiceStatus{}
}

// addr is where a listener is bound.
func (e *edge) addr(listener string) string {
	for _, l := range e.Listeners() {
		if l.Name == listener && len(l.Addresses) > 0 {
			return l.Addresses[0].String()
		}
	}
	return ""
}

// service is a service of shop.example with backends at these URLs.
func shop(urls ...string) proxy.ServiceConfig {
	s := proxy.ServiceConfig{Name: "shop", Hosts: []string{"shop.example"}}
	interval := 50 * time.Millisecond
	s.Health.HTTP = &upstream.HTTPCheckConfig{Path: "/healthz", Interval: &interval, Rise: 1, Fall: 2}
	for i, u := range urls {
		s.Backends = append(s.Backends, upstream.BackendConfig{Name: fmt.Sprintf("shop-%c", 'a'+i), URL: u})
	}
	return s
}

// backend starts a net/http server; /healthz answers 200.
func backend(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/", h)
	s := httptest.NewServer(&bareMux{mux, h})
	t.Cleanup(s.Close)
	return s
}

// bareMux is a mux that does not redirect paths that are not clean.
type bareMux struct {
	mux *http.ServeMux
	h   http.HandlerFunc
}

func (m *bareMux) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/healthz" {
		m.mux.ServeHTTP(w, r)
		return
	}
	m.h(w, r)
}

// echo answers with the request as JSON.
type echoed struct {
	Method, Host, Target, Body, Proto string
	Header                            http.Header
	Trailer                           http.Header
}

func echo(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	_ = json.NewEncoder(w).Encode(echoed{r.Method, r.Host, r.RequestURI, string(b), r.Proto, r.Header, r.Trailer})
}

// says answers with a word.
func says(word string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, word) }
}

// client is an HTTP/1.1 client that trusts e and resolves every host to it.
func (e *edge) client(t *testing.T) *http.Client {
	t.Helper()
	pem, err := os.ReadFile(e.ca)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	tr := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "shop.example"},
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			switch {
			case !strings.Contains(addr, "example:"): // an address of e's
			case strings.HasSuffix(addr, ":443"):
				addr = e.addr("https")
			default:
				addr = e.addr("http")
			}
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		},
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// An answer is a response, read.
type answer struct {
	Status int
	Header http.Header
	Body   string
	*http.Response
}

// get sends a request through the plain listener.
func (e *edge) do(t *testing.T, method, url string, body io.Reader, h ...string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(h); i += 2 {
		if h[i] == "Host" {
			r.Host = h[i+1]
			continue
		}
		r.Header.Add(h[i], h[i+1])
	}
	return e.send(t, r)
}

func (e *edge) send(t *testing.T, r *http.Request) answer {
	t.Helper()
	resp, err := e.client(t).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(b), resp}
}

func (e *edge) get(t *testing.T, url string, h ...string) answer {
	t.Helper()
	return e.do(t, "GET", url, nil, h...)
}

// curl runs curl against the https listener as host shop.example.
func (e *edge) curl(t *testing.T, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("curl")
	if err != nil {
		missing(t, "curl")
	}
	port := e.addr("https")[strings.LastIndexByte(e.addr("https"), ':')+1:]
	all := append([]string{
		"-sS", "--max-time", "20", "--cacert", e.ca,
		"--connect-to", "shop.example:443:127.0.0.1:" + port,
	}, args...)
	out, err := exec.CommandContext(t.Context(), path, all...).CombinedOutput()
	if err != nil {
		t.Fatalf("curl %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func missing(t *testing.T, tool string) {
	t.Helper()
	if os.Getenv("EDGE_TEST_STRICT") != "" {
		t.Fatal(tool + " is missing")
	}
	t.Skip(tool + " is missing")
}

// waitFor waits until ok, and fails the test when that takes too long.
func waitFor(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			tb.Fatalf("waited %s for %s", patience, what)
		}
	}
}

// logLines keeps what was logged.
type logLines struct {
	t  testing.TB
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// requests returns the lines of the access log.
func (l *logLines) requests() []map[string]any {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []map[string]any
	for line := range strings.Lines(l.b.String()) {
		m := map[string]any{}
		if json.Unmarshal([]byte(line), &m) == nil && m["msg"] == "request" {
			out = append(out, m)
		}
	}
	return out
}
