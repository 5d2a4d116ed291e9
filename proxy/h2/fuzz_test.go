package h2_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"testing"

	"golang.org/x/net/http2"

	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h2"
)

// session returns what a lively client sends behind its preface.
func session(tb testing.TB) []byte {
	tb.Helper()
	ours, theirs := net.Pipe()
	drained := make(chan []byte)
	go func() {
		b, _ := io.ReadAll(theirs)
		drained <- b
	}()
	p := greet(tb, ours, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1000})
	p.AllowIllegalWrites = true
	p.must(p.request(1, false, "POST", "content-length", "7", "cookie", "a=b", "cookie", "c=d"))
	p.must(p.WriteDataPadded(1, false, []byte("content"), make([]byte, 5)))
	p.must(p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndStream: true, EndHeaders: true, BlockFragment: p.encode("sum", "7")}))
	p.connect(3)
	p.must(p.WriteData(3, false, []byte("hello")))
	p.must(p.WritePing(false, [8]byte{}))
	p.must(p.WriteWindowUpdate(1, 1000))
	p.must(p.WriteWindowUpdate(0, 1000))
	p.must(p.request(5, true, "GET", "expect", "100-continue"))
	p.must(p.WriteRSTStream(5, http2.ErrCodeCancel))
	p.must(p.WritePriority(7, http2.PriorityParam{StreamDep: 5}))
	p.must(p.WriteHeaders(http2.HeadersFrameParam{StreamID: 7, EndStream: true, BlockFragment: p.encode(":method", "GET", ":scheme", "http")}))
	p.must(p.WriteContinuation(7, true, p.encode(":path", "/", "host", "a")))
	p.must(p.WriteData(3, true, nil))
	p.must(p.WriteGoAway(0, http2.ErrCodeNo, nil))
	_ = ours.Close()
	return bytes.TrimPrefix(<-drained, []byte(http2.ClientPreface))
}

// visit sends bytes behind a preface and goes away.
func visit(tb testing.TB, s *h2.Server, in []byte) {
	tb.Helper()
	ours, theirs := net.Pipe()
	s.ServeConn(ours)
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_, _ = io.Copy(io.Discard, theirs)
	}()
	if _, err := io.WriteString(theirs, http2.ClientPreface); err == nil {
		_, _ = theirs.Write(in) // fails when the server has had enough
	}
	_ = theirs.Close()
	<-drained
}

// gone shuts s down, which ends at once when all clients have gone.
func gone(tb testing.TB, s *h2.Server) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), enginetest.Patience)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		tb.Fatal(err)
	}
}

// FuzzServer sends anything behind a preface: the server neither panics nor hangs,
// and nothing is left when the client has gone.
func FuzzServer(f *testing.F) {
	all := session(f)
	f.Add(all)
	f.Add(all[:len(all)/2])
	f.Fuzz(func(t *testing.T, in []byte) {
		s := h2.NewServer(h2.Config{Streams: 10}, echo, slog.New(slog.DiscardHandler))
		visit(t, s, in)
		gone(t, s)
	})
}

// A client goes away behind every byte of a session.
func TestVanishing(t *testing.T) {
	all := session(t)
	s := h2.NewServer(h2.Config{}, echo, slog.New(slog.DiscardHandler))
	for range 5 {
		for n := range all {
			visit(t, s, all[:n])
		}
	}
	gone(t, s)
}
