package proxy_test

import (
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anyedge/internal/message"
	"anyedge/proxy"
	"anyedge/proxy/compress"
)

// Fields are removed, set and added, both ways, also in errors of the edge's own.
func TestHeaderEdits(t *testing.T) {
	got := make(chan http.Header, 1)
	b := backend(t, func(w http.ResponseWriter, r *http.Request) {
		got <- r.Header
		h := w.Header()
		h["Server"] = []string{"secret/1.0", "two"}
		h.Set("X-Kept", "1")
		h.Set("Link", "</a>")
		if r.URL.Path == "/gone" {
			panic(http.ErrAbortHandler)
		}
	})
	svc := shop(b.URL)
	svc.Headers.Request = proxy.EditsConfig{
		Remove: []string{"x-debug"}, Set: map[string]string{"X-Env": "production", "User-Agent": "edge"}, Add: map[string]string{"x-list": "two"},
	}
	svc.Headers.Response = proxy.EditsConfig{
		Remove: []string{"server"}, Set: map[string]string{"Strict-Transport-Security": "max-age=1"}, Add: map[string]string{"Link": "</b>"},
	}
	e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{svc}})
	for _, path := range []string{"/", "/gone"} {
		req, err := http.NewRequestWithContext(t.Context(), "POST", "https://shop.example"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header = http.Header{"X-Debug": {"1", "2"}, "X-Env": {"a", "b"}, "X-List": {"one"}, "X-Own": {"1"}}
		res, err := e.client(t).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		seen := <-got
		want := http.Header{"X-Env": {"production"}, "User-Agent": {"edge"}, "X-List": {"one", "two"}, "X-Own": {"1"}, "X-Debug": nil}
		for name, values := range want {
			if d := cmp.Diff(values, seen[name]); d != "" {
				t.Error(path, name, d)
			}
		}
		if h := res.Header; h.Get("Server") != "" || h.Get("Strict-Transport-Security") != "max-age=1" || h["Link"][len(h["Link"])-1] != "</b>" {
			t.Errorf("%s: %d %v", path, res.StatusCode, h)
		}
		if (path == "/gone") != (res.StatusCode == 502) {
			t.Error(path, res.Status)
		}
	}
}

func TestHeaderEditsAreChecked(t *testing.T) {
	for _, c := range []proxy.EditsConfig{
		{Remove: []string{"Content-Length"}},
		{Set: map[string]string{"host": "a"}},
		{Set: map[string]string{"Transfer-Encoding": "chunked"}},
		{Add: map[string]string{"Edge-Geo": "nrt"}},
		{Remove: []string{"replay-geo"}},
		{Set: map[string]string{"a b": "c"}},
		{Set: map[string]string{"": "c"}},
		{Set: map[string]string{"A": "b\r\nC: d"}},
		{Set: map[string]string{"A": " b"}},
		{Set: map[string]string{"A": "b"}, Add: map[string]string{"a": "c"}},
		{Set: map[string]string{"A": "b", "a": "c"}},
	} {
		if c.Validate() == nil {
			t.Errorf("%v is valid", c)
		}
	}
	if err := (proxy.EditsConfig{Remove: []string{"A"}, Set: map[string]string{"B": ""}, Add: map[string]string{"C": "d e"}}).Validate(); err != nil {
		t.Error(err)
	}
}

// A request has one id: ours, that the log has too, or a trusted proxy's. What W3C
// Trace Context says passes.
func TestRequestID(t *testing.T) {
	b := backend(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, strings.Join(r.Header["X-Request-Id"], ",")+" "+r.Header.Get("Traceparent")+" "+r.Header.Get("Tracestate"))
	})
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for _, trusted := range []bool{false, true} {
		l := plain("http")
		if trusted {
			l.Config.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		}
		e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{shop(b.URL)}, Listeners: []proxy.Listener{l}})
		req, err := http.NewRequestWithContext(t.Context(), "GET", "http://shop.example/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header = http.Header{"X-Request-Id": {"theirs"}, "Traceparent": {trace}, "Tracestate": {"a=b"}}
		res, err := e.client(t).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(res.Body)
		res.Body.Close()
		id, rest, _ := strings.Cut(string(text), " ")
		if rest != trace+" a=b" {
			t.Errorf("trace context: %q", rest)
		}
		if trusted != (id == "theirs") || !trusted && len(id) != 16 {
			t.Errorf("trusted %v: %q", trusted, id)
		}
		if !trusted {
			waitFor(t, "the log to have it", func() bool {
				return slices.ContainsFunc(e.log.requests(), func(line map[string]any) bool { return line["id"] == id })
			})
		}
	}
}

// curl asks for what it can read, over every version, and gets the content back.
func TestCompressionWithCurl(t *testing.T) {
	page := strings.Repeat("the same words again and again; ", 5000)
	b := backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("ETag", `"a"`)
		_, _ = io.WriteString(w, page)
	})
	for _, algorithm := range []string{"zstd", "br", "gzip"} {
		svc := shop(b.URL)
		svc.Compress = &compress.Config{Algorithms: []string{algorithm}}
		e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{svc}})
		for _, version := range []string{"--http1.1", "--http2"} {
			out := e.curl(t, version, "--compressed", "-D-", "-w", "\n%{size_download}", "https://shop.example/")
			head, rest, _ := strings.Cut(out, "\r\n\r\n")
			content, size, _ := strings.Cut(rest, "\n")
			head = strings.ToLower(head)
			if content != page || len(size) > 4 {
				t.Errorf("%s %s: %s\n%d bytes, of them %s on the wire", algorithm, version, head, len(content), size)
			}
			for _, field := range []string{"content-encoding: " + algorithm, "vary: accept-encoding", `etag: w/"a"`} {
				if !strings.Contains(head, field) {
					t.Errorf("%s %s: no %s in\n%s", algorithm, version, field, head)
				}
			}
		}
	}
}

// What is not configured is not compressed, and errors of the edge's own never are.
func TestNotCompressed(t *testing.T) {
	b := backend(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, strings.Repeat("x", 5000))
	})
	off, on := shop(b.URL), shop("http://127.0.0.1:1")
	on.Name, on.Hosts, on.Compress = "down", []string{"down.example"}, &compress.Config{}
	on.Compress.Min = new(message.Size)
	e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{off, on}})
	for _, host := range []string{"shop.example", "down.example"} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+host+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept-Encoding", "gzip")
		res, err := e.client(t).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.Header.Get("Content-Encoding") != "" || res.Header.Get("Vary") != "" {
			t.Errorf("%s: %d %v", host, res.StatusCode, res.Header)
		}
	}
}
