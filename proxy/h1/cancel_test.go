package h1_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"anyedge/internal/message"
	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h1"
)

var errEnough = errors.New("enough")

// stages are where an exchange can be when it is given up. serve tells when it
// is there, unless the asking side notices.
var stages = []struct {
	name    string
	content bool // of endless length
	serve   func(c *net.TCPConn, r *bufio.Reader, there func())
	want    message.Sent // at least
	status  int          // of the head that comes; 0: none
	read    int          // bytes of content that come
}{
	{"waiting", false, func(_ *net.TCPConn, r *bufio.Reader, there func()) {
		take(r)
		there()
	}, message.MaybeExecuted, 0, 0},
	{"sending, the backend reads nothing", true, func(_ *net.TCPConn, r *bufio.Reader, there func()) {
		_, _ = r.ReadByte()
		there()
	}, message.MaybeExecuted, 0, 0},
	{"behind an interim answer", false, func(c *net.TCPConn, r *bufio.Reader, _ func()) {
		take(r)
		_, _ = io.WriteString(c, "HTTP/1.1 102 Processing\r\n\r\n")
	}, message.Answered, 0, 0},
	{"in the head", false, func(c *net.TCPConn, r *bufio.Reader, there func()) {
		take(r)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-")
		there()
	}, message.MaybeExecuted, 0, 0}, // whether it was read nobody sees
	{"before the content", false, func(c *net.TCPConn, r *bufio.Reader, _ func()) {
		take(r)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
	}, message.Answered, 200, 0},
	{"in the content", false, func(c *net.TCPConn, r *bufio.Reader, _ func()) {
		take(r)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n")
	}, message.Answered, 200, 4},
	{"in the content while sending", true, func(c *net.TCPConn, r *bufio.Reader, _ func()) {
		_, _ = r.ReadByte()
		_, _ = io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 9\r\n\r\npart")
	}, message.Answered, 413, 4},
}

// zeros is endless.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
func (zeros) Close() error               { return nil }

// A given-up exchange ends at once, says why and how far it got, and closes its
// connection.
func TestGivenUp(t *testing.T) {
	for _, tt := range stages {
		t.Run(tt.name, func(t *testing.T) {
			there, closed := make(chan struct{}, 2), make(chan struct{})
			tell := func() { there <- struct{}{} }
			addr, _ := backend(t, func(c *net.TCPConn, r *bufio.Reader) {
				tt.serve(c, r, tell)
				_, _ = io.Copy(io.Discard, r)
				close(closed)
			})
			ctx, cancel := context.WithCancelCause(t.Context())
			counted := &countedContext{Context: ctx}
			r := newRequest("GET", "")
			if tt.content {
				r = newRequest("POST", "")
				r.Body = message.NewBody(zeros{}, -1, message.KiB, nil)
			}
			r.Inform = func(int, message.Header) { tell() }
			c, failed := open(t, h1.ClientConfig{Addr: addr}), make(chan error, 1)
			go func() {
				res, err := c.RoundTrip(counted, r)
				if err == nil {
					_, err = io.ReadFull(res.Body, make([]byte, tt.read))
					if res.Status != tt.status || err != nil {
						t.Errorf("status %d, %v", res.Status, err)
					}
					tell()
					_, err = io.Copy(io.Discard, res.Body)
				}
				res.Close()
				failed <- err
			}()
			enginetest.Within(t, "the stage", there)
			cancel(errEnough)
			err := enginetest.Within(t, "the exchange", failed)
			enginetest.Within(t, "the connection", closed)
			if sent := message.SentBy(err); sent < tt.want {
				t.Errorf("%v, want %v", sent, tt.want)
			}
			if !errors.Is(err, errEnough) {
				t.Errorf("%v does not say why", err)
			}
			if n := counted.afterFuncs.Load(); n != 0 {
				t.Errorf("%d functions hang on the context", n)
			}
		})
	}
}

func TestGivenUpBefore(t *testing.T) {
	addr, opened := saying(t, okAnswer, false)
	c := open(t, h1.ClientConfig{Addr: addr})
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errEnough)
	for range 2 { // without and with a pooled connection
		_, err := c.RoundTrip(ctx, newRequest("GET", ""))
		wantSent(t, err, message.NothingSent)
		if !errors.Is(err, errEnough) {
			t.Error(err)
		}
		if _, err := answerTo(t, c, newRequest("GET", "")); err != nil {
			t.Fatal(err)
		}
	}
	if n := opened.Load(); n > 2 {
		t.Errorf("%d connections", n)
	}
}

