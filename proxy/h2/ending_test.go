package h2_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"anyedge/internal/message"
	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h2"
)

// endless answers with content that has no end.
var endless = message.RoundTripFunc(func(ctx context.Context, _ *message.Request) (*message.Response, error) {
	return &message.Response{Status: 200, Length: -1, Body: forever{ctx}}, nil
})

// forever is content without end; it ends with its context.
type forever struct{ ctx context.Context } //nolint:containedctx // of the exchange that it is content of

// Read fills p.
func (f forever) Read(p []byte) (int, error) { return len(p), f.ctx.Err() }

// Close does nothing.
func (forever) Close() error { return nil }

// Shutdown ends when its context does, whatever the clients do.
func TestShutdownIsCutShort(t *testing.T) {
	server, _ := enginetest.TLS(t, "h2")
	for _, tt := range []struct {
		name   string
		client func(t *testing.T, addr string, s *h2.Server)
		tls    bool
	}{
		{"connects only", func(t *testing.T, addr string, _ *h2.Server) { t.Helper(); silent(t, addr) }, false},
		{"shakes no hands", func(t *testing.T, addr string, _ *h2.Server) { t.Helper(); silent(t, addr) }, true},
		{"opens no window", func(t *testing.T, addr string, _ *h2.Server) {
			t.Helper()
			p := dial(t, addr, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
			p.must(p.request(1, true, "GET"))
			p.next()
		}, false},
		{"reads nothing", func(t *testing.T, addr string, _ *h2.Server) {
			t.Helper()
			p := dial(t, addr, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
			p.must(p.WriteWindowUpdate(0, 1<<30))
			p.must(p.request(1, true, "GET"))
			p.next()
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := h2.NewServer(h2.Config{}, endless, enginetest.Log(t))
			addr := enginetest.Listen(t, func(c net.Conn) {
				if tt.tls {
					c = tls.Server(c, server)
				}
				s.ServeConn(c)
			})
			tt.client(t, addr, s)
			eventually(t, "the connection", func() bool { return s.Conns() == 1 })
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			began := time.Now()
			if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// silent connects and says nothing.
func silent(t *testing.T, addr string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
}

// Two GOAWAYs: what is sent between them is answered, what comes later is not, and
// the last stream's end is the connection's.
func TestGoAwayInTwoSteps(t *testing.T) {
	release := make(chan struct{})
	s := h2.NewServer(h2.Config{}, message.RoundTripFunc(func(context.Context, *message.Request) (*message.Response, error) {
		<-release
		return enginetest.Text(200, "word"), nil
	}), enginetest.Log(t))
	p := dial(t, enginetest.Listen(t, s.ServeConn))
	p.must(p.request(1, true, "GET"))
	eventually(t, "the stream", func() bool { return !s.Settled() })
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(context.WithoutCancel(t.Context())) }()
	goAway := func() *http2.GoAwayFrame {
		for {
			f, err := p.ReadFrame()
			p.must(err)
			if g, ok := f.(*http2.GoAwayFrame); ok {
				return g
			}
		}
	}
	if g := goAway(); g.LastStreamID != 1<<31-1 || g.ErrCode != http2.ErrCodeNo {
		t.Fatal(g)
	}
	p.must(p.request(3, true, "GET"))
	if g := goAway(); g.LastStreamID != 3 || g.ErrCode != http2.ErrCodeNo {
		t.Fatal(g)
	}
	p.must(p.request(5, true, "GET"))
	p.must(p.WritePing(false, [8]byte{1}))
	for {
		f, err := p.ReadFrame()
		p.must(err)
		if _, ok := f.(*http2.PingFrame); ok {
			break
		}
	}
	close(release)
	ended := map[uint32]bool{}
	for {
		f, err := p.ReadFrame()
		if err != nil {
			break
		}
		switch f := f.(type) {
		case *http2.DataFrame:
			ended[f.StreamID] = ended[f.StreamID] || f.StreamEnded()
		case *http2.GoAwayFrame:
			if f.LastStreamID != 3 || f.ErrCode != http2.ErrCodeNo {
				t.Error(f)
			}
		}
	}
	if !ended[1] || !ended[3] || ended[5] {
		t.Error(ended)
	}
	if err := enginetest.Within(t, "Shutdown", done); err != nil {
		t.Error(err)
	}
}

// A bubble has a clock of its own: serve runs a server on a pipe whose frames go
// to each.
func bubble(t *testing.T, cfg h2.Config, handler message.RoundTripper, each func(http2.Frame)) (*h2.Server, *peer, <-chan struct{}) {
	t.Helper()
	s := h2.NewServer(cfg, handler, enginetest.Log(t))
	enginetest.Stop(t, s.Shutdown)
	ours, theirs := net.Pipe()
	s.ServeConn(ours)
	f := http2.NewFramer(theirs, theirs)
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				return
			}
			each(frame)
		}
	}()
	p := greet(t, theirs)
	_ = theirs.SetDeadline(time.Time{})
	return s, p, closed
}

// A connection ends when it has been idle, counted from its last stream's end. Its
// client is told before: a request may be on its way.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const idle, answering = time.Minute, 59 * time.Second
		var told []uint32
		s, p, closed := bubble(t, h2.Config{Idle: idle}, message.RoundTripFunc(func(ctx context.Context, _ *message.Request) (*message.Response, error) {
			select {
			case <-ctx.Done():
			case <-time.After(answering):
			}
			return &message.Response{Status: 204}, nil
		}), func(f http2.Frame) {
			if f, ok := f.(*http2.GoAwayFrame); ok {
				told = append(told, f.LastStreamID)
			}
		})
		began := time.Now()
		p.must(p.request(1, true, "GET"))
		<-closed
		if took := time.Since(began); took < idle+answering+time.Second || took > idle+answering+2*time.Second {
			t.Errorf("ended after %v", took)
		}
		if len(told) < 2 || told[0] != 1<<31-1 || told[1] != 1 {
			t.Errorf("told that %v are the last streams", told)
		}
		eventually(t, "no connection", func() bool { return s.Conns() == 0 })
	})
}

