package h2_test

import (
	"context"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"anyedge/internal/message"
	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h2"
)

type hpackField = hpack.HeaderField

// connect opens an extended CONNECT.
func (p *peer) connect(id uint32) {
	p.t.Helper()
	p.must(p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: p.encode(
		":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":authority", "a", ":path", "/chat",
	)}))
}

func TestExtendedConnectIsAnnounced(t *testing.T) {
	_, addr := start(t, h2.Config{}, text)
	f, err := dial(t, addr).ReadFrame()
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := f.(*http2.SettingsFrame).Value(http2.SettingEnableConnectProtocol); !ok || v != 1 {
		t.Fatal(f)
	}
}

// switcher accepts an upgrade; backend does the talking.
func switcher(t *testing.T, backend func(net.Conn)) message.RoundTripper {
	t.Helper()
	addr := enginetest.Listen(t, func(c net.Conn) { go backend(c) })
	return message.RoundTripFunc(func(_ context.Context, r *message.Request) (*message.Response, error) {
		if r.Method != "GET" || r.Protocol != "websocket" || r.Target != "/chat" || r.Body != nil {
			t.Errorf("%+v", r)
		}
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return nil, err
		}
		h := message.Header{{Name: "Sec-WebSocket-Accept", Value: "x"}, {Name: "Sec-WebSocket-Protocol", Value: "chat"}}
		return &message.Response{Status: 101, Header: h, Stream: c}, nil
	})
}

func TestTunnel(t *testing.T) {
	for _, tt := range []struct {
		name        string
		clientFirst bool
	}{{"client ends first", true}, {"backend ends first", false}} {
		t.Run(tt.name, func(t *testing.T) {
			heard := make(chan string, 1)
			_, addr := start(t, h2.Config{}, switcher(t, func(c net.Conn) {
				defer c.Close()
				if !tt.clientFirst {
					_, _ = io.WriteString(c, "bye")
					_ = c.(*net.TCPConn).CloseWrite()
				}
				b, _ := io.ReadAll(c)
				heard <- string(b)
				if tt.clientFirst {
					_, _ = io.WriteString(c, "bye")
				}
			}))
			p := dial(t, addr)
			p.connect(1)
			h, ok := p.next().(*http2.MetaHeadersFrame)
			if !ok || h.PseudoValue("status") != "200" || h.StreamEnded() || slices.ContainsFunc(h.Fields, func(f hpackField) bool { return f.Name == "sec-websocket-accept" }) {
				t.Fatal(h)
			}
			say := func() {
				p.must(p.WriteData(1, false, []byte("hel")))
				p.must(p.WriteData(1, true, []byte("lo")))
			}
			if tt.clientFirst {
				say()
			}
			if got := p.answer(1, false); got.content != "bye" || got.isReset {
				t.Fatalf("%+v", got)
			}
			if !tt.clientFirst {
				say()
			}
			if got := enginetest.Within(t, "the backend's half", heard); got != "hello" {
				t.Fatalf("%q", got)
			}
		})
	}
}

func TestTunnelIsCut(t *testing.T) {
	ended := make(chan struct{})
	s, addr := start(t, h2.Config{}, switcher(t, func(c net.Conn) {
		_, _ = io.Copy(io.Discard, c)
		_ = c.Close()
		close(ended)
	}))
	p := dial(t, addr)
	p.connect(1)
	p.next()
	p.must(p.WriteRSTStream(1, http2.ErrCodeCancel))
	enginetest.Within(t, "the end of the backend", ended)
	eventually(t, "the stream's end", s.Settled)
}

func TestTunnelIsRefused(t *testing.T) {
	_, addr := start(t, h2.Config{}, message.RoundTripFunc(func(context.Context, *message.Request) (*message.Response, error) {
		return enginetest.Text(403, "no"), nil
	}))
	p := dial(t, addr)
	p.connect(1)
	got := p.answer(1, true)
	if !slices.Equal(got.statuses, []string{"403"}) || got.content != "no" || got.reset != http2.ErrCodeNo {
		t.Fatalf("%+v", got)
	}
}

// A byte stream that nobody asked for is none.
func TestUpgradeUnasked(t *testing.T) {
	_, addr := start(t, h2.Config{}, message.RoundTripFunc(func(context.Context, *message.Request) (*message.Response, error) {
		a, b := net.Pipe()
		_ = b.Close()
		return &message.Response{Status: 101, Stream: a}, nil
	}))
	p := dial(t, addr)
	p.must(p.request(1, true, "GET"))
	if got := p.answer(1, false); !slices.Equal(got.statuses, []string{"502"}) {
		t.Fatalf("%+v", got)
	}
}

