package enginetest

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"anyedge/internal/message"
)

// A Server is an engine's answering side under test.
type Server struct {
	URL      string            // scheme://HOST:PORT that Client reaches it at
	Client   http.RoundTripper // of the engine's version
	Shutdown func(context.Context) error
	Local    string // where requests arrive; default the host of URL
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
	t.Run("request without content", s.bare)
	t.Run("streams both ways", s.streams)
	t.Run("early answer during upload", s.earlyAnswer)
	t.Run("content is handed over", s.handOver)
	t.Run("interim answer", s.interim)
	t.Run("trailers", s.trailers)
	t.Run("answers without content", s.noContent)
	t.Run("adds nothing", s.addsNothing)
	t.Run("answer breaks off", s.breaksOff)
	t.Run("client goes away", s.cancel)
	t.Run("handler fails", s.handlerFails)
	t.Run("shutdown waits", s.shutdown)
}

// A reply is an answer that is closed when the test ends.
type reply struct {
	Status  int
	Header  http.Header
	Body    io.Reader
	trailer func() http.Header // after the end of Body
}

// do sends a request with an exact target.
func do(t *testing.T, s Server, method, target string, body io.Reader, edit func(*http.Request)) reply {
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
	return reply{res.StatusCode, res.Header, res.Body, func() http.Header { return res.Trailer }}
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
		got <- kept(r)
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
		{Name: "Te", Value: "trailers"},
		{Name: "User-Agent", Value: "test"},
		{Name: "X-Two", Value: "1"},
		{Name: "X-Two", Value: "2"},
	}
	if d := gocmp.Diff(want, inOrder(r.Header)); d != "" {
		t.Error(d)
	}
	type head struct {
		Version                           message.Version
		Method, Scheme, Authority, Target string
		Length                            int64
		Local                             string
	}
	wantHead := head{s.version, "PUT", base.Scheme, "edge.example", target, 7, cmp.Or(srv.Local, base.Host)}
	gotHead := head{r.Version, r.Method, r.Scheme, r.Authority, r.Target, r.Body.Length(), r.Local.String()}
	if d := gocmp.Diff(wantHead, gotHead); d != "" {
		t.Error(d)
	}
	if !r.Peer.Addr().IsLoopback() || r.Peer.Port() == 0 || r.Received.IsZero() || r.Inform == nil {
		t.Errorf("peer %v, received %v", r.Peer, r.Received)
	}
}

// kept returns what of r may be read behind its exchange.
func kept(r *message.Request) *message.Request {
	c := *r
	c.Arena = nil
	for _, s := range []*string{&c.Method, &c.Scheme, &c.Authority, &c.Target, &c.Protocol} {
		*s = strings.Clone(*s)
	}
	c.Header = r.Header.Clone()
	for i, f := range c.Header {
		c.Header[i] = message.Field{Name: strings.Clone(f.Name), Value: strings.Clone(f.Value)}
	}
	return &c
}

// inOrder returns h by name, and with canonical names: both are the version's own.
// Lines of one name keep their order in all of them.
func inOrder(h message.Header) message.Header {
	out := h.Clone()
	for i := range out {
		out[i].Name = http.CanonicalHeaderKey(out[i].Name)
	}
	slices.SortStableFunc(out, func(a, b message.Field) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func (s serverTest) bare(t *testing.T) {
	got := make(chan *message.Request, 1)
	srv := s.start(t, message.RoundTripFunc(func(_ context.Context, r *message.Request) (*message.Response, error) {
		got <- kept(r)
		return Text(200, ""), nil
	}))
	for _, method := range []string{"GET", "HEAD", "OPTIONS", "DELETE"} {
		do(t, srv, method, "/", nil, nil)
		if r := Within(t, "request", got); r.Body != nil || r.Method != method {
			t.Errorf("%s: method %s, body %v", method, r.Method, r.Body)
		}
	}
	// Content of a GET is unusual, but must not be lost, however late.
	pr, pw := io.Pipe()
	late := s.start(t, message.RoundTripFunc(echo))
	res := do(t, late, "GET", "/", pr, nil)
	for _, line := range []string{"one\n", "two\n"} {
		go func() { _, _ = io.WriteString(pw, line) }()
		b := make([]byte, len(line))
		if _, err := io.ReadFull(res.Body, b); err != nil || string(b) != line {
			t.Fatalf("%q, %v", b, err)
		}
	}
	_ = pw.Close()
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
			if b, err := io.ReadAll(res.Body); res.Status != 413 || err != nil || string(b) != "too much" {
				t.Fatalf("%d %q, %v", res.Status, b, err)
			}
		})
	}
}
