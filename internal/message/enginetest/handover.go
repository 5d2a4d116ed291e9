package enginetest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"anyedge/internal/message"
)

// A later try takes content over from one that waits for the client: no byte is
// lost, nor a trailer.
func (s serverTest) handOver(t *testing.T) {
	srv := s.start(t, message.RoundTripFunc(func(_ context.Context, r *message.Request) (*message.Response, error) {
		for range 3 {
			if err := giveUp(r.Body); err != nil {
				return nil, err
			}
		}
		second, err := r.Body.Open()
		if err != nil {
			return nil, err
		}
		return &message.Response{
			Status: 200, Length: -1, Header: message.Header{{Name: "Trailer", Value: "X-Sum"}, {Name: "X-Taken", Value: "over"}},
			Body: second, Trailer: r.Body.Trailer,
		}, nil
	}))
	pr, pw := io.Pipe()
	go func() { _, _ = io.WriteString(pw, "one ") }()
	res := do(t, srv, "POST", "/", pr, func(r *http.Request) { r.Trailer = http.Header{"X-Sum": {"42"}} })
	if res.Header.Get("X-Taken") != "over" {
		t.Fatal(res.Status)
	}
	go func() {
		_, _ = io.WriteString(pw, "two")
		_ = pw.Close()
	}()
	if b, err := io.ReadAll(res.Body); err != nil || string(b) != "one two" {
		t.Fatalf("%q, %v", b, err)
	}
	if d := gocmp.Diff(http.Header{"X-Sum": {"42"}}, res.trailer()); d != "" {
		t.Fatal(d)
	}
}

// giveUp reads four bytes, waits for more and closes the reader.
func giveUp(b *message.Body) error {
	reader, err := b.Open()
	if err != nil {
		return err
	}
	if _, err := io.ReadFull(reader, make([]byte, 4)); err != nil {
		return err
	}
	begins, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		close(begins)
		_, err := reader.Read(make([]byte, 1))
		ended <- err
	}()
	<-begins
	if err := reader.Close(); err != nil {
		return err
	}
	if <-ended == nil {
		return errors.New("a try that was closed got content that is not there")
	}
	return nil
}
