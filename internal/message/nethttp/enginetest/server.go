package enginetest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anyedge/internal/message"
)

// A Server is an engine's answering side under test.
type Server struct {
	URL      string            // scheme://HOST:PORT that Client reaches it at
	Client   http.RoundTripper // of the engine's version
	Shutdown func(context.Context) error
}

// serverTest is one test of TestServer with the engine that start starts.
type serverTest struct {
	version message.Version
	start   func(*testing.T, message.RoundTripper) Server
}

// TestServer tests an engine's answering side. start must stop the engine when
// the test ends.
func TestServer(t *testing.T, version message.Version, start func(*testing.T, message.RoundTripper) Server) {
	s := serverTest{version, start}
	t.Run("request as received", s.request)
	t.Run("streams both ways", s.streams)
	t.Run("early answer during upload", s.earlyAnswer)
	t.Run("interim answer", s.interim)
	t.Run("trailers", s.trailers)
	t.Run("answers without content", s.noContent)
	t.Run("adds nothing", s.addsNothing)
	t.Run("answer breaks off", s.breaksOff)
	t.Run("client goes away", s.cancel)
	t.Run("handler fails", s.handlerFails)
	t.Run("shutdown waits", s.shutdown)
}

// do sends a request with an exact target.
func do(t *testing.T, s Server, method, target string, body io.Reader, edit func(*http.Request)) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL, body)
	if err != nil {
		t.Fatal(err)
	}
	req.URL.Opaque = target
	req.Host = "edge.example"
	if edit != nil {
		edit(req)
	}
	res, err := s.Client.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	return res
}

func (s serverTest) request(t *testing.T) {
	got := make(chan *message.Request, 1)
	srv := s.start(t, message.RoundTripFunc(func(_ context.Context, r *message.Request) (*message.Response, error) {
		content := ""
		if r.Body != nil {
			reader, err := r.Body.Open()
			if err != nil {
				return nil, err
			}
			b, err := io.ReadAll(reader)
			if err != nil {
				return nil, err
			}
			content = string(b)
		}
		got <- r
		return Text(200, content), nil
	}))
	const target = "/a%2Fb//c?x=%20"
	res := do(t, srv, "PUT", target, strings.NewReader("content"), func(r *http.Request) {
		r.Header = http.Header{
			"User-Agent": {"test"}, "X-Two": {"1", "2"}, "Te": {"trailers"}, "Accept-Encoding": {"identity"},
		}
		if s.version == message.HTTP1 {
			r.Header["Connection"] = []string{"X-Hop"}
			r.Header["X-Hop"] = []string{"gone"}
			r.Header["Keep-Alive"] = []string{"timeout=5"}
		}
	})
	if b, err := io.ReadAll(res.Body); err != nil || string(b) != "content" {
		t.Fatalf("answer %q, %v", b, err)
	}
	r := Within(t, "request", got)
	base, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	want := message.Header{
		{Name: "Accept-Encoding", Value: "identity"},
		{Name: "TE", Value: "trailers"},
		{Name: "User-Agent", Value: "test"},
		{Name: "X-Two", Value: "1"},
		{Name: "X-Two", Value: "2"},
	}
	if d := cmp.Diff(want, r.Header); d != "" {
		t.Error(d)
	}
	type head struct {
		Version                           message.Version
		Method, Scheme, Authority, Target string
		Length                            int64
		Local                             string
	}
	wantHead := head{s.version, "PUT", base.Scheme, "edge.example", target, 7, base.Host}
	gotHead := head{r.Version, r.Method, r.Scheme, r.Authority, r.Target, r.Body.Length(), r.Local.String()}
	if d := cmp.Diff(wantHead, gotHead); d != "" {
		t.Error(d)
	}
	if !r.Peer.Addr().IsLoopback() || r.Peer.Port() == 0 || r.Received.IsZero() || r.Inform == nil {
		t.Errorf("peer %v, received %v", r.Peer, r.Received)
	}
}

// echo answers at once with the request's content as it comes.
func echo(_ context.Context, r *message.Request) (*message.Response, error) {
	reader, err := r.Body.Open()
	if err != nil {
		return nil, err
	}
	return &message.Response{
		Status: 200, Length: -1, Body: reader, Header: message.Header{{Name: "Content-Type", Value: "text/event-stream"}},
		Trailer: r.Body.Trailer,
	}, nil
}

