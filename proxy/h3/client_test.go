package h3_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"anyedge/internal/message"
	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h3"
)

// rawServer answers connections by hand until the test ends; each gets its control
// stream, then its streams go to answer.
func rawServer(t *testing.T, control string, answer func(*quic.Conn, *quic.Stream)) (d *dialer) {
	t.Helper()
	server, client := enginetest.TLS(t, h3.ALPN)
	l, err := quic.ListenAddr("127.0.0.1:0", server, &quic.Config{})
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	running.Go(func() {
		for {
			q, err := l.Accept(ctx)
			if err != nil {
				return
			}
			running.Go(func() {
				u, err := q.OpenUniStream()
				if err != nil {
					return
				}
				_, _ = io.WriteString(u, control)
				for {
					s, err := q.AcceptStream(ctx)
					if err != nil {
						_ = q.CloseWithError(0x100, "")
						return
					}
					running.Go(func() { answer(q, s) })
				}
			})
		}
	})
	d = between(t, client, l.Addr()) // ends before the server does
	t.Cleanup(func() {
		cancel()
		_ = l.Close()
		running.Wait()
	})
	return d
}

// What a peer answers, and what becomes of it.
func TestAnswers(t *testing.T) {
	status := func(s string, more ...string) string { return headers(append([]string{":status: " + s}, more...)...) }
	for _, tt := range []struct{ name, bytes, want string }{
		{"content", status("200", "x-a: 1") + frame(0, "one") + frame(0, "two"), `200 [{x-a 1}] "onetwo" []`},
		{"a length", status("200", "content-length: 3") + frame(0, "one"), `200 [] "one" []`},
		{"trailers", status("200") + frame(0, "one") + headers("x-sum: 1"), `200 [] "one" [{x-sum 1}]`},
		{"interim answers", status("103", "link: a") + status("100") + status("204"), `103 [{link a}], 100 [], 204 []`},
		{"frames of unknown types", frame(0x21, "x") + status("404") + frame(0x21, "x"), `404 [] "" []`},

		{"nothing", "", "maybe executed"},
		{"content first", frame(0, "x"), "maybe executed"},
		{"no status", headers("x: 1"), "answered"},
		{"a status of two digits", status("20"), "answered"},
		{"a pseudo-header field of requests", status("200", ":path: /"), "answered"},
		{"101", status("101"), "answered"},
		{"interim answers without end", strings.Repeat(status("103"), 40), "answered"},
		{"a push", frame(5, "\x00"+bare), "maybe executed"},
		{"upper case", frame(1, "\x00\x00\xd9\x23X-A\x011"), "answered"},
		{"connection", status("200", "connection: close"), "answered"},
		{"more than its length", status("200", "content-length: 2") + frame(0, "one"), "answered"},
		{"less than its length", status("200", "content-length: 4") + frame(0, "one"), "answered"},
		{"half a frame", status("200") + "\x00\x04one", "answered"},
		{"a frame behind trailers", status("200") + headers("x: 1") + frame(0, "x"), "answered"},
		{"SETTINGS", status("200") + frame(4, ""), "answered"},
		{"a dynamic table", frame(1, "\x02\x00\x80"), "answered"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := rawServer(t, settings, func(_ *quic.Conn, s *quic.Stream) {
				_, _ = io.Copy(io.Discard, s)
				_, _ = io.WriteString(s, tt.bytes)
				_ = s.Close()
			})
			var got strings.Builder
			res, err := d.RoundTrip(t.Context(), &message.Request{Method: "GET", Authority: "a", Target: "/", Inform: func(status int, h message.Header) {
				fmt.Fprint(&got, status, " ", h, ", ")
			}})
			if err == nil {
				fmt.Fprint(&got, res.Status, " ", res.Header)
				if res.Body != nil {
					var b []byte
					b, err = io.ReadAll(res.Body)
					fmt.Fprintf(&got, " %q %v", b, res.Trailer())
				}
				res.Close()
			}
			if err != nil {
				got.Reset()
				fmt.Fprint(&got, message.SentBy(err))
			}
			if got.String() != tt.want {
				t.Errorf("%s, want %s (%v)", got.String(), tt.want, err)
			}
		})
	}
}

