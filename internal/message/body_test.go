package message_test

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"anyedge/internal/message"
)

func TestBodyReplaysUpToItsLimit(t *testing.T) {
	const content = "the content of a request"
	for _, tt := range []struct {
		name   string
		limit  message.Size
		first  int // bytes the first try reads before it fails
		replay bool
	}{
		{"nothing read yet", 4, 0, true},
		{"read within the limit", 64, 10, true},
		{"read to the end", 64, len(content), true},
		{"read past the limit", 4, 10, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			src := io.NopCloser(iotest.OneByteReader(strings.NewReader(content)))
			b := message.NewBody(src, int64(len(content)), tt.limit, nil)
			first, err := b.Open()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(first, make([]byte, tt.first)); err != nil {
				t.Fatal(err)
			}
			if b.Replayable() != tt.replay {
				t.Fatalf("Replayable() = %v, want %v", b.Replayable(), tt.replay)
			}
			second, err := b.Open()
			if !tt.replay {
				if !errors.Is(err, message.ErrNotReplayable) {
					t.Fatalf("Open() = %v, want ErrNotReplayable", err)
				}
				rest, err := io.ReadAll(first)
				if err != nil || string(rest) != content[tt.first:] {
					t.Fatalf("the only reader got %q, %v", rest, err)
				}
				return
			}
			got, err := io.ReadAll(second)
			if err != nil || string(got) != content {
				t.Fatalf("second try read %q, %v", got, err)
			}
			if _, err := first.Read(make([]byte, 1)); err == nil {
				t.Fatal("the first reader still reads after a later one was opened")
			}
		})
	}
}

// A try that blocks in the source when the next try begins must not lose the
// bytes it was waiting for.
func TestBodyKeepsBytesOfABlockedReader(t *testing.T) {
	pr, pw := io.Pipe()
	b := message.NewBody(pr, -1, message.KiB, nil)
	first, err := b.Open()
	if err != nil {
		t.Fatal(err)
	}
	blocked := make(chan error, 1)
	go func() {
		_, err := io.ReadAll(first)
		blocked <- err
	}()
	if _, err := pw.Write([]byte("one ")); err != nil {
		t.Fatal(err)
	}
	second, err := b.Open()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = pw.Write([]byte("two"))
		_ = pw.Close()
	}()
	got, err := io.ReadAll(second)
	if err != nil || string(got) != "one two" {
		t.Fatalf("second try read %q, %v", got, err)
	}
	if err := <-blocked; err == nil {
		t.Fatal("the superseded reader ended without an error")
	}
}

func TestBodyClose(t *testing.T) {
	pr, _ := io.Pipe()
	b := message.NewBody(pr, -1, message.KiB, nil)
	r, err := b.Open()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { _, err := r.Read(make([]byte, 1)); done <- err }()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err == nil {
		t.Fatal("a read after Close succeeded")
	}
}

func TestBodyTrailer(t *testing.T) {
	want := message.Header{{Name: "X-Sum", Value: "1"}}
	b := message.NewBody(io.NopCloser(bytes.NewReader([]byte("x"))), 1, 0, func() message.Header { return want })
	if got := b.Trailer(); got != nil {
		t.Fatalf("trailer before the end: %v", got)
	}
	r, err := b.Open()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); err != nil {
		t.Fatal(err)
	}
	if got := b.Trailer(); len(got) != 1 || got.Get("x-sum") != "1" {
		t.Fatalf("trailer = %v", got)
	}
}

// A reader that waits for a silent client must not wait for it any longer when
// its try is over: the source has nothing until the end of this test.
func TestBodyFreesAWaitingReader(t *testing.T) {
	for _, tt := range []struct {
		name string
		free func(*message.Body, io.Closer) error
	}{
		{"reader closed", func(_ *message.Body, r io.Closer) error { return r.Close() }},
		{"later reader opened", func(b *message.Body, _ io.Closer) error { _, err := b.Open(); return err }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pr, pw := io.Pipe()
			b := message.NewBody(pr, -1, message.KiB, nil)
			first, err := b.Open()
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { _, err := first.Read(make([]byte, 1)); done <- err }()
			if _, err := pw.Write(nil); err != nil { // returns when the source is being read
				t.Fatal(err)
			}
			if err := tt.free(b, first); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err == nil {
				t.Fatal("the read ended without an error")
			}
			go func() { _, _ = pw.Write([]byte("late")); _ = pw.Close() }()
			second, err := b.Open()
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(second); err != nil || string(got) != "late" {
				t.Fatalf("the next try read %q, %v", got, err)
			}
		})
	}
}

// Content that broke off cannot be replayed, however little of it there was.
func TestBodyFailure(t *testing.T) {
	broken := errors.New("broken")
	for _, end := range []error{nil, broken} {
		src := io.MultiReader(strings.NewReader("half"), iotest.ErrReader(cmp.Or(end, io.EOF)))
		b := message.NewBody(io.NopCloser(src), -1, message.KiB, nil)
		r, err := b.Open()
		if err != nil {
			t.Fatal(err)
		}
		if !b.Replayable() || b.Failure() != nil {
			t.Error("fails before its end")
		}
		_, err = io.ReadAll(r)
		if !errors.Is(err, end) || !errors.Is(b.Failure(), end) || b.Replayable() != (end == nil) {
			t.Errorf("%v: read %v, failure %v, replayable %v", end, err, b.Failure(), b.Replayable())
		}
	}
}
