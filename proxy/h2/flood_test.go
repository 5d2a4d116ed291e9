package h2_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"

	"anyedge/internal/message"
	"anyedge/proxy/h2"
)

func TestFloods(t *testing.T) {
	const most = 3000 // not more than the server takes in while the client reads why
	for _, tt := range []struct {
		name string
		send func(p *peer, i int) error
	}{
		{"empty DATA", func(p *peer, i int) error {
			if i == 0 {
				return p.request(1, false, "POST")
			}
			return p.WriteData(1, false, nil)
		}},
		{"padding alone", func(p *peer, i int) error {
			if i == 0 {
				return p.request(1, false, "POST")
			}
			return p.WriteDataPadded(1, false, nil, make([]byte, 10))
		}},
		{"DATA behind a reset", func(p *peer, i int) error {
			if i == 0 {
				_ = p.request(1, false, "POST")
				return p.WriteRSTStream(1, http2.ErrCodeCancel)
			}
			return p.WriteData(1, true, nil)
		}},
		{"PING", func(p *peer, _ int) error { return p.WritePing(false, [8]byte{}) }},
		{"PING answers", func(p *peer, _ int) error { return p.WritePing(true, [8]byte{}) }},
		{"SETTINGS", func(p *peer, _ int) error { return p.WriteSettings() }},
		{"PRIORITY", func(p *peer, _ int) error { return p.WritePriority(1, http2.PriorityParam{StreamDep: 3}) }},
		{"WINDOW_UPDATE", func(p *peer, _ int) error { return p.WriteWindowUpdate(0, 1) }},
		{"unknown frames", func(p *peer, _ int) error { return p.WriteRawFrame(0x77, 0, 0, nil) }},
		{"GOAWAY", func(p *peer, _ int) error { return p.WriteGoAway(0, http2.ErrCodeNo, nil) }},
		{"CONTINUATION", func(p *peer, i int) error {
			if i == 0 {
				return p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.encode(":method", "GET")})
			}
			return p.WriteContinuation(1, false, nil)
		}},
		{"streams that break", func(p *peer, i int) error {
			_ = p.request(uint32(2*i+1), false, "POST")
			return p.WriteWindowUpdate(uint32(2*i+1), 1<<31-1)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, addr := start(t, h2.Config{}, text)
			p := dial(t, addr)
			p.AllowIllegalWrites = true
			p.flood(most, func(i int) error { return tt.send(p, i) })
		})
	}
}

// CVE-2023-44487: each stream is given up as soon as it is asked for.
func TestRapidReset(t *testing.T) {
	const streams = 20
	var running, highest atomic.Int32
	_, addr := start(t, h2.Config{Streams: streams}, message.RoundTripFunc(func(ctx context.Context, _ *message.Request) (*message.Response, error) {
		n := running.Add(1)
		defer running.Add(-1)
		for h := highest.Load(); n > h && !highest.CompareAndSwap(h, n); h = highest.Load() {
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}))
	p := dial(t, addr)
	p.flood(3000, func(i int) error {
		id := uint32(2*i + 1)
		if err := p.request(id, true, "GET"); err != nil {
			return err
		}
		return p.WriteRSTStream(id, http2.ErrCodeCancel)
	})
	if n := highest.Load(); n == 0 || n > streams {
		t.Fatalf("%d handlers at once", n)
	}
}

// A client that downloads answers every piece with a PING and a WINDOW_UPDATE, as
// gRPC's do: that is no flood.
func TestDownloadIsNoFlood(t *testing.T) {
	const size = 3000 * 1000
	_, addr := start(t, h2.Config{}, message.RoundTripFunc(func(context.Context, *message.Request) (*message.Response, error) {
		return &message.Response{Status: 200, Length: size, Body: message.Content(strings.Repeat("x", size))}, nil
	}))
	p := dial(t, addr, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1000})
	p.must(p.request(1, true, "GET"))
	for got := 0; got < size; {
		d, ok := p.next().(*http2.DataFrame)
		if !ok {
			continue
		}
		n := len(d.Data())
		got += n
		p.must(p.WritePing(false, [8]byte{}))
		p.must(p.WriteWindowUpdate(0, uint32(n)))
		if !d.StreamEnded() {
			p.must(p.WriteWindowUpdate(1, uint32(n)))
		}
	}
}

func TestHeaderBombs(t *testing.T) {
	for _, tt := range []struct {
		name  string
		pairs func() []string
		want  string
	}{
		{"100 fields", func() []string { return numbered(100) }, "200"},
		{"101 fields", func() []string { return numbered(101) }, "431"},
		{"cookie crumbs are one field", func() []string {
			return append(numbered(99), strings.Split(strings.Repeat("cookie a=b ", 50)[:549], " ")...)
		}, "200"},
		{"a field over the limit", func() []string { return []string{"x", strings.Repeat("x", 65<<10)} }, "431"},
		{"a table entry said often", func() []string { // a byte each: 60 MB
			return append([]string{"bomb", strings.Repeat("x", 4000)}, strings.Split(strings.Repeat("bomb\n"+strings.Repeat("x", 4000)+"\n", 15_000)[:15_000*4006-1], "\n")...)
		}, "431"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, addr := start(t, h2.Config{}, text)
			p := dial(t, addr)
			block := p.encode(append([]string{":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/"}, tt.pairs()...)...)
			p.must(p.WriteHeaders(http2.HeadersFrameParam{
				StreamID: 1, BlockFragment: block[:min(len(block), 16000)], EndStream: true, EndHeaders: len(block) <= 16000,
			}))
			for len(block) > 16000 {
				block = block[16000:]
				p.must(p.WriteContinuation(1, len(block) <= 16000, block[:min(len(block), 16000)]))
			}
			if got := p.answer(1, false); len(got.statuses) != 1 || got.statuses[0] != tt.want {
				t.Fatalf("%+v", got)
			}
			// The table has to be right for the next request.
			p.must(p.request(3, true, "GET"))
			if got := p.answer(3, false); got.content != "word" {
				t.Fatalf("%+v", got)
			}
		})
	}
}

// numbered returns n fields.
func numbered(n int) (pairs []string) {
	for i := range n {
		pairs = append(pairs, fmt.Sprintf("x-%d", i), "v")
	}
	return pairs
}
