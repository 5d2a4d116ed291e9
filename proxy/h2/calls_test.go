package h2_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"anyedge/internal/message"
	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h2"
)

// serveText answers every request on the connection with a word.
func serveText(p *peer) {
	for id := p.headers(); id != 0; id = p.headers() {
		p.text(id, "word")
	}
}

func maxStreams(n uint32) http2.Setting {
	return http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: n}
}

// Requests one after another need one connection, those beyond the backend's
// limit of streams another one.
func TestConnections(t *testing.T) {
	const calls = 7
	for most, want := range map[uint32]int32{100: 1, 4: 2, 1: calls} {
		t.Run(fmt.Sprint("streams ", most), func(t *testing.T) {
			release := make(chan struct{})
			addr, opened := play(t, func(p *peer) {
				var ids []uint32
				for id := p.headers(); id != 0; id = p.headers() {
					if ids = append(ids, id); len(ids) > int(most) {
						t.Errorf("%d streams at once", len(ids))
					}
					p.head(id, false, ":status", "200")
					go func() {
						<-release
						_ = p.nc.Close()
					}()
				}
			}, maxStreams(most))
			c := open(t, h2.ClientConfig{Addr: addr, Connect: enginetest.Patience})
			for range calls {
				res, err := c.RoundTrip(t.Context(), get())
				if err != nil {
					t.Fatal(err)
				}
				defer res.Close()
			}
			if n := opened.Load(); n != want {
				t.Errorf("%d connections, want %d", n, want)
			}
			close(release)
		})
	}
	t.Run("one after another", func(t *testing.T) {
		addr, opened := play(t, serveText, maxStreams(1))
		c := open(t, h2.ClientConfig{Addr: addr})
		for range 20 {
			if _, text, err := ask(t.Context(), c, get()); text != "word" || err != nil {
				t.Fatal(text, err)
			}
		}
		if n := opened.Load(); n != 1 {
			t.Errorf("%d connections", n)
		}
	})
}

// Connections are bounded; who gets no room is not sent.
func TestAllConnectionsAreFull(t *testing.T) {
	addr, opened := play(t, func(p *peer) {
		for id := p.headers(); id != 0; id = p.headers() {
			p.head(id, false, ":status", "200")
		}
	}, maxStreams(1))
	c := open(t, h2.ClientConfig{Addr: addr, Connect: 200 * time.Millisecond})
	var last *message.Response
	for range h2.MaxConns {
		res, err := c.RoundTrip(t.Context(), get())
		if err != nil {
			t.Fatal(err)
		}
		defer res.Close()
		last = res
	}
	_, err := c.RoundTrip(t.Context(), get())
	wantSent(t, err, message.NothingSent)
	if n := opened.Load(); n != h2.MaxConns {
		t.Errorf("%d connections", n)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errEnough)
	if _, err := c.RoundTrip(ctx, get()); !errors.Is(err, errEnough) {
		t.Error(err)
	}
	last.Close() // there is room
	res, err := c.RoundTrip(t.Context(), get())
	if err != nil {
		t.Fatal(err)
	}
	res.Close()
}

var errEnough = errors.New("enough")

