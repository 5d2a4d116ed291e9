package enginetest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anyedge/internal/message"
)

// clientTest is one test of TestClient; open makes the engine's client of a
// backend.
type clientTest struct {
	protocols http.Protocols
	greeting  string // what a backend says before it has read anything
	open      func(t *testing.T, addr string) message.RoundTripper
}

// TestClient tests an engine's asking side against net/http's server, which
// speaks the version that version names. open must close the client when the
// test ends.
func TestClient(t *testing.T, version message.Version, open func(t *testing.T, addr string) message.RoundTripper) {
	c := clientTest{open: open}
	if version == message.HTTP2 {
		c.greeting = "\x00\x00\x00\x04\x00\x00\x00\x00\x00" // SETTINGS without any
	}
	c.protocols.SetHTTP1(version == message.HTTP1)
	c.protocols.SetUnencryptedHTTP2(version == message.HTTP2)
	t.Run("request as given", c.request)
	t.Run("streams both ways", func(t *testing.T) { c.streams(t) })
	t.Run("streams both ways, without a 100", func(t *testing.T) {
		c.streams(t, message.Field{Name: "Expect", Value: "100-continue"})
	})
	t.Run("early answer during upload", c.earlyAnswer)
	t.Run("interim answers", c.interim)
	t.Run("trailers", c.trailers)
	t.Run("answers without content", c.noContent)
	t.Run("answer breaks off", c.breaksOff)
	t.Run("upload breaks off", c.uploadBreaksOff)
	t.Run("cancel", c.cancel)
	t.Run("nobody listens", c.refused)
	t.Run("closes before an answer", c.closes)
	t.Run("dies while the client is silent", c.diesInUpload)
	t.Run("replays content", c.replays)
}

// backend serves h and returns the client of it.
func (c clientTest) backend(t *testing.T, h http.HandlerFunc) message.RoundTripper {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = &c.protocols
	s.Start()
	t.Cleanup(s.Close)
	return c.open(t, s.Listener.Addr().String())
}

// request returns a request; content "" means none.
func request(method, target, content string, fields ...message.Field) *message.Request {
	r := &message.Request{
		Version: message.HTTP1, Method: method, Scheme: "https", Authority: "edge.example", Target: target, Header: fields,
	}
	if content != "" {
		r.Body = message.NewBody(io.NopCloser(strings.NewReader(content)), int64(len(content)), message.KiB, nil)
	}
	return r
}

