package h2_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"golang.org/x/net/http2"

	"anyedge/internal/message"
	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h2"
)

// An answer may be the last one on its connection: the client is asked to come
// again on another, and what it has sent by then is still answered.
func TestLastAnswer(t *testing.T) {
	_, addr := start(t, h2.Config{}, message.RoundTripFunc(func(context.Context, *message.Request) (*message.Response, error) {
		res := enginetest.Text(200, "word")
		res.Last = true
		return res, nil
	}))
	p := dial(t, addr)
	p.must(p.request(1, true, "GET"))
	var last []uint32
	answers := 0
	for {
		f, err := p.ReadFrame()
		if errors.Is(err, io.EOF) {
			break
		}
		p.must(err)
		switch f := f.(type) {
		case *http2.GoAwayFrame:
			if last = append(last, f.LastStreamID); len(last) == 1 {
				p.must(p.request(3, true, "GET"))
			}
		case *http2.DataFrame:
			if f.StreamEnded() {
				answers++
			}
		}
	}
	if len(last) < 2 || last[0] != 1<<31-1 || last[1] != 3 || answers != 2 {
		t.Errorf("GOAWAY named %v, %d answers", last, answers)
	}
}
