package h2_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"anyedge/internal/message"
	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h2"
)

// wholeAnswer is the content of answered's answer.
const wholeAnswer = "the whole answer"

// answered returns what a lively backend says to one request.
func answered(tb testing.TB) []byte {
	tb.Helper()
	var out bytes.Buffer
	p := &peer{Framer: http2.NewFramer(&out, nil), t: tb}
	p.enc = hpack.NewEncoder(&p.hb)
	p.must(p.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 10}, http2.Setting{ID: 8, Val: 1}))
	p.must(p.WriteSettingsAck())
	p.must(p.WritePing(false, [8]byte{}))
	p.head(1, false, ":status", "103", "link", "</a>")
	p.head(1, false, ":status", "200", "content-length", "16", "set-cookie", "a=b", "set-cookie", "c=d")
	p.must(p.WriteWindowUpdate(1, 100))
	p.must(p.WriteDataPadded(1, false, []byte(wholeAnswer[:4]), make([]byte, 3)))
	p.must(p.WriteWindowUpdate(0, 100))
	p.must(p.WriteData(1, false, []byte(wholeAnswer[4:])))
	p.must(p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndStream: true, BlockFragment: p.encode("sum", "7")}))
	p.must(p.WriteContinuation(1, true, p.encode("more", "8")))
	p.must(p.WriteRSTStream(1, http2.ErrCodeNo))
	p.must(p.WriteGoAway(1, http2.ErrCodeNo, []byte("bye")))
	return out.Bytes()
}

// greeting is how many bytes of it come before the request.
const greeting = 9 + 2*6

// saying is a backend that says something and goes away, whatever it is asked: the
// first bytes at once, the rest behind the request.
func saying(tb testing.TB, says *atomic.Pointer[[]byte]) (addr string, stop func()) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { say(nc, *says.Load()) })
		}
	})
	return l.Addr().String(), func() { _ = l.Close(); all.Wait() }
}

// say is one connection of saying.
func say(nc net.Conn, what []byte) {
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(enginetest.Patience))
	n := min(len(what), greeting)
	_, _ = nc.Write(what[:n])
	if n < len(what) {
		_, _ = io.CopyN(io.Discard, nc, int64(len(http2.ClientPreface)))
		for f := http2.NewFramer(nil, nc); ; {
			if frame, err := f.ReadFrame(); err != nil || frame.Header().Type == http2.FrameHeaders {
				break
			}
		}
		_, _ = nc.Write(what[n:])
	}
	_ = nc.(*net.TCPConn).CloseWrite()
	_, _ = io.Copy(io.Discard, nc)
}

// A backend goes away behind every byte of an answer: the answer is whole, or an
// error.
func TestVanishingBackend(t *testing.T) {
	all := answered(t)
	var says atomic.Pointer[[]byte]
	addr, stop := saying(t, &says)
	defer stop()
	whole := 0
	for n := range len(all) + 1 {
		for _, r := range []*message.Request{get(), post()} {
			part := all[:n]
			says.Store(&part)
			c := open(t, h2.ClientConfig{Addr: addr})
			_, text, err := ask(t.Context(), c, r)
			c.Close()
			switch {
			case err == nil && text != wholeAnswer:
				t.Fatalf("behind %d bytes: %q", n, text)
			case err == nil:
				whole++
			default:
				if _, ok := errors.AsType[*message.TryError](err); !ok || !strings.HasPrefix(wholeAnswer, text) {
					t.Fatalf("behind %d bytes: %q, %v", n, text, err)
				}
			}
		}
	}
	if whole < 2 {
		t.Errorf("%d answers were whole", whole)
	}
}

// FuzzClient has a backend say anything behind its preface: the client neither panics nor hangs, and
// nothing is left.
func FuzzClient(f *testing.F) {
	all := answered(f)
	f.Add(all[greeting:])
	f.Add(all[greeting : len(all)/2])
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	var says atomic.Pointer[[]byte]
	addr, stop := saying(f, &says)
	f.Cleanup(stop)
	f.Fuzz(func(t *testing.T, in []byte) {
		in = slices.Concat(all[:greeting], in)
		says.Store(&in)
		c := h2.NewClient(h2.ClientConfig{Addr: addr, Connect: 200 * time.Millisecond})
		defer c.Close()
		r := post()
		r.Header.Add("Expect", "nothing")
		_, _, err := ask(t.Context(), c, r)
		if _, ok := errors.AsType[*message.TryError](err); err != nil && !ok {
			t.Fatal(err)
		}
	})
}