// ask sends r and closes the answer when the test ends.
func ask(t *testing.T, rt message.RoundTripper, r *message.Request) *message.Response {
	t.Helper()
	res, err := rt.RoundTrip(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(res.Close)
	return res
}

// read returns the whole content of res.
func read(t *testing.T, res *message.Response) string {
	t.Helper()
	if res.Body == nil {
		return ""
	}
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func (c clientTest) request(t *testing.T) {
	type seen struct {
		Method, URI, Host, Content string
		Length                     int64
		Header                     http.Header
	}
	got := make(chan seen, 1)
	rt := c.backend(t, func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got <- seen{r.Method, r.RequestURI, r.Host, string(b), r.ContentLength, r.Header}
	})
	for _, target := range []string{"/", "/a%2Fb//c?x=%20", "/?", "/a|b", "//double", "//double/%2f?q", "/#frag"} {
		t.Run(target, func(t *testing.T) {
			read(t, ask(t, rt, request("POST", target, "content", message.Field{Name: "x-own", Value: "1"}, message.Field{Name: "Keep-Alive", Value: "1"})))
			if d := cmp.Diff(seen{
				"POST", target, "edge.example", "content", 7,
				http.Header{"X-Own": {"1"}, "Content-Length": {"7"}},
			}, Within(t, "request", got)); d != "" {
				t.Error(d)
			}
		})
	}
	t.Run("nothing is added", func(t *testing.T) {
		read(t, ask(t, rt, request("GET", "/", "")))
		if d := cmp.Diff(seen{"GET", "/", "edge.example", "", 0, http.Header{}}, Within(t, "request", got)); d != "" {
			t.Error(d)
		}
	})
	t.Run("asterisk", func(t *testing.T) {
		// net/http answers this one itself.
		if res := ask(t, rt, request("OPTIONS", "*", "")); res.Status != 200 {
			t.Error(res.Status)
		}
	})
}

func (c clientTest) streams(t *testing.T, fields ...message.Field) {
	t.Helper()
	rt := c.backend(t, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_ = rc.EnableFullDuplex()
		_ = rc.Flush()
		lines := bufio.NewScanner(r.Body)
		for lines.Scan() {
			fmt.Fprintln(w, "got", lines.Text())
			_ = rc.Flush()
		}
	})
	pr, pw := io.Pipe()
	r := request("POST", "/", "", fields...)
	r.Body = message.NewBody(pr, -1, message.KiB, nil)
	res := ask(t, rt, r)
	lines := bufio.NewReader(res.Body)
	for i := range 3 {
		if _, err := fmt.Fprintln(pw, i); err != nil {
			t.Fatal(err)
		}
		if got, err := lines.ReadString('\n'); err != nil || got != fmt.Sprintln("got", i) {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	_ = pw.Close()
	if rest, err := io.ReadAll(lines); err != nil || len(rest) > 0 {
		t.Fatalf("got %q, %v", rest, err)
	}
}

func (c clientTest) earlyAnswer(t *testing.T) {
	rt := c.backend(t, func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(413)
		_, _ = io.WriteString(w, "too much")
		_ = http.NewResponseController(w).Flush()
	})
	pr, pw := io.Pipe()
	r := request("POST", "/", "")
	r.Body = message.NewBody(pr, 1<<20, message.KiB, nil)
	go func() { _, _ = io.WriteString(pw, "some, then silence") }()
	t.Cleanup(func() { _ = r.Body.Close() })
	res := ask(t, rt, r)
	b := make([]byte, 8)
	if _, err := io.ReadFull(res.Body, b); err != nil || res.Status != 413 || string(b) != "too much" {
		t.Fatalf("%d %q, %v", res.Status, b, err)
	}
}

func (c clientTest) interim(t *testing.T) {
	rt := c.backend(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</a>")
		w.WriteHeader(103)
		w.Header().Del("Link")
		_, _ = io.WriteString(w, "final")
	})
	r := request("GET", "/", "")
	var got []string
	r.Inform = func(status int, h message.Header) { got = append(got, fmt.Sprint(status, " ", h.Get("link"))) }
	if b := read(t, ask(t, rt, r)); b != "final" {
		t.Fatal(b)
	}
	if d := cmp.Diff([]string{"103 </a>"}, got); d != "" {
		t.Fatal(d)
	}
}

func (c clientTest) trailers(t *testing.T) {
	rt := c.backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Echo")
		_, _ = io.Copy(w, r.Body)
		w.Header().Set("X-Echo", r.Trailer.Get("X-Sum"))
		w.Header().Set(http.TrailerPrefix+"X-Late", "unannounced")
	})
	for _, length := range []int64{7, -1} {
		t.Run(fmt.Sprintf("length %d", length), func(t *testing.T) {
			r := request("POST", "/", "", message.Field{Name: "Trailer", Value: "X-Sum"})
			r.Body = message.NewBody(io.NopCloser(strings.NewReader("content")), length, message.KiB,
				func() message.Header { return message.Header{{Name: "x-sum", Value: "42"}} })
			res := ask(t, rt, r)
			if got := res.Header.Get("Trailer"); got != "X-Echo" {
				t.Errorf("announced %q", got)
			}
			if b := read(t, res); b != "content" {
				t.Fatal(b)
			}
			want := message.Header{{Name: "X-Echo", Value: "42"}, {Name: "X-Late", Value: "unannounced"}}
			got := res.Trailer()
			for i := range got { // HTTP/2 spells names in lower case, and net/http has no order
				got[i].Name = http.CanonicalHeaderKey(got[i].Name)
			}
			slices.SortFunc(got, func(a, b message.Field) int { return strings.Compare(a.Name, b.Name) })
			if d := cmp.Diff(want, got); d != "" {
				t.Fatal(d)
			}
		})
	}
}

