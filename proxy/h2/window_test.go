package h2_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"anyedge/internal/message"
	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h2"
)

// eventually waits for a condition.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.After(enginetest.Patience)
	for !ok() {
		select {
		case <-limit:
			tb.Fatalf("not in time: %s", what)
		case <-tick.C:
		}
	}
}

// Every byte of content is given back to the client once, whatever becomes of it.
func TestWindowsAreGivenBack(t *testing.T) {
	s, addr := start(t, h2.Config{}, message.RoundTripFunc(func(_ context.Context, r *message.Request) (*message.Response, error) {
		n := int64(len(r.Target)) // decides how much is read
		reader, err := r.Body.Open()
		if err != nil {
			return nil, err
		}
		_, _ = io.CopyN(io.Discard, reader, n*n*n)
		return enginetest.Text(200, "word"), nil
	}))
	p := dial(t, addr)
	p.AllowIllegalWrites = true
	read := make(chan struct{})
	go func() {
		defer close(read)
		for {
			if _, err := p.ReadFrame(); err != nil {
				return
			}
		}
	}()
	random := rand.New(rand.NewPCG(1, 2))
	block := make([]byte, 16000)
	for i := range 400 {
		id := uint32(2*i + 1)
		p.must(p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: p.encode(
			":method", "POST", ":scheme", "http", ":authority", "a", ":path", "/"+strings.Repeat("x", random.IntN(40)),
		)}))
		for range random.IntN(4) {
			pad := make([]byte, random.IntN(256))
			p.must(p.WriteDataPadded(id, random.IntN(5) == 0, block[:random.IntN(len(block))], pad))
		}
		if random.IntN(8) == 0 {
			p.must(p.WriteRSTStream(id, http2.ErrCodeCancel))
		} else {
			p.must(p.WriteData(id, true, block[:1]))
		}
	}
	eventually(t, "all windows whole", s.Settled)
	if s.Conns() != 1 {
		t.Fatal("the connection has ended")
	}
	_ = p.nc.Close()
	<-read
}

// upload sends n bytes as far as the windows let it, each frame with padding, and
// returns how many it got rid of when nothing moved for a while.
func (p *peer) upload(id uint32, n int, window int, pad []byte) (sent int) {
	p.t.Helper()
	conn, own := 65535, window
	block := make([]byte, 1000)
	size := len(block) + 1 + len(pad)
	for sent < n {
		for conn >= size && own >= size && sent < n {
			p.must(p.WriteDataPadded(id, sent+len(block) >= n, block, pad))
			conn, own, sent = conn-size, own-size, sent+len(block)
		}
		if sent >= n {
			return sent
		}
		_ = p.nc.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		f, err := p.ReadFrame()
		if err != nil {
			return sent
		}
		if w, ok := f.(*http2.WindowUpdateFrame); ok && w.StreamID == 0 {
			conn += int(w.Increment)
		} else if ok && w.StreamID == id {
			own += int(w.Increment)
		}
	}
	return sent
}

// announced is the window that SETTINGS give a stream.
const announced = 64 << 10

func TestUploadThroughWindows(t *testing.T) {
	for _, pad := range []int{0, 255} {
		t.Run(fmt.Sprintf("pad=%d", pad), func(t *testing.T) {
			const size = 10_000_000
			_, addr := start(t, h2.Config{}, message.RoundTripFunc(func(_ context.Context, r *message.Request) (*message.Response, error) {
				reader, err := r.Body.Open()
				if err != nil {
					return nil, err
				}
				n, err := io.Copy(io.Discard, reader)
				return enginetest.Text(200, fmt.Sprint(n)), err
			}))
			p := dial(t, addr)
			p.must(p.request(1, false, "POST"))
			if n := p.upload(1, size, announced, make([]byte, pad)); n != size {
				t.Fatalf("stuck behind %d bytes", n)
			}
			_ = p.nc.SetReadDeadline(time.Now().Add(enginetest.Patience))
			if got := p.answer(1, false); got.content != fmt.Sprint(size) {
				t.Fatalf("%+v", got)
			}
		})
	}
}

// Streams that nobody reads take no more than their windows, and hold up nobody.
func TestUnreadStreamsStarveNobody(t *testing.T) {
	const stalled = h2.DefaultStreams - 1
	release := make(chan struct{})
	_, addr := start(t, h2.Config{}, message.RoundTripFunc(func(ctx context.Context, r *message.Request) (*message.Response, error) {
		if r.Method == "PUT" {
			select {
			case <-release:
			case <-ctx.Done():
			}
			return enginetest.Text(200, "late"), nil
		}
		content, err := whole(r)
		return enginetest.Text(200, fmt.Sprint(len(content))), err
	}))
	defer close(release)
	p := dial(t, addr)
	block := make([]byte, 16<<10)
	for i := range stalled {
		id := uint32(2*i + 1)
		p.must(p.request(id, false, "PUT"))
		for range announced / len(block) {
			p.must(p.WriteData(id, false, block))
		}
	}
	id := uint32(2*stalled + 1)
	p.must(p.request(id, false, "POST"))
	for range announced / len(block) {
		p.must(p.WriteData(id, false, block))
	}
	p.must(p.WriteData(id, true, nil))
	if got := p.answer(id, false); got.content != fmt.Sprint(announced) {
		t.Fatalf("%+v", got)
	}
	// One byte more than a window ends the stream.
	p.must(p.WriteData(1, false, block[:1]))
	if got := p.answer(1, false); got.reset != http2.ErrCodeFlowControl {
		t.Fatalf("%+v", got)
	}
}

// A stream whose window is shut holds no other one up.
func TestShutWindow(t *testing.T) {
	_, addr := start(t, h2.Config{}, text)
	p := dial(t, addr, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	p.must(p.request(1, true, "GET"))
	p.must(p.request(3, true, "GET"))
	p.must(p.WriteWindowUpdate(3, 100))
	for content := ""; content != "word"; {
		switch f := p.next().(type) {
		case *http2.MetaHeadersFrame:
		case *http2.DataFrame:
			if content += string(f.Data()); f.StreamID != 3 {
				t.Fatal(f)
			}
		default:
			t.Fatal(f)
		}
	}
	p.must(p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 2}))
	for {
		if d, ok := p.next().(*http2.DataFrame); ok && d.StreamID == 1 {
			if string(d.Data()) != "wo" {
				t.Fatal(d)
			}
			break
		}
	}
	p.must(p.WriteWindowUpdate(0, 1<<31-1))
	if code, err := p.goAway(); err != nil || code != http2.ErrCodeFlowControl {
		t.Fatal(code, err)
	}
}
