package h2_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"anyedge/internal/message"
	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h2"
)

// The answer is whole although the backend wants no more of the content.
func TestAnswerDuringUpload(t *testing.T) {
	for _, code := range []http2.ErrCode{http2.ErrCodeNo, http2.ErrCodeCancel} {
		addr, _ := play(t, func(p *peer) {
			id := p.headers()
			p.text(id, "enough")
			_ = p.WriteRSTStream(id, code)
			serveText(p)
		})
		pr, pw := io.Pipe()
		r := get()
		r.Method, r.Body = "POST", message.NewBody(pr, -1, message.KiB, nil)
		c := open(t, h2.ClientConfig{Addr: addr})
		if _, text, err := ask(t.Context(), c, r); text != "enough" || err != nil {
			t.Errorf("%q, %v", text, err)
		}
		_ = pw.Close()
		if _, text, err := ask(t.Context(), c, get()); text != "word" || err != nil {
			t.Errorf("the next one: %q, %v", text, err)
		}
	}
}

// Content waits for a 100, and is not sent when a final answer comes instead.
func TestExpect(t *testing.T) {
	for _, wanted := range []bool{true, false} {
		content := make(chan string, 1)
		addr, _ := play(t, func(p *peer) {
			id := p.headers()
			if !wanted {
				p.head(id, true, ":status", "417")
				code, _, _ := p.outcomeOf(id)
				content <- code.String()
				return
			}
			p.head(id, false, ":status", "100")
			for {
				f, err := p.ReadFrame()
				if err != nil {
					return
				}
				if d, ok := f.(*http2.DataFrame); ok {
					content <- string(d.Data())
					p.text(id, "word")
				}
			}
		})
		r := post()
		r.Header.Add("Expect", "100-continue")
		informed := 0
		r.Inform = func(int, message.Header) { informed++ }
		res, _, err := ask(t.Context(), open(t, h2.ClientConfig{Addr: addr}), r)
		if err != nil {
			t.Fatal(err)
		}
		got := enginetest.Within(t, "content", content)
		if wanted && (got != "content" || informed != 1 || res.Status != 200) || !wanted && (got != "CANCEL" || res.Status != 417) {
			t.Errorf("%q, informed %d times, status %d", got, informed, res.Status)
		}
	}
}

// An upgrade is an extended CONNECT where the backend has allowed it.
func TestUpgrade(t *testing.T) {
	_, addr := start(t, h2.Config{}, message.RoundTripFunc(func(_ context.Context, r *message.Request) (*message.Response, error) {
		if r.Protocol != "websocket" || r.Header.Has("Sec-Websocket-Key") || r.Target != "/chat" {
			return enginetest.Text(400, fmt.Sprint(r)), nil
		}
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			_, _ = io.Copy(theirs, theirs)
		}()
		return &message.Response{Status: 101, Stream: ours}, nil
	}))
	r := get()
	r.Target, r.Protocol = "/chat", "websocket"
	r.Header.Add("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==") // of RFC 6455 section 1.3
	res, err := open(t, h2.ClientConfig{Addr: addr}).RoundTrip(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Close()
	if res.Status != 101 || res.Stream == nil || res.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Fatalf("%d %v", res.Status, res.Header)
	}
	for _, word := range []string{"hello", strings.Repeat("again", 50_000)} {
		sent := make(chan error, 1)
		go func() { _, err := io.WriteString(res.Stream, word); sent <- err }()
		b := make([]byte, len(word))
		if _, err := io.ReadFull(res.Stream, b); err != nil || string(b) != word {
			t.Fatalf("%.20q, %v", b, err)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	}
}

func TestUpgradeIsRefused(t *testing.T) {
	addr, _ := play(t, func(p *peer) {
		if p.headers() != 0 {
			t.Error("a request came")
		}
	})
	r := get()
	r.Protocol = "websocket"
	_, _, err := ask(t.Context(), open(t, h2.ClientConfig{Addr: addr}), r)
	wantSent(t, err, message.NothingSent)
}