func (c clientTest) noContent(t *testing.T) {
	rt := c.backend(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/204":
			w.WriteHeader(204)
		case "/304":
			w.Header().Set("Etag", `"a"`)
			w.WriteHeader(304)
		default:
			w.Header().Set("Content-Length", "1234")
		}
	})
	for _, tt := range []struct {
		method, target string
		status         int
		length         string
	}{
		{"HEAD", "/", 200, "1234"},
		{"GET", "/204", 204, ""},
		{"GET", "/304", 304, ""},
	} {
		res := ask(t, rt, request(tt.method, tt.target, ""))
		if res.Status != tt.status || res.Body != nil || res.Length != 0 || res.Header.Get("Content-Length") != tt.length {
			t.Errorf("%s %s: %d, length %d, %v", tt.method, tt.target, res.Status, res.Length, res.Header)
		}
	}
}

// wantSent fails the test unless err is a failed try that got so far.
func wantSent(t *testing.T, err error, want message.Sent) {
	t.Helper()
	var try *message.TryError
	if !errors.As(err, &try) {
		t.Fatalf("error %v (%T) is no failed try", err, err)
	}
	if try.Sent != want || try.To == "" {
		t.Fatalf("%v: %q of %q, want %q", err, try.Sent, try.To, want)
	}
}

func (c clientTest) breaksOff(t *testing.T) {
	rt := c.backend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/known" {
			w.Header().Set("Content-Length", "100")
		}
		_, _ = io.WriteString(w, "partial")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	for _, target := range []string{"/known", "/unknown"} {
		res := ask(t, rt, request("GET", target, ""))
		b, err := io.ReadAll(res.Body)
		if string(b) != "partial" {
			t.Errorf("%s: %q", target, b)
		}
		wantSent(t, err, message.Answered)
	}
}

func (c clientTest) cancel(t *testing.T) {
	began, ended := make(chan struct{}), make(chan struct{})
	rt := c.backend(t, func(_ http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
		close(ended)
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	failed := make(chan error, 1)
	go func() {
		res, err := rt.RoundTrip(ctx, request("GET", "/", ""))
		res.Close()
		failed <- err
	}()
	Within(t, "request", began)
	reason := errors.New("enough")
	cancel(reason)
	err := Within(t, "try", failed)
	wantSent(t, err, message.MaybeExecuted)
	if !errors.Is(err, reason) {
		t.Error(err)
	}
	Within(t, "the backend's context", ended)
}

func (c clientTest) refused(t *testing.T) {
	l := loopback(t)
	_ = l.Close()
	res, err := c.open(t, l.Addr().String()).RoundTrip(t.Context(), request("POST", "/", "content"))
	res.Close()
	wantSent(t, err, message.NothingSent)
}

// uploadBreaksOff: content that fails never looks complete to the backend.
func (c clientTest) uploadBreaksOff(t *testing.T) {
	seen := make(chan error, 1)
	rt := c.backend(t, func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		seen <- err
	})
	for _, length := range []int64{-1, 100} {
		r := request("PUT", "/", "")
		r.Body = message.NewBody(&failingBody{strings.NewReader("half"), io.ErrUnexpectedEOF}, length, message.KiB, nil)
		res, err := rt.RoundTrip(t.Context(), r)
		res.Close()
		if err == nil {
			t.Errorf("length %d: no error", length)
		}
		if err := Within(t, "request", seen); err == nil {
			t.Errorf("length %d: the backend takes it for complete", length)
		}
	}
}
