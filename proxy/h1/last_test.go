package h1_test

import (
	"context"
	"strings"
	"testing"

	"anyedge/internal/message"
	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h1"
)

// An answer may be the last one on its connection: the client is told, and comes
// again on another.
func TestLastAnswer(t *testing.T) {
	_, addr := start(t, h1.Config{}, message.RoundTripFunc(func(_ context.Context, r *message.Request) (*message.Response, error) {
		res := enginetest.Text(200, r.Target)
		res.Last = r.Target == "/two"
		return res, nil
	}))
	got := exchange(t, addr, "GET /one HTTP/1.1\r\nHost: a\r\n\r\nGET /two HTTP/1.1\r\nHost: a\r\n\r\n")
	one, two, ok := strings.Cut(got, "/one")
	if !ok || strings.Contains(one, "Connection:") || !strings.Contains(two, "Connection: close\r\n") || !strings.HasSuffix(two, "/two") {
		t.Errorf("%q", got)
	}
}
