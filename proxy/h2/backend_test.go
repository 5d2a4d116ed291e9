package h2_test

import (
	"context"
	"errors"
	"io"
	"net"
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

// play is a backend that does on each connection what script says, by somebody
// else's framer; opened counts the connections. SETTINGS are exchanged before.
func play(t *testing.T, script func(p *peer), settings ...http2.Setting) (addr string, opened *atomic.Int32) {
	t.Helper()
	opened = new(atomic.Int32)
	var scripts sync.WaitGroup
	t.Cleanup(scripts.Wait)
	return enginetest.Listen(t, func(nc net.Conn) {
		opened.Add(1)
		scripts.Go(func() {
			defer nc.Close()
			_ = nc.SetDeadline(time.Now().Add(enginetest.Patience))
			p := &peer{Framer: http2.NewFramer(nc, nc), t: t, nc: nc}
			p.enc = hpack.NewEncoder(&p.hb)
			p.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
			p.AllowIllegalWrites = true
			if _, err := io.ReadFull(nc, make([]byte, len(http2.ClientPreface))); err != nil {
				return
			}
			if p.WriteSettings(settings...) == nil {
				script(p)
			}
		})
	}), opened
}

// headers reads up to the next header section and returns its stream, 0 at the
// end of the connection.
func (p *peer) headers() uint32 {
	for {
		f, err := p.ReadFrame()
		if err != nil {
			return 0
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			return f.StreamID
		case *http2.SettingsFrame:
			if !f.IsAck() {
				_ = p.WriteSettingsAck()
			}
		}
	}
}

// head sends the header section of an answer.
func (p *peer) head(id uint32, end bool, pairs ...string) {
	_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndStream: end, EndHeaders: true, BlockFragment: p.encode(pairs...)})
}

// text answers with a word.
func (p *peer) text(id uint32, word string) {
	p.head(id, false, ":status", "200")
	_ = p.WriteData(id, true, []byte(word))
}

// outcomeOf reads until the stream or the connection is ended by the asking side.
func (p *peer) outcomeOf(id uint32) (reset, goAway http2.ErrCode, closed bool) {
	const none = http2.ErrCode(1 << 31)
	for goAway = none; ; {
		f, err := p.ReadFrame()
		if err != nil {
			return none, goAway, true
		}
		switch f := f.(type) {
		case *http2.RSTStreamFrame:
			if f.StreamID == id {
				return f.ErrCode, none, false
			}
		case *http2.GoAwayFrame:
			goAway = f.ErrCode
		}
	}
}

func ask(ctx context.Context, c *h2.Client, r *message.Request) (*message.Response, string, error) {
	res, err := c.RoundTrip(ctx, r)
	if err != nil || res.Body == nil {
		return res, "", err
	}
	defer res.Close()
	b, err := io.ReadAll(res.Body)
	return res, string(b), err
}

func get() *message.Request { return &message.Request{Method: "GET", Authority: "a", Target: "/"} }

func post() *message.Request {
	r := get()
	r.Method, r.Body = "POST", message.NewBody(io.NopCloser(strings.NewReader("content")), 7, message.KiB, nil)
	return r
}

func wantSent(t *testing.T, err error, want message.Sent) {
	t.Helper()
	var try *message.TryError
	if !errors.As(err, &try) || try.Sent != want {
		t.Errorf("%v, want %v", err, want)
	}
}

