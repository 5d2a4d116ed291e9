package enginetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"anyedge/internal/message"
)

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
	if d := gocmp.Diff([]string{"103 </a>"}, got); d != "" || res.Header.Get("Link") != "" {
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
	if d := gocmp.Diff(want, res.trailer()); d != "" {
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
	if d := gocmp.Diff(want, res.Header); d != "" {
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
			defer func() { _ = res.Body.Close() }()
			if b, err := io.ReadAll(res.Body); err == nil && res.StatusCode == 200 {
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
	if res := do(t, srv, "GET", "/", nil, nil); res.Status != 502 {
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
		defer func() { _ = res.Body.Close() }()
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
