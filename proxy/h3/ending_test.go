package h3_test

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"

	"anyedge/internal/message"
	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h3"
)

// goAways reads the server's control stream, and gives what its GOAWAYs name.
func (c *rawClient) goAways() <-chan uint64 {
	c.t.Helper()
	u, err := c.AcceptUniStream(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	ids := make(chan uint64, 4)
	go func() {
		defer close(ids)
		r := quicvarint.NewReader(u)
		if kind, err := quicvarint.Read(r); err != nil || kind != 0 {
			return
		}
		for {
			kind, err1 := quicvarint.Read(r)
			length, err2 := quicvarint.Read(r)
			if err1 != nil || err2 != nil {
				return
			}
			if kind != 7 {
				_, _ = io.CopyN(io.Discard, r, int64(length))
				continue
			}
			id, err := quicvarint.Read(r)
			if err != nil {
				return
			}
			ids <- id
		}
	}()
	return ids
}

// A connection ends in two steps, so that no request is lost that was on its way.
func TestGoAway(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		last bool // an answer says so; else the server stops
	}{{"the server stops", false}, {"the last answer", true}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server, client := enginetest.TLS(t)
			release := make(chan struct{})
			s := h3.NewServer(h3.Config{TLS: server}, message.RoundTripFunc(func(_ context.Context, r *message.Request) (*message.Response, error) {
				if r.Method == "PUT" {
					<-release
				}
				res := enginetest.Text(200, "")
				res.Last = tt.last && r.Method == "GET"
				return res, nil
			}), enginetest.Log(t))
			c := dialRaw(t, client, serve(t, s).LocalAddr().String())
			c.uni(settings, false)
			ids := c.goAways()
			slow := c.bidi(request("PUT"), true)
			if got := c.outcome(c.bidi(request("GET"), true)); got != "200" {
				t.Fatal(got)
			}
			stopped := make(chan error, 1)
			if !tt.last {
				go func() { stopped <- s.Shutdown(t.Context()) }()
			}
			if id := enginetest.Within(t, "the first GOAWAY", ids); id != 1<<62-4 {
				t.Errorf("the first GOAWAY names %d", id)
			}
			if got := c.outcome(c.bidi(request("GET"), true)); got != "200" {
				t.Errorf("between the two: %s", got)
			}
			if id := enginetest.Within(t, "the second GOAWAY", ids); id != 12 {
				t.Errorf("the second GOAWAY names %d, want the fourth stream", id)
			}
			if got := c.outcome(c.bidi(request("GET"), true)); got != "stream 0x10b" {
				t.Errorf("behind the second: %s", got)
			}
			close(release)
			if got := c.outcome(slow); got != "200" {
				t.Errorf("the one that was being answered: %s", got)
			}
			enginetest.Within(t, "the connection's end", c.Context().Done())
			if got := outcome(nil, context.Cause(c.Context())); got != "connection 0x100" {
				t.Error(got)
			}
			if !tt.last {
				if err := enginetest.Within(t, "shutdown", stopped); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// A connection without a request ends as if the server did: what is on its way is
// still answered.
func TestIdle(t *testing.T) {
	t.Parallel()
	server, client := enginetest.TLS(t)
	c := dialRaw(t, client, serve(t, h3.NewServer(h3.Config{TLS: server, Idle: 200 * time.Millisecond}, ok, enginetest.Log(t))).LocalAddr().String())
	ids := c.goAways()
	if id := enginetest.Within(t, "the first GOAWAY", ids); id != 1<<62-4 {
		t.Errorf("the first GOAWAY names %d", id)
	}
	if got := c.outcome(c.bidi(request("GET"), true)); got != "200 ok" {
		t.Errorf("a request that was on its way: %s", got)
	}
	if id := enginetest.Within(t, "the second GOAWAY", ids); id != 4 {
		t.Errorf("the second GOAWAY names %d", id)
	}
	enginetest.Within(t, "the connection's end", c.Context().Done())
	if got := outcome(nil, context.Cause(c.Context())); got != "connection 0x100" {
		t.Error(got)
	}
}

// Who gives up requests as fast as it sends them loses its connection.
func TestRapidReset(t *testing.T) {
	t.Parallel()
	server, client := enginetest.TLS(t)
	var kept books
	addr := serve(t, h3.NewServer(h3.Config{TLS: server, Refused: refusals(&kept)}, message.RoundTripFunc(func(ctx context.Context, _ *message.Request) (*message.Response, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}), enginetest.Log(t))).LocalAddr().String()
	c := dialRaw(t, client, addr)
	for range 2000 {
		s, err := c.OpenStreamSync(t.Context())
		if err != nil {
			break
		}
		_, _ = io.WriteString(s, request("GET"))
		s.CancelRead(0x10c)
		s.CancelWrite(0x10c)
	}
	enginetest.Within(t, "the connection's end", c.Context().Done())
	if got := outcome(nil, context.Cause(c.Context())); got != "connection 0x107" {
		t.Error(got)
	}
	if got := kept.String(); !strings.Contains(got, "429 flood") {
		t.Errorf("the books say %q", got)
	}
}

// Requests that are given up count until their answerers are through with them.
func TestStreamsCountUntilAnswered(t *testing.T) {
	server, client := enginetest.TLS(t)
	release := make(chan struct{})
	began := make(chan struct{}, 10)
	addr := serve(t, h3.NewServer(h3.Config{TLS: server, Streams: 2}, message.RoundTripFunc(func(context.Context, *message.Request) (*message.Response, error) {
		began <- struct{}{}
		<-release
		return enginetest.Text(200, ""), nil
	}), enginetest.Log(t))).LocalAddr().String()
	c := dialRaw(t, client, addr)
	for range 2 {
		s := c.bidi(request("GET"), true)
		enginetest.Within(t, "request", began)
		s.CancelRead(0x10c)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := c.OpenStreamSync(ctx); err == nil {
		t.Error("a third request at once")
	}
	close(release)
	if got := c.outcome(c.bidi(request("GET"), true)); got != "200" {
		t.Error(got)
	}
}

func refusals(b *books) func(_ netip.AddrPort, status int, rule string) {
	return func(_ netip.AddrPort, status int, rule string) { b.add(status, rule) }
}

// Whoever keeps the books hears of what was not taken.
func TestRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, bytes, want, books string }{
		{"a slow header section", "\x01\x20" + bare, "408", "408 slow_header"},
		{"a large one", request("GET", "x: "+strings.Repeat("x", 5000)), "431", "431 header_size"},
		{"a bad one", request("GET", "connection: x"), "stream 0x10e", "400 field"},
		{"a broken frame rule", frame(0, "x"), "connection 0x105", "400 protocol"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server, client := enginetest.TLS(t)
			var kept books
			addr := serve(t, h3.NewServer(h3.Config{TLS: server, Header: 4 * message.KiB, HeaderTimeout: 500 * time.Millisecond, Refused: refusals(&kept)}, ok, enginetest.Log(t))).LocalAddr().String()
			c := dialRaw(t, client, addr)
			if got := c.outcome(c.bidi(tt.bytes, false)); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
			if got := kept.String(); got != tt.books {
				t.Errorf("the books say %q, want %q", got, tt.books)
			}
		})
	}
}

// A client has to keep 240 B/s, sending content and taking an answer; a conversation
// may be silent.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	server, client := enginetest.TLS(t)
	var kept books
	big := strings.Repeat("x", 2<<20)
	addr := serve(t, h3.NewServer(h3.Config{TLS: server, SlowAfter: 200 * time.Millisecond, Refused: refusals(&kept)}, message.RoundTripFunc(func(ctx context.Context, r *message.Request) (*message.Response, error) {
		switch r.Method {
		case "GET":
			return enginetest.Text(200, big), nil
		case "PUT":
			return echoAtOnce(r)
		}
		if res, err := echoes(ctx, r); err == nil {
			return res, nil
		}
		return enginetest.Text(408, ""), nil
	}), enginetest.Log(t))).LocalAddr().String()
	c := dialRaw(t, client, addr)
	for _, tt := range []struct{ name, bytes, want string }{
		{"a length", request("POST", "content-length: 10") + frame(0, "012"), "408 slow_content"},
		{"no length", request("POST") + frame(0, "012"), "408 slow_content"},
		{"half a trailer section", request("POST") + frame(0, "012") + "\x01\x20\x00", "408 slow_content"},
	} {
		if got := c.outcome(c.bidi(tt.bytes, false)); got != "408" {
			t.Errorf("%s: %s", tt.name, got)
		}
		if got := kept.take(); got != tt.want {
			t.Errorf("%s: the books say %q, want %q", tt.name, got, tt.want)
		}
	}
	for _, bytes := range []string{request("POST", "content-type: application/grpc"), request("PUT")} {
		s := c.bidi(bytes, false)
		time.AfterFunc(600*time.Millisecond, func() {
			_, _ = io.WriteString(s, frame(0, "late"))
			_ = s.Close()
		})
		if got := c.outcome(s); !strings.HasPrefix(got, "200") || !strings.Contains(got, "late") {
			t.Errorf("a conversation: %s", got)
		}
	}
	s := c.bidi(request("GET"), true)
	enginetest.Within(t, "a refusal", kept.filled())
	if got := kept.take(); got != "200 slow_reader" {
		t.Errorf("the books say %q", got)
	}
	s.CancelRead(0x10c)
}