func (s serverTest) streams(t *testing.T) {
	srv := s.start(t, message.RoundTripFunc(echo))
	pr, pw := io.Pipe()
	res := do(t, srv, "POST", "/", pr, nil)
	lines := bufio.NewReader(res.Body)
	for i := range 3 {
		line := fmt.Sprintf("line %d\n", i)
		if _, err := io.WriteString(pw, line); err != nil {
			t.Fatal(err)
		}
		if got, err := lines.ReadString('\n'); err != nil || got != line {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	big := strings.Repeat("0123456789abcdef", 100<<10/16)
	go func() {
		_, _ = io.WriteString(pw, big)
		_ = pw.Close()
	}()
	if rest, err := io.ReadAll(lines); err != nil || string(rest) != big {
		t.Fatalf("%d bytes of %d, %v", len(rest), len(big), err)
	}
}

func (s serverTest) earlyAnswer(t *testing.T) {
	for _, reads := range []bool{false, true} {
		t.Run(fmt.Sprintf("reads=%v", reads), func(t *testing.T) {
			srv := s.start(t, message.RoundTripFunc(func(_ context.Context, r *message.Request) (*message.Response, error) {
				if reads { // and waits for more when the exchange ends
					reader, err := r.Body.Open()
					if err != nil {
						return nil, err
					}
					go func() { _, _ = io.Copy(io.Discard, reader) }()
				}
				return Text(413, "too much"), nil
			}))
			pr, pw := io.Pipe()
			t.Cleanup(func() { _ = pw.Close() })
			go func() { _, _ = io.WriteString(pw, "some, then silence") }()
			res := do(t, srv, "POST", "/", pr, nil)
			if b, err := io.ReadAll(res.Body); res.StatusCode != 413 || err != nil || string(b) != "too much" {
				t.Fatalf("%d %q, %v", res.StatusCode, b, err)
			}
		})
	}
}

func (s serverTest) interim(t *testing.T) {
	srv := s.start(t, message.RoundTripFunc(func(_ context.Context, r *message.Request) (*message.Response, error) {
		r.Inform(103, message.Header{{Name: "Link", Value: "</a>"}})
		return Text(200, "final"), nil
	}))
	var got []string
	res := do(t, srv, "GET", "/", nil, func(r *http.Request) {
		*r = *r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
				got = append(got, fmt.Sprint(code, " ", h.Get("Link")))
				return nil
			},
		}))
	})
	if _, err := io.ReadAll(res.Body); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"103 </a>"}, got); d != "" || res.Header.Get("Link") != "" {
		t.Fatalf("interim answers: %s; final header %v", d, res.Header)
	}
}

func (s serverTest) trailers(t *testing.T) {
	srv := s.start(t, message.RoundTripFunc(func(_ context.Context, r *message.Request) (*message.Response, error) {
		reader, err := r.Body.Open()
		if err != nil {
			return nil, err
		}
		return &message.Response{
			Status: 200, Length: -1, Body: reader, Header: message.Header{{Name: "Trailer", Value: "X-Sum"}},
			Trailer: func() message.Header {
				return append(r.Body.Trailer(), message.Field{Name: "X-Late", Value: "unannounced"})
			},
		}, nil
	}))
	pr, pw := io.Pipe()
	go func() {
		_, _ = io.WriteString(pw, "content")
		_ = pw.Close()
	}()
	res := do(t, srv, "POST", "/", pr, func(r *http.Request) { r.Trailer = http.Header{"X-Sum": {"42"}} })
	if _, err := io.ReadAll(res.Body); err != nil {
		t.Fatal(err)
	}
	want := http.Header{"X-Sum": {"42"}, "X-Late": {"unannounced"}}
	if d := cmp.Diff(want, res.Trailer); d != "" {
		t.Fatal(d)
	}
}

func (s serverTest) noContent(t *testing.T) {
	for _, tt := range []struct {
		name, method string
		res          message.Response
		length       string // Content-Length of the answer
		content      string
	}{
		{name: "HEAD with content", method: "HEAD", res: *Text(200, "twelve bytes"), length: "12"},
		{name: "HEAD with a length alone", method: "HEAD", length: "1234", res: message.Response{
			Status: 200, Header: message.Header{{Name: "Content-Length", Value: "1234"}},
		}},
		{name: "HEAD without a length", method: "HEAD", res: message.Response{Status: 200, Length: -1}},
		{name: "204", method: "GET", res: message.Response{Status: 204}},
		{name: "304", method: "GET", res: message.Response{
			Status: 304, Header: message.Header{{Name: "Etag", Value: `"a"`}},
		}},
		{name: "200 and nothing", method: "GET", res: message.Response{Status: 200}, length: "0"},
		{name: "200 of unknown length", method: "GET", content: "abc", res: message.Response{
			Status: 200, Length: -1, Body: io.NopCloser(strings.NewReader("abc")),
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := s.start(t, message.RoundTripFunc(func(context.Context, *message.Request) (*message.Response, error) {
				return &tt.res, nil
			}))
			res := do(t, srv, tt.method, "/", nil, nil)
			b, err := io.ReadAll(res.Body)
			if err != nil || string(b) != tt.content {
				t.Fatalf("content %q, %v", b, err)
			}
			if got := res.Header.Get("Content-Length"); got != tt.length && tt.content == "" {
				t.Errorf("Content-Length %q, want %q", got, tt.length)
			}
		})
	}
}

