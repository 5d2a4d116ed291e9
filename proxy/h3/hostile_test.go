package h3_test

import (
	"context"
	"io"
	"strings"
	"testing"

	"anyedge/internal/message"
	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h3"
)

// An extended CONNECT is accepted by any 2xx, so that an answer which is no
// upgrade must not have one; and h2c is nothing to change to.
func TestUpgradeNotTaken(t *testing.T) {
	server, client := enginetest.TLS(t)
	protocols := make(chan string, 1)
	addr := serve(t, h3.NewServer(h3.Config{TLS: server}, message.RoundTripFunc(func(_ context.Context, r *message.Request) (*message.Response, error) {
		protocols <- strings.Clone(r.Protocol)
		res := enginetest.Text(200, "hello")
		res.Header.Add("X-App", "kept")
		return res, nil
	}), enginetest.Log(t))).LocalAddr()
	for _, tt := range []struct{ asked, seen string }{{"websocket", "websocket"}, {"h2c", ""}, {"H2C", ""}, {"HTTP/2.0", ""}, {"TLS/1.0", ""}} {
		res, err := between(t, client, addr).RoundTrip(t.Context(), &message.Request{
			Method: "GET", Authority: "edge.example", Target: "/", Protocol: tt.asked,
		})
		if err != nil {
			t.Fatal(err)
		}
		protocol := enginetest.Within(t, "request", protocols)
		if res.Stream != nil || res.Status != 502 || res.Header.Get("X-App") != "kept" || protocol != tt.seen {
			t.Errorf("%s: %+v, asked for %q", tt.asked, res, protocol)
		}
		res.Close()
	}
}

// An extended CONNECT has no method of its own, so that only a GET can travel
// in one.
func TestUpgradeOfAPost(t *testing.T) {
	server, client := enginetest.TLS(t)
	addr := serve(t, h3.NewServer(h3.Config{TLS: server}, message.RoundTripFunc(func(_ context.Context, r *message.Request) (*message.Response, error) {
		t.Errorf("arrived as %s", r.Method)
		return enginetest.Text(200, ""), nil
	}), enginetest.Log(t))).LocalAddr()
	res, err := between(t, client, addr).RoundTrip(t.Context(), &message.Request{Method: "POST", Authority: "a", Target: "/", Protocol: "tcp"})
	res.Close()
	if message.SentBy(err) != message.NothingSent || err == nil {
		t.Errorf("%v", err)
	}
}

// Content that breaks off never looks complete to another geo.
func TestUploadBreaksOff(t *testing.T) {
	server, client := enginetest.TLS(t)
	began, seen := make(chan struct{}), make(chan error, 1)
	addr := serve(t, h3.NewServer(h3.Config{TLS: server}, message.RoundTripFunc(func(_ context.Context, r *message.Request) (*message.Response, error) {
		reader, err := r.Body.Open()
		if err == nil {
			_, err = io.ReadFull(reader, make([]byte, 4))
		}
		began <- struct{}{}
		if err == nil {
			_, err = io.Copy(io.Discard, reader)
		}
		seen <- err
		return enginetest.Text(200, ""), nil
	}), enginetest.Log(t))).LocalAddr()
	for _, length := range []int64{-1, 100} {
		pr, pw := io.Pipe()
		go func() {
			_, _ = io.WriteString(pw, "half")
			<-began
			_ = pw.CloseWithError(io.ErrUnexpectedEOF)
		}()
		res, _ := between(t, client, addr).RoundTrip(t.Context(), &message.Request{
			Method: "PUT", Authority: "a", Target: "/", Body: message.NewBody(pr, length, message.KiB, nil),
		})
		res.Close()
		if err := enginetest.Within(t, "request", seen); err == nil {
			t.Errorf("length %d: taken for complete", length)
		}
	}
}
