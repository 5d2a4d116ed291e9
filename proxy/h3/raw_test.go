package h3_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"

	"anyedge/internal/message"
	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h3"
	"anyedge/proxy/h3/qpack"
)

// The pieces that hand-made peers send.
const (
	settings = "\x00\x04\x00" // a control stream with no setting
	bare     = "\x00\x00\xd1\xd7\xc1\x50\x01a"
)

// frame returns a frame.
func frame(kind uint64, payload string) string {
	b := quicvarint.Append(quicvarint.Append(nil, kind), uint64(len(payload)))
	return string(b) + payload
}

// headers returns a HEADERS frame of lines "name: value".
func headers(lines ...string) string {
	b := qpack.Begin(nil)
	for _, l := range lines {
		name, value, _ := strings.Cut(l[1:], ": ")
		b = qpack.Append(b, l[:1]+name, value)
	}
	return frame(1, string(b))
}

// request returns the HEADERS frame of a request with more lines.
func request(method string, more ...string) string {
	return headers(append([]string{":method: " + method, ":scheme: https", ":authority: a", ":path: /"}, more...)...)
}

// A rawClient is a connection whose frames a test makes itself.
type rawClient struct {
	*quic.Conn
	t *testing.T
}

// dialRaw opens a connection without a control stream.
func dialRaw(t *testing.T, client *tls.Config, addr string) *rawClient {
	t.Helper()
	secure := client.Clone()
	secure.NextProtos = []string{h3.ALPN}
	q, err := quic.DialAddr(t.Context(), addr, secure, &quic.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.CloseWithError(0x100, "") })
	return &rawClient{q, t}
}

// uni opens a unidirectional stream with these bytes.
func (c *rawClient) uni(b string, end bool) *quic.SendStream {
	c.t.Helper()
	s, err := c.OpenUniStream()
	if err != nil {
		c.t.Fatal(err)
	}
	_, _ = io.WriteString(s, b)
	if end {
		_ = s.Close()
	}
	return s
}

// bidi opens a request stream with these bytes.
func (c *rawClient) bidi(b string, end bool) *quic.Stream {
	c.t.Helper()
	s, err := c.OpenStreamSync(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	_, _ = io.WriteString(s, b)
	if end {
		_ = s.Close()
	}
	return s
}

// outcome waits for the answer on s: its status and content, or the code that the
// stream or the connection ended with.
func (c *rawClient) outcome(s *quic.Stream) string {
	c.t.Helper()
	_ = s.SetReadDeadline(time.Now().Add(enginetest.Patience))
	b, err := io.ReadAll(s)
	return outcome(b, err)
}

func outcome(b []byte, err error) string {
	var reset *quic.StreamError
	var closed *quic.ApplicationError
	switch {
	case errors.As(err, &closed):
		return fmt.Sprintf("connection %#x", uint64(closed.ErrorCode))
	case errors.As(err, &reset):
		return fmt.Sprintf("stream %#x", uint64(reset.ErrorCode))
	case err != nil:
		return err.Error()
	}
	return answer(b)
}

// answer reads a whole answer, "200 content".
func answer(b []byte) string {
	var out strings.Builder
	for len(b) > 0 {
		kind, n, _ := quicvarint.Parse(b)
		length, m, _ := quicvarint.Parse(b[n:])
		payload := b[n+m:][:length]
		b = b[n+m+int(length):]
		switch kind {
		case 0:
			out.Write(payload)
		case 1:
			var s qpack.Section
			if err := s.Decode(payload, 1<<20); err != nil {
				return err.Error()
			}
			text := string(s.Text())
			for i := range s.Len() {
				if name, value := s.Line(i, text); name == ":status" {
					out.WriteString(value + " ")
				} else if strings.HasPrefix(name, "x-") {
					out.WriteString(name + "=" + value + " ")
				}
			}
		}
	}
	return strings.TrimSpace(out.String())
}

// echoes answers with what the request was.
var echoes = message.RoundTripFunc(func(_ context.Context, r *message.Request) (*message.Response, error) {
	content := "-"
	if r.Body != nil {
		reader, err := r.Body.Open()
		if err != nil {
			return nil, err
		}
		b, err := io.ReadAll(reader)
		if err != nil {
			return nil, err
		}
		content = fmt.Sprintf("%q %v", b, r.Body.Trailer())
	}
	return enginetest.Text(200, fmt.Sprintf("%s %s %s%s %v", content, r.Method, r.Authority, r.Target, r.Header)), nil
})

// books keeps what an engine tells of what it refuses.
type books struct {
	mu    sync.Mutex
	rules []string
	full  chan struct{} // closed when there is something; nil: nobody waits
}

func (b *books) add(status int, rule string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rules = append(b.rules, fmt.Sprint(status, " ", rule))
	if b.full != nil {
		close(b.full)
		b.full = nil
	}
}

// take returns what was told and forgets it.
func (b *books) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := strings.Join(b.rules, ", ")
	b.rules = nil
	return all
}