func TestBrokenRequests(t *testing.T) {
	_, addr := start(t, h2.Config{}, message.RoundTripFunc(func(_ context.Context, r *message.Request) (*message.Response, error) {
		content, err := whole(r)
		return enginetest.Text(200, content), err
	}))
	for _, tt := range []struct {
		name string
		send func(p *peer) error
	}{
		{"less than content-length", func(p *peer) error {
			_ = p.request(1, false, "POST", "content-length", "5")
			return p.WriteData(1, true, []byte("1234"))
		}},
		{"more than content-length", func(p *peer) error {
			_ = p.request(1, false, "POST", "content-length", "5")
			return p.WriteData(1, false, []byte("123456"))
		}},
		{"less, and trailers", func(p *peer) error {
			_ = p.request(1, false, "POST", "content-length", "5")
			_ = p.WriteData(1, false, []byte("1234"))
			return p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndStream: true, EndHeaders: true, BlockFragment: p.encode("a", "b")})
		}},
		{"two lengths", func(p *peer) error {
			return p.request(1, false, "POST", "content-length", "5", "content-length", "5")
		}},
		{"authority with a blank", func(p *peer) error {
			return p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndStream: true, EndHeaders: true, BlockFragment: p.encode(":method", "CONNECT", ":authority", "a b:1")})
		}},
		{"host with a blank", func(p *peer) error {
			return p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndStream: true, EndHeaders: true, BlockFragment: p.encode(":method", "GET", ":scheme", "http", ":path", "/", "host", "a b")})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := dial(t, addr)
			p.must(tt.send(p))
			if got := p.answer(1, true); got.reset != http2.ErrCodeProtocol || len(got.statuses) > 0 {
				t.Fatalf("%+v", got)
			}
		})
	}
}

func TestWholeExchange(t *testing.T) {
	_, addr := start(t, h2.Config{}, message.RoundTripFunc(func(_ context.Context, r *message.Request) (*message.Response, error) {
		r.Inform(103, message.Header{{Name: "Link", Value: "x"}})
		content, err := whole(r)
		if err != nil {
			return nil, err
		}
		return &message.Response{
			Status: 200, Length: -1, Body: message.Content(content + " " + r.Header.Joined("Cookie")),
			Trailer: r.Body.Trailer,
		}, nil
	}))
	p := dial(t, addr)
	p.must(p.request(1, false, "POST", "expect", "100-continue", "cookie", "a=b", "x", "y", "cookie", "c=d"))
	for _, want := range []string{"103", "100"} {
		if h, ok := p.next().(*http2.MetaHeadersFrame); !ok || h.PseudoValue("status") != want || h.StreamEnded() {
			t.Fatal(h)
		}
	}
	p.must(p.WriteData(1, false, []byte("content")))
	p.must(p.WriteHeaders(http2.HeadersFrameParam{
		StreamID: 1, EndStream: true, EndHeaders: true, BlockFragment: p.encode("sum", "7", "content-length", "7"),
	}))
	got := p.answer(1, false)
	if got.content != "content a=b; c=d" || !slices.Equal(got.trailer, []string{"sum", "7"}) {
		t.Fatalf("%+v", got)
	}
}

// A client that still sends gets the whole answer, and is told that the rest is
// not needed (RFC 9113 section 8.1).
func TestEarlyAnswer(t *testing.T) {
	long := strings.Repeat("0123456789", 2000)
	_, addr := start(t, h2.Config{}, message.RoundTripFunc(func(context.Context, *message.Request) (*message.Response, error) {
		return enginetest.Text(413, long), nil
	}))
	p := dial(t, addr)
	p.must(p.request(1, false, "POST"))
	p.must(p.WriteData(1, false, make([]byte, 16<<10)))
	got := p.answer(1, true)
	if got.content != long || !got.ended || !got.isReset || got.reset != http2.ErrCodeNo {
		t.Fatalf("%d bytes, %v, %v", len(got.content), got.statuses, got.reset)
	}
	for range 100 { // it has not heard yet
		p.must(p.WriteData(1, false, make([]byte, 16<<10)))
	}
	p.must(p.request(3, true, "GET"))
	if got := p.answer(3, false); got.content != long {
		t.Fatalf("%d bytes", len(got.content))
	}
}

// Nothing answers an RST_STREAM (RFC 9113 section 5.4.2).
func TestResetIsNotAnswered(t *testing.T) {
	s, addr := start(t, h2.Config{}, message.RoundTripFunc(func(ctx context.Context, _ *message.Request) (*message.Response, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}))
	p := dial(t, addr)
	p.must(p.request(1, true, "GET"))
	p.must(p.WriteRSTStream(1, http2.ErrCodeCancel))
	p.must(p.WritePing(false, [8]byte{})) // the stream is known behind it
	for pings := 0; pings < 2; {
		f, err := p.ReadFrame()
		p.must(err)
		switch f.(type) {
		case *http2.RSTStreamFrame:
			t.Fatal(f)
		case *http2.PingFrame:
			if pings++; pings == 1 {
				eventually(t, "the handler's end", s.Settled)
				p.must(p.WritePing(false, [8]byte{}))
			}
		}
	}
}