// A backend that goes away says what it has not seen: that is sent again.
func TestGoAway(t *testing.T) {
	var first atomic.Bool
	addr, opened := play(t, func(p *peer) {
		if first.CompareAndSwap(false, true) {
			one, two := p.headers(), p.headers()
			_ = p.WriteGoAway(1<<31-1, http2.ErrCodeNo, nil)
			_ = p.WriteGoAway(one, http2.ErrCodeNo, nil)
			_ = two
			p.text(one, "word")
			if p.headers() != 0 {
				t.Error("a request behind the GOAWAY")
			}
			return
		}
		serveText(p)
	})
	c := open(t, h2.ClientConfig{Addr: addr})
	got := make(chan error, 2)
	for range 2 {
		go func() {
			_, text, err := ask(t.Context(), c, post())
			if err == nil && text != "word" {
				err = errors.New(text)
			}
			got <- err
		}()
	}
	for range 2 {
		if err := enginetest.Within(t, "an answer", got); err != nil {
			t.Error(err)
		}
	}
	if n := opened.Load(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

// How far tries get that come to nothing.
func TestFailedTries(t *testing.T) {
	refused := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
		return l.Addr().String()
	}
	script := func(f func(p *peer, id uint32)) func() string {
		return func() string {
			addr, _ := play(t, func(p *peer) {
				if id := p.headers(); id != 0 {
					f(p, id)
				}
			})
			return addr
		}
	}
	for _, tt := range []struct {
		name string
		addr func() string
		want message.Sent
	}{
		{"nobody listens", refused, message.NothingSent},
		{"closes at once", func() string { return enginetest.Listen(t, func(c net.Conn) { _ = c.Close() }) }, message.NothingSent},
		{"says nothing", func() string { return enginetest.Listen(t, func(net.Conn) {}) }, message.NothingSent},
		{"refuses", script(func(p *peer, id uint32) { _ = p.WriteRSTStream(id, http2.ErrCodeRefusedStream); p.headers() }), message.NothingSent},
		{"leaves each time", script(func(p *peer, _ uint32) { _ = p.WriteGoAway(0, http2.ErrCodeNo, nil) }), message.NothingSent},
		{"resets", script(func(p *peer, id uint32) { _ = p.WriteRSTStream(id, http2.ErrCodeInternal); p.headers() }), message.MaybeExecuted},
		{"closes behind the request", script(func(*peer, uint32) {}), message.MaybeExecuted},
		{"leaves with it", script(func(p *peer, id uint32) { _ = p.WriteGoAway(id, http2.ErrCodeInternal, nil) }), message.MaybeExecuted},
		{"refuses behind an interim answer", script(func(p *peer, id uint32) {
			p.head(id, false, ":status", "103")
			_ = p.WriteRSTStream(id, http2.ErrCodeRefusedStream)
			p.headers()
		}), message.Answered},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, r := range []*message.Request{get(), post()} {
				_, _, err := ask(t.Context(), open(t, h2.ClientConfig{Addr: tt.addr(), Connect: 500 * time.Millisecond}), r)
				wantSent(t, err, tt.want)
			}
		})
	}
}

// A backend with open streams that says nothing more is asked whether it lives.
func TestLiveness(t *testing.T) {
	for _, lives := range []bool{true, false} {
		pings := make(chan struct{}, 100)
		addr, _ := play(t, func(p *peer) {
			answered := 0
			for {
				f, err := p.ReadFrame()
				if err != nil {
					return
				}
				if ping, ok := f.(*http2.PingFrame); ok {
					pings <- struct{}{}
					if answered++; answered > 3 {
						p.text(1, "late")
					} else if lives {
						_ = p.WritePing(true, ping.Data)
					}
				}
			}
		})
		c := open(t, h2.ClientConfig{Addr: addr, Idle: 30 * time.Millisecond}) // bounds the silence, too
		_, text, err := ask(t.Context(), c, get())
		enginetest.Within(t, "PING", pings)
		if lives != (err == nil) || lives && text != "late" {
			t.Errorf("lives %v: %q, %v", lives, text, err)
		}
		if !lives {
			wantSent(t, err, message.MaybeExecuted)
		}
	}
}

// Connections without a stream are closed after a while, and by Close.
func TestIdleConnections(t *testing.T) {
	for _, idle := range []time.Duration{20 * time.Millisecond, time.Hour} {
		closed := make(chan struct{}, 1)
		addr, _ := play(t, func(p *peer) {
			serveText(p)
			closed <- struct{}{}
		})
		c := open(t, h2.ClientConfig{Addr: addr, Idle: idle})
		if _, text, err := ask(t.Context(), c, get()); text != "word" || err != nil {
			t.Fatal(text, err)
		}
		if idle == time.Hour {
			c.Close()
		}
		enginetest.Within(t, "the connection's end", closed)
	}
}