// filled is closed when something is told.
func (b *books) filled() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.full = make(chan struct{})
	return b.full
}

func (b *books) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.rules, ", ")
}

// A request as bytes, and what becomes of it.
func TestRequests(t *testing.T) {
	server, client := enginetest.TLS(t)
	addr := serve(t, h3.NewServer(h3.Config{TLS: server, Header: 4 * message.KiB}, echoes, enginetest.Log(t))).LocalAddr().String()
	long := strings.Repeat("x", 5000)
	many := make([]string, 101)
	for i := range many {
		many[i] = "x: 1"
	}
	for _, tt := range []struct{ name, bytes, want string }{
		{"indexed fields", frame(1, bare), "200 - GET a/ []"},
		{"frames of unknown types", frame(0x21, "grease") + frame(1, bare) + frame(0x21+0x1f*7, ""), "200 - GET a/ []"},
		{"content", request("POST") + frame(0, "one") + frame(0, "") + frame(0, "two"), `200 "onetwo" [] POST a/ []`},
		{"a length", request("POST", "content-length: 3") + frame(0, "one"), `200 "one" [] POST a/ []`},
		{"trailers", request("POST") + frame(0, "one") + headers("x-sum: 1", "host: b"), `200 "one" [{x-sum 1}] POST a/ []`},
		{"a long trailer section", request("POST") + headers("x: "+long[:3900]), "200 \"\" [{x " + long[:3900] + "}] POST a/ []"},
		{"content of a GET", request("GET") + frame(0, "one"), `200 "one" [] GET a/ []`},
		{"cookies", request("GET", "cookie: a=1", "x-a: 1", "cookie: b=2", "cookie: c=3"), "200 - GET a/ [{cookie a=1; b=2; c=3} {x-a 1}]"},
		{"host alone", headers(":method: GET", ":scheme: https", ":path: /", "host: b"), "200 - GET b/ []"},
		{"host and authority", request("GET", "host: a"), "200 - GET a/ []"},
		{"OPTIONS *", headers(":method: OPTIONS", ":scheme: https", ":authority: a", ":path: *"), "200 - OPTIONS a* []"},

		{"host that differs", request("GET", "host: b"), "stream 0x10e"},
		{"no authority", headers(":method: GET", ":scheme: https", ":path: /"), "stream 0x10e"},
		{"no method", headers(":scheme: https", ":authority: a", ":path: /"), "stream 0x10e"},
		{"no scheme", headers(":method: GET", ":authority: a", ":path: /"), "stream 0x10e"},
		{"no path", headers(":method: GET", ":scheme: https", ":authority: a"), "stream 0x10e"},
		{"an empty path", headers(":method: GET", ":scheme: https", ":authority: a", ":path: "), "stream 0x10e"},
		{"a path that is none", headers(":method: GET", ":scheme: https", ":authority: a", ":path: x"), "stream 0x10e"},
		{"a path with a space", headers(":method: GET", ":scheme: https", ":authority: a", ":path: /a b"), "stream 0x10e"},
		{"a method twice", request("GET", ":method: GET"), "stream 0x10e"},
		{"pseudo-header fields behind others", headers(":method: GET", ":scheme: https", "x: 1", ":authority: a", ":path: /"), "stream 0x10e"},
		{"an unknown pseudo-header field", request("GET", ":x: 1"), "stream 0x10e"},
		{":status", request("GET", ":status: 200"), "stream 0x10e"},
		{":protocol without CONNECT", request("GET", ":protocol: websocket"), "stream 0x10e"},
		{"CONNECT with a path", request("CONNECT"), "stream 0x10e"},
		{"upper case", frame(1, bare+"\x23X-A\x011"), "stream 0x10e"},
		{"no name", frame(1, bare+"\x20\x011"), "stream 0x10e"},
		{"a name that is no token", frame(1, bare+"\x23x a\x011"), "stream 0x10e"},
		{"a line feed in a value", request("GET", "x: a\nb"), "stream 0x10e"},
		{"NUL in a value", request("GET", "x: a\x00b"), "stream 0x10e"},
		{"space around a value", request("GET", "x: a "), "stream 0x10e"},
		{"connection", request("GET", "connection: close"), "stream 0x10e"},
		{"transfer-encoding", request("GET", "transfer-encoding: chunked"), "stream 0x10e"},
		{"upgrade", request("GET", "upgrade: x"), "stream 0x10e"},
		{"te", request("GET", "te: gzip"), "stream 0x10e"},
		{"less content than its length", request("POST", "content-length: 4") + frame(0, "one"), "stream 0x10e"},
		{"more content than its length", request("POST", "content-length: 2") + frame(0, "one"), "stream 0x10e"},
		{"content where its length is 0", request("POST", "content-length: 0") + frame(0, "one"), "stream 0x10e"},
		{"a length and no content", request("POST", "content-length: 1"), "stream 0x10e"},
		{"two lengths", request("POST", "content-length: 3", "content-length: 3") + frame(0, "one"), "stream 0x10e"},
		{"a length that is none", request("POST", "content-length: +3") + frame(0, "one"), "stream 0x10e"},
		{"pseudo-header fields in trailers", request("POST") + headers(":path: /"), "stream 0x10e"},
		{"upper case in trailers", request("POST") + frame(1, "\x00\x00\x21X\x011"), "stream 0x10e"},
		{"trailers that are too large", request("POST") + headers("x: "+long), "stream 0x10e"},
		{"nothing", "", "stream 0x10d"},
		{"a frame of unknown type alone", frame(0x21, "x"), "stream 0x10d"},
		{"a field that is too large", request("GET", "x: "+long), "431"},
		{"a section over twice the limit", request("GET", "x: "+long+long), "431"},
		{"too many fields", request("GET", many...), "431"},

		{"content first", frame(0, "one"), "connection 0x105"},
		{"SETTINGS", frame(4, ""), "connection 0x105"},
		{"GOAWAY", request("POST") + frame(7, "\x00"), "connection 0x105"},
		{"MAX_PUSH_ID", frame(1, bare) + frame(0xd, "\x00"), "connection 0x105"},
		{"PUSH_PROMISE", request("POST") + frame(5, "\x00"+bare), "connection 0x105"},
		{"PRIORITY of HTTP/2", request("POST") + frame(2, ""), "connection 0x105"},
		{"content behind trailers", request("POST") + headers("x: 1") + frame(0, "one"), "connection 0x105"},
		{"trailers twice", request("POST") + headers("x: 1") + headers("x: 1"), "connection 0x105"},
		{"half a frame header", request("POST") + "\x00", "connection 0x106"},
		{"half a DATA frame", request("POST") + "\x00\x04one", "connection 0x106"},
		{"half a HEADERS frame", "\x01\x20" + bare, "connection 0x106"},
		{"half of an unknown frame", request("POST") + "\x21\x04one", "connection 0x106"},
		{"an unknown frame that is too large", request("POST") + frame(0x21, strings.Repeat("x", 70<<10)), "connection 0x107"},
		{"empty frames without end", request("POST") + strings.Repeat(frame(0, ""), 300), "connection 0x107"},
		{"a dynamic table", frame(1, "\x02\x00\x80"), "connection 0x200"},
		{"a section that ends early", frame(1, "\x00\x00\x23x-"), "connection 0x200"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dialRaw(t, client, addr)
			c.uni(settings, false)
			if got := c.outcome(c.bidi(tt.bytes, true)); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

// Unidirectional streams, and what becomes of the connection.
func TestConnections(t *testing.T) {
	server, client := enginetest.TLS(t)
	addr := serve(t, h3.NewServer(h3.Config{TLS: server}, echoes, enginetest.Log(t))).LocalAddr().String()
	setting := func(id, value uint64) string { return string(quicvarint.Append(quicvarint.Append(nil, id), value)) }
	const lives = "200 - GET a/ []"
	for _, tt := range []struct {
		name    string
		streams []string // $ at the end: the stream ends
		want    string
	}{
		{"no control stream", nil, lives},
		{"a setting that nobody knows", []string{"\x00" + frame(4, setting(0x21, 5)+setting(1, 4096)+setting(0x4040, 1))}, lives},
		{"GOAWAY, MAX_PUSH_ID, priorities, grease", []string{settings + frame(7, "\x08") + frame(7, "\x04") + frame(0xd, "\x01") + frame(0xd, "\x02") + frame(0xf0700, "\x00u=1") + frame(0xf0701, "\x00u=1") + frame(0x21, "x")}, lives},
		{"streams of unknown types", []string{settings, "\x21grease", "\x40\x54$", "$", "\x40$"}, lives},
		{"QPACK's streams", []string{settings, "\x02\x20\x20", "\x03\x44\x7f\x00"}, lives},
		{"a control stream that ends", []string{settings + "$"}, "connection 0x104"},
		{"an encoder stream that ends", []string{settings, "\x02$"}, "connection 0x104"},
		{"a decoder stream that ends", []string{settings, "\x03$"}, "connection 0x104"},
		{"two control streams", []string{settings, settings}, "connection 0x103"},
		{"two encoder streams", []string{"\x02", "\x02"}, "connection 0x103"},
		{"a push", []string{settings, "\x01\x00"}, "connection 0x103"},
		{"no SETTINGS first", []string{"\x00" + frame(7, "\x00")}, "connection 0x10a"},
		{"grease before SETTINGS", []string{"\x00" + frame(0x21, "")}, "connection 0x10a"},
		{"SETTINGS twice", []string{settings + frame(4, "")}, "connection 0x105"},
		{"DATA", []string{settings + frame(0, "")}, "connection 0x105"},
		{"HEADERS", []string{settings + frame(1, bare)}, "connection 0x105"},
		{"PUSH_PROMISE", []string{settings + frame(5, "\x00")}, "connection 0x105"},
		{"PING of HTTP/2", []string{settings + frame(6, "")}, "connection 0x105"},
		{"a setting twice", []string{"\x00" + frame(4, setting(6, 1)+setting(6, 1))}, "connection 0x109"},
		{"a setting twice, of large number", []string{"\x00" + frame(4, setting(0x1021, 1)+setting(0x1021, 1))}, "connection 0x109"},
		{"a setting of HTTP/2", []string{"\x00" + frame(4, setting(2, 0))}, "connection 0x109"},
		{"ENABLE_CONNECT_PROTOCOL 2", []string{"\x00" + frame(4, setting(8, 2))}, "connection 0x109"},
		{"half a setting", []string{"\x00" + frame(4, "\x06")}, "connection 0x106"},
		{"SETTINGS that are too large", []string{"\x00" + frame(4, strings.Repeat("x", 5000))}, "connection 0x107"},
		{"GOAWAY that grows", []string{settings + frame(7, "\x04") + frame(7, "\x08")}, "connection 0x108"},
		{"MAX_PUSH_ID that shrinks", []string{settings + frame(0xd, "\x04") + frame(0xd, "\x03")}, "connection 0x108"},
		{"CANCEL_PUSH", []string{settings + frame(3, "\x00")}, "connection 0x108"},
		{"an empty GOAWAY", []string{settings + frame(7, "")}, "connection 0x106"},
		{"GOAWAY with more", []string{settings + frame(7, "\x00\x00")}, "connection 0x106"},
		{"a table of 1 byte", []string{settings, "\x02\x21"}, "connection 0x201"},
		{"an insertion", []string{settings, "\x02\xc0\x011"}, "connection 0x201"},
		{"an acknowledgment", []string{settings, "\x03\x80"}, "connection 0x202"},
		{"an insert count", []string{settings, "\x03\x01"}, "connection 0x202"},
		{"frames without end", []string{settings + strings.Repeat(frame(0x21, ""), 1100)}, "connection 0x107"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dialRaw(t, client, addr)
			for _, b := range tt.streams {
				b, end := strings.CutSuffix(b, "$")
				c.uni(b, end)
			}
			if tt.want != lives {
				enginetest.Within(t, "the connection's end", c.Context().Done())
				if got := outcome(nil, context.Cause(c.Context())); got != tt.want {
					t.Errorf("%s, want %s", got, tt.want)
				}
				return
			}
			for range 2 {
				if got := c.outcome(c.bidi(frame(1, bare), true)); got != tt.want {
					t.Errorf("%s, want %s", got, tt.want)
				}
			}
		})
	}
}

// Frames that come in pieces are the same frames.
func TestPieces(t *testing.T) {
	server, client := enginetest.TLS(t)
	addr := serve(t, h3.NewServer(h3.Config{TLS: server}, echoes, enginetest.Log(t))).LocalAddr().String()
	c := dialRaw(t, client, addr)
	all := frame(0x21, "grease") + request("POST", "x-a: 1") + frame(0, "one") + frame(0, "two") + headers("x-sum: 1")
	s := c.bidi("", false)
	for i := range all {
		if _, err := io.WriteString(s, all[i:i+1]); err != nil {
			t.Fatal(err)
		}
	}
	_ = s.Close()
	if got := c.outcome(s); got != `200 "onetwo" [{x-sum 1}] POST a/ [{x-a 1}]` {
		t.Error(got)
	}
}