// A client that shows the preface and no SETTINGS has HeaderTimeout.
func TestHalfPreface(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := h2.NewServer(h2.Config{HeaderTimeout: 3 * time.Second}, text, enginetest.Log(t))
		ours, theirs := net.Pipe()
		s.ServeConn(ours)
		began := time.Now()
		go func() { _, _ = io.WriteString(theirs, http2.ClientPreface) }()
		_, _ = io.Copy(io.Discard, theirs)
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("ended after %v", took)
		}
	})
}

// A client that never opens a window keeps a stream for StallTimeout.
func TestStalledStreamEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var code http2.ErrCode
		reset := make(chan struct{})
		s, p, closed := bubble(t, h2.Config{}, message.RoundTripFunc(func(context.Context, *message.Request) (*message.Response, error) {
			return enginetest.Text(200, strings.Repeat("x", 100_000)), nil
		}), func(f http2.Frame) {
			if r, ok := f.(*http2.RSTStreamFrame); ok {
				code = r.ErrCode
				close(reset)
			}
		})
		began := time.Now()
		p.must(p.request(1, true, "GET"))
		<-reset
		if took := time.Since(began); code != http2.ErrCodeCancel || took != h2.StallTimeout {
			t.Errorf("%v after %v", code, took)
		}
		synctest.Wait()
		if !s.Settled() {
			t.Error("the handler has not ended")
		}
		_ = p.nc.Close()
		<-closed
	})
}

// A client that reads nothing keeps a connection for the time of one write.
func TestClientReadsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		s, p, closed := bubble(t, h2.Config{}, endless, func(f http2.Frame) {
			if _, ok := f.(*http2.HeadersFrame); ok {
				<-hold
			}
		})
		p.must(p.request(1, true, "GET"))
		for _, step := range []struct {
			wait  time.Duration
			conns int
		}{{h2.WriteTimeout - time.Second, 1}, {2 * time.Second, 0}} {
			<-time.After(step.wait)
			synctest.Wait()
			if n := s.Conns(); n != step.conns {
				t.Errorf("%d connections", n)
			}
		}
		close(hold)
		<-closed
	})
}