// A closed client lets what runs end.
func TestCloseLetsExchangesEnd(t *testing.T) {
	closed, ended := make(chan struct{}), make(chan struct{})
	addr, _ := play(t, func(p *peer) {
		id := p.headers()
		p.head(id, false, ":status", "200")
		<-closed
		_ = p.WriteData(id, true, []byte("word"))
		for p.headers() != 0 {
		}
		close(ended)
	})
	c := open(t, h2.ClientConfig{Addr: addr})
	res, err := c.RoundTrip(t.Context(), get())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	close(closed)
	if b, err := io.ReadAll(res.Body); string(b) != "word" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	enginetest.Within(t, "the connection's end", ended)
}

// A slow backend is given up, and told so; the time of an upload does not count.
func TestResponseHeaderTimeout(t *testing.T) {
	reset := make(chan http2.ErrCode, 1)
	addr, _ := play(t, func(p *peer) {
		id := p.headers()
		code, _, _ := p.outcomeOf(id)
		reset <- code
	})
	_, _, err := ask(t.Context(), open(t, h2.ClientConfig{Addr: addr, ResponseHeader: 20 * time.Millisecond}), post())
	wantSent(t, err, message.MaybeExecuted)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	if code := enginetest.Within(t, "RST_STREAM", reset); code != http2.ErrCodeCancel {
		t.Error(code)
	}
}

// Who gives up an exchange ends its stream alone, wherever it is.
func TestGivenUp(t *testing.T) {
	for _, tt := range []struct {
		name string
		say  func(p *peer)
		sent message.Sent
	}{
		{"waiting", func(*peer) {}, message.MaybeExecuted},
		{"behind an interim answer", func(p *peer) { p.head(1, false, ":status", "103") }, message.Answered},
		{"before the content", func(p *peer) { p.head(1, false, ":status", "200") }, message.Answered},
		{"in the content", func(p *peer) {
			p.head(1, false, ":status", "200")
			_ = p.WriteData(1, false, []byte("part"))
		}, message.Answered},
	} {
		for _, content := range []bool{false, true} {
			t.Run(fmt.Sprint(tt.name, " content ", content), func(t *testing.T) {
				there, reset := make(chan struct{}), make(chan http2.ErrCode, 1)
				addr, opened := play(t, func(p *peer) {
					_ = p.headers()
					tt.say(p)
					close(there)
					code, _, _ := p.outcomeOf(1)
					reset <- code
					_ = p.WriteData(1, false, make([]byte, 1000)) // which was on its way
					serveText(p)
				})
				ctx, cancel := context.WithCancelCause(t.Context())
				c := open(t, h2.ClientConfig{Addr: addr})
				failed := make(chan error, 1)
				r := get()
				if content {
					pr, pw := io.Pipe()
					defer pw.Close()
					r.Method, r.Body = "POST", message.NewBody(pr, -1, message.KiB, nil)
				}
				go func() {
					_, _, err := ask(ctx, c, r)
					failed <- err
				}()
				enginetest.Within(t, "the stage", there)
				cancel(errEnough)
				err := enginetest.Within(t, "the exchange", failed)
				if !errors.Is(err, errEnough) || message.SentBy(err) > tt.sent || message.SentBy(err) < message.MaybeExecuted {
					t.Error(err)
				}
				if code := enginetest.Within(t, "RST_STREAM", reset); code != http2.ErrCodeCancel {
					t.Error(code)
				}
				if _, text, err := ask(t.Context(), c, get()); text != "word" || err != nil || opened.Load() != 1 {
					t.Errorf("the next one: %q, %v, connection %d", text, err, opened.Load())
				}
			})
		}
	}
}
