package h2_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"

	"anyedge/internal/message"
	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h2"
)

// Large content goes both ways at once, through any window of the backend.
func TestContentBothWays(t *testing.T) {
	_, addr := start(t, h2.Config{}, echo)
	content := bytes.Repeat([]byte("0123456789abcdef"), 512<<10/16*5)
	c := open(t, h2.ClientConfig{Addr: addr})
	var asks sync.WaitGroup
	for range 4 {
		asks.Go(func() {
			r := get()
			r.Method, r.Body = "POST", message.NewBody(io.NopCloser(bytes.NewReader(content)), -1, 0, nil)
			res, err := c.RoundTrip(t.Context(), r)
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Close()
			h := sha256.New()
			if _, err := io.Copy(h, res.Body); err != nil {
				t.Error(err)
			}
			if want := sha256.Sum256(content); !bytes.Equal(h.Sum(nil), want[:]) {
				t.Error("the content is another")
			}
		})
	}
	asks.Wait()
}

// An upload sends no more than the backend's windows allow, also when they
// shrink below nothing.
func TestUploadWithinWindows(t *testing.T) {
	const size = 5000
	addr, _ := play(t, func(p *peer) {
		id := p.headers()
		window, got := 10, 0
		for got < size {
			f, err := p.ReadFrame()
			if err != nil {
				t.Error(err)
				return
			}
			d, ok := f.(*http2.DataFrame)
			if !ok {
				continue
			}
			got += len(d.Data())
			if window -= len(d.Data()); window < 0 {
				t.Errorf("%d bytes beyond the window", -window)
			}
			if window == 0 && got == 10 {
				_ = p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}) // now -10
				_ = p.WriteWindowUpdate(id, 10)                                                // now 0
			}
			if window == 0 {
				window = 700
				_ = p.WriteWindowUpdate(id, 700)
			}
		}
		p.text(id, "word")
	}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
	r := get()
	r.Method, r.Body = "POST", message.NewBody(io.NopCloser(strings.NewReader(strings.Repeat("x", size))), size, 0, nil)
	if _, text, err := ask(t.Context(), open(t, h2.ClientConfig{Addr: addr}), r); text != "word" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
}

// Answers that nobody reads hold no other answer of the connection up, and the
// backend cannot send more of them than their windows.
func TestUnreadAnswers(t *testing.T) {
	_, addr := start(t, h2.Config{}, message.RoundTripFunc(func(_ context.Context, r *message.Request) (*message.Response, error) {
		if r.Target == "/small" {
			return enginetest.Text(200, "word"), nil
		}
		return &message.Response{Status: 200, Length: -1, Body: io.NopCloser(zeroes{})}, nil
	}))
	c := open(t, h2.ClientConfig{Addr: addr})
	for range 20 {
		res, err := c.RoundTrip(t.Context(), get())
		if err != nil {
			t.Fatal(err)
		}
		defer res.Close()
		if _, err := io.ReadFull(res.Body, make([]byte, 100<<10)); err != nil { // its window is wide now
			t.Fatal(err)
		}
	}
	for range 20 {
		r := get()
		r.Target = "/small"
		if _, text, err := ask(t.Context(), c, r); text != "word" || err != nil {
			t.Fatalf("%q, %v", text, err)
		}
	}
}

// zeroes is endless.
type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A connection's window is whole again when its exchanges are over, however they
// ended.
func TestWindowsComeBack(t *testing.T) {
	_, addr := start(t, h2.Config{}, message.RoundTripFunc(func(context.Context, *message.Request) (*message.Response, error) {
		return &message.Response{Status: 200, Length: 1 << 20, Body: io.NopCloser(io.LimitReader(zeroes{}, 1<<20))}, nil
	}))
	c := open(t, h2.ClientConfig{Addr: addr})
	for i := range 100 { // 64 KiB each would use it up, were they lost
		res, err := c.RoundTrip(t.Context(), get())
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.CopyN(io.Discard, res.Body, int64(i)*5000); err != nil {
			t.Fatal(n, err)
		}
		res.Close()
	}
	if _, text, err := ask(t.Context(), c, get()); len(text) != 1<<20 || err != nil {
		t.Error(fmt.Sprintf("%d bytes", len(text)), err)
	}
}