// Only a peer that has certainly done nothing is said to have done nothing.
func TestSent(t *testing.T) {
	reset := func(code quic.StreamErrorCode) func(*quic.Conn, *quic.Stream) {
		return func(_ *quic.Conn, s *quic.Stream) {
			s.CancelRead(code)
			s.CancelWrite(code)
		}
	}
	for _, tt := range []struct {
		name    string
		control string
		answer  func(*quic.Conn, *quic.Stream)
		want    message.Sent
	}{
		{"the stream is rejected", settings, reset(0x10b), message.NothingSent},
		{"the stream is cancelled", settings, reset(0x10c), message.MaybeExecuted},
		{"an internal error", settings, reset(0x102), message.MaybeExecuted},
		{"GOAWAY in front of it", settings + frame(7, "\x00"), func(_ *quic.Conn, s *quic.Stream) { <-s.Context().Done() }, message.NothingSent},
		{"GOAWAY behind it", settings + frame(7, "\x04"), reset(0x102), message.MaybeExecuted},
		{"the connection ends", settings, func(q *quic.Conn, _ *quic.Stream) { _ = q.CloseWithError(0x100, "") }, message.MaybeExecuted},
		{"GOAWAY that names no stream of ours", settings + frame(7, "\x03"), func(_ *quic.Conn, s *quic.Stream) { <-s.Context().Done() }, message.MaybeExecuted},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := rawServer(t, tt.control, tt.answer)
			for _, method := range []string{"GET", "POST"} {
				r := &message.Request{Method: method, Authority: "a", Target: "/"}
				if method == "POST" {
					r.Body = message.NewBody(io.NopCloser(strings.NewReader("content")), -1, message.KiB, nil)
				}
				_, err := d.RoundTrip(t.Context(), r)
				var try *message.TryError
				if !errors.As(err, &try) {
					t.Fatalf("%v is no failed try", err)
				}
				if tt.want == message.NothingSent && try.Sent != tt.want || method == "GET" && try.Sent > tt.want {
					t.Errorf("%s: %v, want %v", method, err, tt.want)
				}
			}
		})
	}
}

// quic-go's server takes what our client sends, and ours what it answers.
func TestAgainstQuicGo(t *testing.T) {
	server, client := enginetest.TLS(t)
	socket := listen(t)
	theirs := &http3.Server{TLSConfig: http3.ConfigureTLSConfig(server), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</a>")
		w.WriteHeader(103)
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "X-Sum")
		fmt.Fprintf(w, "%s %s%s %q %s", r.Method, r.Host, r.RequestURI, b, r.Header.Get("X-A"))
		w.Header().Set("X-Sum", r.Trailer.Get("X-Sum"))
	})}
	served := make(chan error, 1)
	go func() { served <- theirs.Serve(socket) }()
	t.Cleanup(func() {
		_ = theirs.Close()
		<-served
	})
	d := between(t, client, socket.LocalAddr())
	for _, length := range []int64{7, -1} {
		informed := 0
		res, err := d.RoundTrip(t.Context(), &message.Request{
			Method: "PUT", Authority: "edge.example", Target: "/a%2Fb?x", Header: message.Header{{Name: "X-A", Value: "1"}, {Name: "Connection", Value: "close"}},
			Body:   message.NewBody(io.NopCloser(strings.NewReader("content")), length, message.KiB, func() message.Header { return message.Header{{Name: "X-Sum", Value: "42"}} }),
			Inform: func(status int, _ message.Header) { informed = status },
		})
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		if err != nil || string(b) != `PUT edge.example/a%2Fb?x "content" 1` || informed != 103 || res.Trailer().Get("x-sum") != "42" {
			t.Errorf("%q, %v, informed of %d, trailer %v", b, err, informed, res.Trailer())
		}
		res.Close()
	}
}