// Who is given up while nobody accepts.
func TestGivenUpWhileDialling(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	failed := make(chan error, 1)
	go func() {
		c := open(t, h1.ClientConfig{Addr: "192.0.2.1:9", Connect: enginetest.Patience})
		_, err := c.RoundTrip(ctx, newRequest("POST", "content"))
		failed <- err
	}()
	cancel(errEnough)
	err := enginetest.Within(t, "the try", failed)
	if errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EHOSTUNREACH) {
		t.Skip(err) // too soon
	}
	wantSent(t, err, message.NothingSent)
	if !errors.Is(err, errEnough) {
		t.Error(err)
	}
}

// A write that waits for the backend ends, too.
func TestGivenUpWhileWriting(t *testing.T) {
	over := make(chan struct{})
	addr, _ := backend(t, func(*net.TCPConn, *bufio.Reader) { <-over })
	t.Cleanup(func() { close(over) })
	ctx, cancel := context.WithCancelCause(t.Context())
	r := newRequest("POST", "")
	r.Body = message.NewBody(zeros{}, -1, message.KiB, nil)
	c, failed := open(t, h1.ClientConfig{Addr: addr}), make(chan error, 1)
	go func() {
		_, err := c.RoundTrip(ctx, r)
		failed <- err
	}()
	for same, last := 0, int64(0); same < 10; same++ {
		<-time.After(10 * time.Millisecond)
		if n := r.Body.Received(); n != last || n == 0 {
			same, last = 0, n
		}
	}
	cancel(errEnough)
	err := enginetest.Within(t, "the exchange", failed)
	wantSent(t, err, message.MaybeExecuted)
	if !errors.Is(err, errEnough) {
		t.Error(err)
	}
}

// What ends behind the last byte concerns nobody, and the connection is kept.
func TestGivenUpBehind(t *testing.T) {
	addr, opened := saying(t, okAnswer, false)
	c := open(t, h1.ClientConfig{Addr: addr})
	for range 20 {
		ctx, cancel := context.WithCancelCause(t.Context())
		counted := &countedContext{Context: ctx}
		res, err := c.RoundTrip(counted, newRequest("GET", ""))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		if string(b) != "ok" || err != nil || counted.afterFuncs.Load() != 0 {
			t.Fatalf("%q, %v, %d functions left", b, err, counted.afterFuncs.Load())
		}
		cancel(errEnough)
		res.Close()
		res.Close()
	}
	if n := opened.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// Whatever is given up in whatever moment, no other exchange notices.
func TestGivenUpAnytime(t *testing.T) {
	addr, _ := saying(t, "HTTP/1.1 200 OK\r\nContent-Length: 4096\r\n\r\n"+strings.Repeat("x", 4096), false)
	c := open(t, h1.ClientConfig{Addr: addr})
	for i := range 300 {
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() {
			for range i * 20 { // some while
				_ = ctx.Err()
			}
			cancel(errEnough)
		}()
		res, err := c.RoundTrip(ctx, newRequest("POST", "content"))
		if err == nil {
			_, err = io.Copy(io.Discard, res.Body)
		}
		res.Close()
		if err != nil && !errors.Is(err, errEnough) {
			t.Fatal(err)
		}
		if got, err := answerTo(t, c, newRequest("POST", "content")); err != nil || len(got) != 4100 {
			t.Fatalf("the next one: %q, %v", got, err)
		}
	}
}

// Content that is not read to its end takes its connection with it.
func TestClosedEarly(t *testing.T) {
	for _, framing := range []string{"Content-Length: 4096\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n1000\r\n"} {
		closed := make(chan struct{}, 1)
		addr, _ := backend(t, func(c *net.TCPConn, r *bufio.Reader) {
			take(r)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n"+framing+"part")
			_, _ = r.ReadByte()
			closed <- struct{}{}
		})
		res, err := open(t, h1.ClientConfig{Addr: addr}).RoundTrip(t.Context(), newRequest("GET", ""))
		if err != nil {
			t.Fatal(err)
		}
		res.Close()
		enginetest.Within(t, "the connection's end", closed)
		if n, err := res.Body.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, io.EOF) {
			t.Errorf("reads on: %d, %v", n, err)
		}
		if n := message.Ready(res.Body); n != 0 {
			t.Errorf("%d bytes are ready", n)
		}
	}
}