// What a broken backend says breaks its stream, or the connection, and never
// looks like an answer.
func TestBrokenBackends(t *testing.T) {
	const (
		proto = http2.ErrCodeProtocol
		calm  = http2.ErrCodeEnhanceYourCalm
	)
	bytes := func(b string) func(*peer) { return func(p *peer) { _, _ = io.WriteString(p.nc, b) } }
	head := func(pairs ...string) func(*peer) {
		return func(p *peer) { p.head(1, true, pairs...) }
	}
	for _, tt := range []struct {
		name string
		say  func(p *peer)
		code http2.ErrCode
		conn bool // the connection ends, not the stream
		sent message.Sent
	}{
		{"no status", head("a", "b"), proto, false, message.Answered},
		{"status of two digits", head(":status", "20"), proto, false, message.Answered},
		{"status of letters", head(":status", "2x0"), proto, false, message.Answered},
		{"status below 100", head(":status", "099"), proto, false, message.Answered},
		{"two statuses", head(":status", "200", ":status", "200"), proto, false, message.Answered},
		{"path of a request", head(":status", "200", ":path", "/"), proto, false, message.Answered},
		{"unknown pseudo field", head(":status", "200", ":x", "/"), proto, false, message.Answered},
		{"pseudo field behind others", head("a", "b", ":status", "200"), proto, false, message.Answered},
		{"upper case", head(":status", "200", "A", "b"), proto, false, message.Answered},
		{"space in a name", head(":status", "200", "a b", "b"), proto, false, message.Answered},
		{"empty name", head(":status", "200", "", "b"), proto, false, message.Answered},
		{"line end in a value", head(":status", "200", "a", "b\r\nc: d"), proto, false, message.Answered},
		{"NUL in a value", head(":status", "200", "a", "b\x00"), proto, false, message.Answered},
		{"space before a value", head(":status", "200", "a", " b"), proto, false, message.Answered},
		{"connection", head(":status", "200", "connection", "close"), proto, false, message.Answered},
		{"transfer-encoding", head(":status", "200", "transfer-encoding", "chunked"), proto, false, message.Answered},
		{"content-length of letters", head(":status", "200", "content-length", "x"), proto, false, message.Answered},
		{"content-length with a sign", head(":status", "200", "content-length", "+1"), proto, false, message.Answered},
		{"content-length twice", head(":status", "200", "content-length", "0", "content-length", "0"), proto, false, message.Answered},
		{"content-length and no content", head(":status", "200", "content-length", "1"), proto, false, message.Answered},
		{"interim answer at the end", head(":status", "103"), proto, false, message.Answered},
		{"101", func(p *peer) { p.head(1, false, ":status", "101") }, proto, false, message.Answered},
		{"header section over the limit", func(p *peer) {
			block := p.encode(":status", "200", "a", strings.Repeat("x", 300<<10))
			_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:16384]})
			for block = block[16384:]; len(block) > 16384; block = block[16384:] {
				_ = p.WriteContinuation(1, false, block[:16384])
			}
			_ = p.WriteContinuation(1, true, block)
		}, proto, false, message.Answered},
		{"HPACK bomb", func(p *peer) {
			block := p.encode(":status", "200", "a", strings.Repeat("x", 4000))
			again := p.encode("a", strings.Repeat("x", 4000))
			for range 1000 {
				block = append(block, again...)
			}
			_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: block})
		}, proto, false, message.Answered},
		{"too many interim answers", func(p *peer) {
			for range 40 {
				p.head(1, false, ":status", "103")
			}
		}, calm, false, message.Answered},
		{"content before the answer", func(p *peer) { _ = p.WriteData(1, false, []byte("x")) }, proto, false, message.MaybeExecuted},
		{"header section that cannot be decoded", bytes("\x00\x00\x01\x01\x05\x00\x00\x00\x01\xff"), http2.ErrCodeCompression, true, message.MaybeExecuted},
		{"CONTINUATION without end", func(p *peer) {
			_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.encode(":status", "200")})
			for range 100 {
				_ = p.WriteContinuation(1, false, nil)
			}
		}, calm, true, message.MaybeExecuted},
		{"HEADERS within HEADERS", func(p *peer) {
			_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.encode(":status", "200")})
			p.head(1, true, "a", "b")
		}, proto, true, message.MaybeExecuted},
		{"answer on a stream that nobody opened", func(p *peer) { p.head(3, true, ":status", "200") }, proto, true, message.MaybeExecuted},
		{"answer on an even stream", func(p *peer) { p.head(2, true, ":status", "200") }, proto, true, message.MaybeExecuted},
		{"DATA on a stream that nobody opened", func(p *peer) { _ = p.WriteData(3, true, nil) }, proto, true, message.MaybeExecuted},
		{"PUSH_PROMISE", func(p *peer) {
			_ = p.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, EndHeaders: true, BlockFragment: p.encode(":method", "GET")})
		}, proto, true, message.MaybeExecuted},
		{"ENABLE_PUSH of a server", func(p *peer) { _ = p.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 1}) }, proto, true, message.MaybeExecuted},
		{"SETTINGS of a wrong size", bytes("\x00\x00\x05\x04\x00\x00\x00\x00\x00aaaaa"), http2.ErrCodeFrameSize, true, message.MaybeExecuted},
		{"a frame over the limit", bytes("\x00\x40\x01\x00\x00\x00\x00\x00\x01"), http2.ErrCodeFrameSize, true, message.MaybeExecuted},
		{"GOAWAY of a wrong size", bytes("\x00\x00\x04\x07\x00\x00\x00\x00\x00aaaa"), http2.ErrCodeFrameSize, true, message.MaybeExecuted},
		{"GOAWAY on a stream", bytes("\x00\x00\x08\x07\x00\x00\x00\x00\x01aaaaaaaa"), proto, true, message.MaybeExecuted},
		{"GOAWAY that takes back", func(p *peer) {
			_ = p.WriteGoAway(1, http2.ErrCodeNo, nil)
			_ = p.WriteGoAway(3, http2.ErrCodeNo, nil)
		}, proto, true, message.MaybeExecuted},
		{"window over its limit", func(p *peer) { _ = p.WriteWindowUpdate(0, 1<<31-1) }, http2.ErrCodeFlowControl, true, message.MaybeExecuted},
		{"SETTINGS flood", func(p *peer) {
			for range 2000 {
				_ = p.WriteSettings()
			}
		}, calm, true, message.MaybeExecuted},
		{"RST_STREAM flood", func(p *peer) {
			p.head(1, false, ":status", "103")
			for range 2000 {
				_ = p.WriteRSTStream(1, http2.ErrCodeNo)
			}
		}, calm, true, message.Answered},
		{"HTTP/1", bytes("HTTP/1.1 400 Bad Request\r\n\r\n"), http2.ErrCodeFrameSize, true, message.MaybeExecuted},
	} {
		t.Run(tt.name, func(t *testing.T) {
			type ending struct {
				reset, goAway http2.ErrCode
				closed        bool
			}
			ended := make(chan ending, 1)
			addr, _ := play(t, func(p *peer) {
				if p.headers() == 0 {
					return
				}
				read := make(chan struct{})
				go func() { // a flood is answered while it is sent
					defer close(read)
					var e ending
					e.reset, e.goAway, e.closed = p.outcomeOf(1)
					ended <- e
				}()
				tt.say(p)
				<-read
			})
			_, text, err := ask(t.Context(), open(t, h2.ClientConfig{Addr: addr}), get())
			wantSent(t, err, tt.sent)
			e := enginetest.Within(t, "the end", ended)
			if code := e.reset; e.closed != tt.conn || !tt.conn && code != tt.code || tt.conn && e.goAway != tt.code {
				t.Errorf("%+v, want %v; the answer: %q", e, tt.code, text)
			}
		})
	}
}