func (s serverTest) addsNothing(t *testing.T) {
	srv := s.start(t, message.RoundTripFunc(func(context.Context, *message.Request) (*message.Response, error) {
		res := Text(200, "<html>")
		res.Header = message.Header{{Name: "X-Own", Value: "1"}, {Name: "Connection", Value: "X-Own"}, {Name: "Keep-Alive", Value: "1"}}
		return res, nil
	}))
	res := do(t, srv, "GET", "/", nil, nil)
	res.Header.Del("Date")
	want := http.Header{"Content-Length": {"6"}, "X-Own": {"1"}}
	if d := cmp.Diff(want, res.Header); d != "" {
		t.Fatal(d)
	}
}

// failingBody gives some bytes, then fails.
type failingBody struct {
	io.Reader
	err error
}

func (b *failingBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		err = b.err
	}
	return n, err
}

func (*failingBody) Close() error { return nil }

func (s serverTest) breaksOff(t *testing.T) {
	broken := errors.New("backend has gone")
	for _, tt := range []struct {
		name   string
		length int64
		err    error
	}{
		{"unknown length, failure", -1, broken},
		{"known length, failure", 100, broken},
		{"known length, early end", 100, io.EOF},
		{"known length, too much", 3, io.EOF},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := s.start(t, message.RoundTripFunc(func(context.Context, *message.Request) (*message.Response, error) {
				return &message.Response{Status: 200, Length: tt.length, Body: &failingBody{strings.NewReader("partial"), tt.err}}, nil
			}))
			req, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := srv.Client.RoundTrip(req)
			if err != nil {
				return // no answer at all is honest, too
			}
			defer res.Body.Close()
			if b, err := io.ReadAll(res.Body); err == nil {
				t.Fatalf("the client takes %q for the whole answer", b)
			}
		})
	}
}

func (s serverTest) cancel(t *testing.T) {
	began, ended := make(chan struct{}), make(chan struct{})
	srv := s.start(t, message.RoundTripFunc(func(ctx context.Context, _ *message.Request) (*message.Response, error) {
		close(began)
		<-ctx.Done()
		close(ended)
		return nil, ctx.Err()
	}))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", srv.URL+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	go func() {
		res, err := srv.Client.RoundTrip(req)
		if err == nil {
			_ = res.Body.Close()
		}
		failed <- err
	}()
	Within(t, "request", began)
	cancel()
	Within(t, "end of the context", ended)
	if err := Within(t, "client", failed); err == nil {
		t.Fatal("the client got an answer")
	}
}

func (s serverTest) handlerFails(t *testing.T) {
	srv := s.start(t, message.RoundTripFunc(func(context.Context, *message.Request) (*message.Response, error) {
		return nil, &message.TryError{Sent: message.NothingSent, To: "b1", Err: errors.New("refused")}
	}))
	if res := do(t, srv, "GET", "/", nil, nil); res.StatusCode != 502 {
		t.Fatal(res.Status)
	}
}

func (s serverTest) shutdown(t *testing.T) {
	began, finish := make(chan struct{}), make(chan struct{})
	srv := s.start(t, message.RoundTripFunc(func(context.Context, *message.Request) (*message.Response, error) {
		close(began)
		<-finish
		return Text(200, "finished"), nil
	}))
	answer := make(chan string, 1)
	go func() {
		req, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL+"/", nil)
		if err != nil {
			answer <- err.Error()
			return
		}
		res, err := srv.Client.RoundTrip(req)
		if err != nil {
			answer <- err.Error()
			return
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		answer <- fmt.Sprint(string(b), " ", err)
	}()
	Within(t, "request", began)
	stopped := make(chan error, 1)
	go func() { stopped <- srv.Shutdown(t.Context()) }()
	close(finish)
	if got := Within(t, "answer", answer); got != "finished <nil>" {
		t.Fatal(got)
	}
	if err := Within(t, "shutdown", stopped); err != nil {
		t.Fatal(err)
	}
}