// echoAtOnce answers before there is content.
func echoAtOnce(r *message.Request) (*message.Response, error) {
	reader, err := r.Body.Open()
	if err != nil {
		return nil, err
	}
	return &message.Response{Status: 200, Length: -1, Body: reader}, nil
}

// An answer that is whole ends an upload without an error.
func TestEarlyAnswerStopsTheUpload(t *testing.T) {
	server, client := enginetest.TLS(t)
	addr := serve(t, h3.NewServer(h3.Config{TLS: server}, message.RoundTripFunc(func(context.Context, *message.Request) (*message.Response, error) {
		return enginetest.Text(413, "too much"), nil
	}), enginetest.Log(t))).LocalAddr().String()
	c := dialRaw(t, client, addr)
	s := c.bidi(request("POST", "content-length: 1000000")+frame(0, "some"), false)
	if got := c.outcome(s); got != "413 too much" {
		t.Error(got)
	}
	enginetest.Within(t, "the end of the upload", s.Context().Done())
	var stopped *quic.StreamError
	if err := context.Cause(s.Context()); !errors.As(err, &stopped) || stopped.ErrorCode != 0x100 || !stopped.Remote {
		t.Error(err)
	}
}

// A client vanishes behind every byte of an exchange: by giving up the stream, by
// ending it, or with its connection. Nothing of it stays.
func TestVanish(t *testing.T) {
	server, client := enginetest.TLS(t)
	addr := serve(t, h3.NewServer(h3.Config{TLS: server, Streams: 4}, echoes, enginetest.Log(t))).LocalAddr().String()
	all := request("POST", "content-length: 6") + frame(0, "one") + frame(0x21, "x") + frame(0, "two") + headers("x-sum: 1")
	c := dialRaw(t, client, addr)
	for i := range len(all) + 1 {
		s := c.bidi(all[:i], false)
		s.CancelWrite(0x10c)
		s.CancelRead(0x10c)
		if i%8 != 0 {
			continue
		}
		one := dialRaw(t, client, addr)
		one.bidi(all[:i], false)
		_ = one.CloseWithError(0x100, "")
	}
	for range 8 { // the credit of all of them has come back
		if got := c.outcome(c.bidi(all, true)); got != `200 "onetwo" [{x-sum 1}] POST a/ []` {
			t.Error(got)
		}
	}
}

// Interim answers come before the final one, and 100 once.
func TestInterim(t *testing.T) {
	server, client := enginetest.TLS(t)
	addr := serve(t, h3.NewServer(h3.Config{TLS: server}, message.RoundTripFunc(func(_ context.Context, r *message.Request) (*message.Response, error) {
		r.Inform(103, message.Header{{Name: "X-Link", Value: "a"}})
		reader, err := r.Body.Open()
		if err != nil {
			return nil, err
		}
		b, err := io.ReadAll(reader)
		return enginetest.Text(200, string(b)), err
	}), enginetest.Log(t))).LocalAddr().String()
	c := dialRaw(t, client, addr)
	s := c.bidi(request("POST", "expect: 100-continue"), false)
	var got []string
	r := quicvarint.NewReader(s)
	for range 2 {
		_, _ = quicvarint.Read(r)
		length, _ := quicvarint.Read(r)
		b := make([]byte, length)
		_, _ = io.ReadFull(s, b)
		got = append(got, answer([]byte(frame(1, string(b)))))
	}
	_, _ = io.WriteString(s, frame(0, "content"))
	_ = s.Close()
	got = append(got, c.outcome(s))
	if want := []string{"103 x-link=a", "100", "200 content"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
