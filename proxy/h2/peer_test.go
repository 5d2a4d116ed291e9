package h2_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"anyedge/internal/message"
	"anyedge/internal/message/enginetest"
)

// A peer is a client that sends what it is told to, by somebody else's framer.
type peer struct {
	*http2.Framer
	t   testing.TB
	nc  net.Conn
	enc *hpack.Encoder
	hb  bytes.Buffer
}

// dial connects and exchanges prefaces; settings are ours.
func dial(tb testing.TB, addr string, settings ...http2.Setting) *peer {
	tb.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	return greet(tb, nc, settings...)
}

// greet exchanges prefaces on nc.
func greet(tb testing.TB, nc net.Conn, settings ...http2.Setting) *peer {
	tb.Helper()
	tb.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(enginetest.Patience))
	p := &peer{Framer: http2.NewFramer(nc, nc), t: tb, nc: nc}
	p.enc = hpack.NewEncoder(&p.hb)
	p.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_, _ = io.WriteString(nc, http2.ClientPreface)
	p.must(p.WriteSettings(settings...))
	return p
}

func (p *peer) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// encode returns a header section of pairs.
func (p *peer) encode(pairs ...string) []byte {
	p.hb.Reset()
	for i := 0; i < len(pairs); i += 2 {
		_ = p.enc.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
	}
	return bytes.Clone(p.hb.Bytes())
}

// request opens a stream.
func (p *peer) request(id uint32, end bool, method string, pairs ...string) error {
	pairs = append([]string{":method", method, ":scheme", "http", ":authority", "a", ":path", "/"}, pairs...)
	return p.WriteHeaders(http2.HeadersFrameParam{
		StreamID: id, BlockFragment: p.encode(pairs...), EndHeaders: true, EndStream: end,
	})
}

// next returns the next frame that is not about the connection alone.
func (p *peer) next() http2.Frame {
	p.t.Helper()
	for {
		f, err := p.ReadFrame()
		if err != nil {
			p.t.Fatal(err)
		}
		switch f := f.(type) {
		case *http2.SettingsFrame, *http2.PingFrame:
		case *http2.WindowUpdateFrame:
		case *http2.GoAwayFrame:
			p.t.Fatalf("GOAWAY %v, last stream %d: %s", f.ErrCode, f.LastStreamID, f.DebugData())
		default:
			return f
		}
	}
}

// An outcome is what came on one stream.
type outcome struct {
	statuses []string
	content  string
	trailer  []string // names and values
	ended    bool
	reset    http2.ErrCode
	isReset  bool
}

// answer reads stream id to its end, or to its reset when it comes behind.
func (p *peer) answer(id uint32, untilReset bool) (o outcome) {
	p.t.Helper()
	for {
		f := p.next()
		if f.Header().StreamID != id {
			p.t.Fatalf("a frame of another stream: %v", f)
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			if s := f.PseudoValue("status"); s != "" {
				o.statuses = append(o.statuses, s)
			} else {
				for _, x := range f.Fields {
					o.trailer = append(o.trailer, x.Name, x.Value)
				}
			}
			o.ended = f.StreamEnded()
		case *http2.DataFrame:
			o.content += string(f.Data())
			o.ended = f.StreamEnded()
		case *http2.RSTStreamFrame:
			o.reset, o.isReset = f.ErrCode, true
		}
		if o.isReset || o.ended && !untilReset {
			return o
		}
	}
}

// goAway reads up to the GOAWAY that is an error, and returns its code.
func (p *peer) goAway() (http2.ErrCode, error) {
	for {
		f, err := p.ReadFrame()
		if err != nil {
			return 0, err
		}
		if g, ok := f.(*http2.GoAwayFrame); ok && g.LastStreamID < 1<<31-1 {
			return g.ErrCode, nil
		}
	}
}

// flood has send called until it fails or times out, while the answers are read,
// and expects to be told to calm down.
func (p *peer) flood(most int, send func(i int) error) {
	p.t.Helper()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for i := range most {
			if send(i) != nil {
				return
			}
		}
	}()
	code, err := p.goAway()
	if err != nil || code != http2.ErrCodeEnhanceYourCalm {
		p.t.Errorf("%v, %v", code, err)
	}
	_ = p.nc.Close()
	<-sent
}

// text answers everything with a word.
var text = message.RoundTripFunc(func(context.Context, *message.Request) (*message.Response, error) {
	return enginetest.Text(200, "word"), nil
})

// whole reads the content of r.
func whole(r *message.Request) (string, error) {
	if r.Body == nil {
		return "", errors.New("there is no content")
	}
	reader, err := r.Body.Open()
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(reader)
	if err != nil {
		return "", fmt.Errorf("behind %d bytes: %w", len(b), err)
	}
	return string(b), nil
}
