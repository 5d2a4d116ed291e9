package h3_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"anyedge/internal/message"
	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h3"
)

var ok = message.RoundTripFunc(func(context.Context, *message.Request) (*message.Response, error) {
	return enginetest.Text(200, "ok"), nil
})

func TestHeaderLimit(t *testing.T) {
	server, client := enginetest.TLS(t)
	addr := serve(t, h3.NewServer(h3.Config{TLS: server, Header: 4 * message.KiB}, ok, enginetest.Log(t))).LocalAddr()
	req, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+addr.String()+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Long", strings.Repeat("x", 10<<10))
	res, err := transport(t, client).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != 431 {
		t.Fatal(res.Status)
	}
}

// A shutdown whose time is over cuts requests off; it closes idle connections
// at once, and the client takes no answer for an answer.
func TestShutdownCutsOff(t *testing.T) {
	server, client := enginetest.TLS(t)
	began, ended := make(chan struct{}), make(chan struct{})
	s := h3.NewServer(h3.Config{TLS: server}, message.RoundTripFunc(func(ctx context.Context, _ *message.Request) (*message.Response, error) {
		close(began)
		<-ctx.Done()
		close(ended)
		return nil, ctx.Err()
	}), enginetest.Log(t))
	addr := serve(t, s).LocalAddr()
	tr := transport(t, client)
	failed := make(chan error, 1)
	go func() { failed <- get(t.Context(), tr, addr) }()
	enginetest.Within(t, "request", began)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("shutdown: %v", err)
	}
	enginetest.Within(t, "the request's context", ended)
	if err := enginetest.Within(t, "the client", failed); err == nil {
		t.Error("the client got an answer")
	}
}

// A client that ignores GOAWAY is closed after a while without requests.
func TestShutdownClosesIdle(t *testing.T) {
	t.Parallel()
	server, clientTLS := enginetest.TLS(t)
	s := h3.NewServer(h3.Config{TLS: server}, ok, enginetest.Log(t))
	addr := serve(t, s).LocalAddr()
	q, err := quic.DialAddr(t.Context(), addr.String(), http3.ConfigureTLSConfig(clientTLS), &quic.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), enginetest.Patience)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	enginetest.Within(t, "the connection's end", q.Context().Done())
	var closed *quic.ApplicationError
	if err := context.Cause(q.Context()); !errors.As(err, &closed) || closed.ErrorCode != quic.ApplicationErrorCode(http3.ErrCodeNoError) {
		t.Fatal(err)
	}
}

// An upgrade crosses HTTP/3 as an extended CONNECT; both ends see one of
// HTTP/1.
func TestUpgrade(t *testing.T) {
	type seen struct{ method, protocol, target, key string }
	got := make(chan seen, 1)
	server, client := enginetest.TLS(t)
	addr := serve(t, h3.NewServer(h3.Config{TLS: server}, message.RoundTripFunc(func(_ context.Context, r *message.Request) (*message.Response, error) {
		got <- seen{r.Method, strings.Clone(r.Protocol), strings.Clone(r.Target), strings.Clone(r.Header.Get("Sec-WebSocket-Key"))}
		near, far := net.Pipe()
		go func() {
			defer far.Close()
			b := make([]byte, 5)
			for range 2 {
				if _, err := io.ReadFull(far, b); err != nil {
					return
				}
				fmt.Fprintf(far, "echo %s", b)
			}
		}()
		return &message.Response{Status: 101, Stream: near, Header: message.Header{{Name: "Sec-WebSocket-Protocol", Value: "p"}}}, nil
	}), enginetest.Log(t))).LocalAddr()
	res, err := between(t, client, addr).RoundTrip(t.Context(), &message.Request{
		Method: "GET", Authority: "edge.example", Target: "/socket?x", Protocol: "websocket",
		Header: message.Header{{Name: "Sec-WebSocket-Key", Value: "k"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Close()
	if want := (seen{"GET", "websocket", "/socket?x", "k"}); enginetest.Within(t, "request", got) != want {
		t.Error("request changed")
	}
	if res.Status != 101 || res.Stream == nil || res.Header.Get("Sec-WebSocket-Protocol") != "p" {
		t.Fatalf("%+v", res)
	}
	b := make([]byte, 10)
	for _, word := range []string{"first", "again"} {
		if _, err := io.WriteString(res.Stream, word); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(res.Stream, b); err != nil || string(b) != "echo "+word {
			t.Fatalf("%q, %v", b, err)
		}
	}
	if rest, err := io.ReadAll(res.Stream); err != nil || len(rest) > 0 {
		t.Fatalf("%q, %v", rest, err)
	}
}

// What a failed try of the fabric's kind of client says.
func TestTries(t *testing.T) {
	server, client := enginetest.TLS(t)
	began := make(chan struct{})
	socket := serve(t, h3.NewServer(h3.Config{TLS: server}, message.RoundTripFunc(func(ctx context.Context, _ *message.Request) (*message.Response, error) {
		close(began)
		<-ctx.Done()
		return nil, ctx.Err()
	}), enginetest.Log(t)))
	request := func() *message.Request {
		return &message.Request{Method: "POST", Authority: "a", Target: "/", Body: message.NewBody(io.NopCloser(strings.NewReader("content")), 7, message.KiB, nil)}
	}
	check := func(err error, want message.Sent) {
		t.Helper()
		var try *message.TryError
		if !errors.As(err, &try) || try.Sent != want {
			t.Errorf("%v: want %v", err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-began; cancel() }()
	_, err := between(t, client, socket.LocalAddr()).RoundTrip(ctx, request())
	check(err, message.MaybeExecuted)

	ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = between(t, client, listen(t).LocalAddr()).RoundTrip(ctx, request()) // nobody reads there
	check(err, message.NothingSent)
}

// In HTTP/3 trailers need no announcement.
func TestUnannouncedRequestTrailers(t *testing.T) {
	server, client := enginetest.TLS(t)
	addr := serve(t, h3.NewServer(h3.Config{TLS: server}, message.RoundTripFunc(func(_ context.Context, r *message.Request) (*message.Response, error) {
		reader, err := r.Body.Open()
		if err != nil {
			return nil, err
		}
		if _, err := io.Copy(io.Discard, reader); err != nil {
			return nil, err
		}
		return enginetest.Text(200, fmt.Sprint(r.Body.Trailer())), nil
	}), enginetest.Log(t))).LocalAddr()
	res, err := between(t, client, addr).RoundTrip(t.Context(), &message.Request{
		Method: "POST", Authority: "a", Target: "/",
		Body: message.NewBody(io.NopCloser(strings.NewReader("x")), -1, 0, func() message.Header { return message.Header{{Name: "x-sum", Value: "1"}} }),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Close()
	if b, err := io.ReadAll(res.Body); err != nil || string(b) != "[{x-sum 1}]" {
		t.Fatalf("%q, %v", b, err)
	}
}