// Content that breaks the rules never ends as if it were whole.
func TestBrokenContent(t *testing.T) {
	for _, tt := range []struct {
		name string
		say  func(p *peer)
		want string
	}{
		{"more than content-length", func(p *peer) {
			p.head(1, false, ":status", "200", "content-length", "3")
			_ = p.WriteData(1, true, []byte("long"))
		}, ""},
		{"less than content-length", func(p *peer) {
			p.head(1, false, ":status", "200", "content-length", "5")
			_ = p.WriteData(1, true, []byte("long"))
		}, "long"},
		{"less, with trailers", func(p *peer) {
			p.head(1, false, ":status", "200", "content-length", "5")
			_ = p.WriteData(1, false, []byte("long"))
			p.head(1, true, "a", "b")
		}, "long"},
		{"trailers without an end", func(p *peer) {
			p.head(1, false, ":status", "200")
			_ = p.WriteData(1, false, []byte("long"))
			p.head(1, false, "a", "b")
		}, "long"},
		{"pseudo fields in trailers", func(p *peer) {
			p.head(1, false, ":status", "200")
			_ = p.WriteData(1, false, []byte("long"))
			p.head(1, true, ":status", "200")
		}, "long"},
		{"reset", func(p *peer) {
			p.head(1, false, ":status", "200")
			_ = p.WriteData(1, false, []byte("long"))
			_ = p.WriteRSTStream(1, http2.ErrCodeInternal)
		}, "long"},
		{"reset without an error", func(p *peer) {
			p.head(1, false, ":status", "200")
			_ = p.WriteData(1, false, []byte("long"))
			_ = p.WriteRSTStream(1, http2.ErrCodeNo)
		}, "long"},
		{"connection closed", func(p *peer) {
			p.head(1, false, ":status", "200")
			_ = p.WriteData(1, false, []byte("long"))
			_ = p.nc.Close()
		}, "long"},
		{"more than the stream's window", func(p *peer) {
			p.head(1, false, ":status", "200")
			for range 200 { // nobody reads
				_ = p.WriteData(1, false, make([]byte, 16384))
			}
		}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			said := make(chan struct{})
			addr, _ := play(t, func(p *peer) {
				p.headers()
				tt.say(p)
				close(said)
				for p.headers() != 0 {
				}
			})
			res, err := open(t, h2.ClientConfig{Addr: addr}).RoundTrip(t.Context(), get())
			if err != nil {
				wantSent(t, err, message.Answered)
				return
			}
			defer res.Close()
			if tt.want == "" {
				enginetest.Within(t, "the content", said)
			}
			b, err := io.ReadAll(res.Body)
			if tt.want != "" && !strings.HasPrefix(tt.want, string(b)) {
				t.Errorf("%.20q", b)
			}
			wantSent(t, err, message.Answered)
		})
	}
}
