package message_test

import (
	"errors"
	"io"
	"sync"
	"testing"

	"anyedge/internal/message"
)

// A patient source gives what it is sent, and can be interrupted.
type patient struct {
	mu          sync.Mutex
	changed     sync.Cond
	text        string
	interrupted bool
	over        bool
	reads       int // under way
	began       int
}

func newPatient() *patient {
	p := &patient{}
	p.changed.L = &p.mu
	return p
}

func (p *patient) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reads++
	p.began++
	defer func() { p.reads-- }()
	p.changed.Broadcast()
	for p.text == "" && !p.interrupted && !p.over {
		p.changed.Wait()
	}
	n := copy(b, p.text)
	p.text = p.text[n:]
	switch {
	case p.interrupted:
		p.interrupted = false
		return n, message.ErrInterrupted
	case p.over && p.text == "":
		return n, io.EOF
	}
	return n, nil
}

func (p *patient) Interrupt() { p.set(func() { p.interrupted = true }) }

func (p *patient) Close() error {
	p.set(func() { p.over = true })
	return nil
}

func (p *patient) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	p.changed.Broadcast()
}

func (p *patient) send(s string, over bool) {
	p.set(func() { p.text += s; p.over = over })
}

// wait waits until the nth read of the source has begun.
func (p *patient) wait(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.began < n {
		p.changed.Wait()
	}
}

// A reader reads from a source that can be interrupted itself, and gives the read up
// when it is no longer the one to read. No byte is lost.
func TestBodyInterrupts(t *testing.T) {
	for _, tt := range []struct {
		name  string
		limit message.Size
		free  func(*message.Body, io.Closer) error
		want  string // what the second reader gets

		nested bool // the source is the reader of another body
	}{
		{"later reader opened", message.KiB, func(b *message.Body, _ io.Closer) error { _, err := b.Open(); return err }, "one two", false},
		{"reader closed", message.KiB, func(_ *message.Body, r io.Closer) error { return r.Close() }, "one two", false},
		{"later reader of a reader opened", message.KiB, func(b *message.Body, _ io.Closer) error { _, err := b.Open(); return err }, "one two", true},
		{"reader of a reader closed", message.KiB, func(_ *message.Body, r io.Closer) error { return r.Close() }, "one two", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			src := newPatient()
			b := message.NewBody(src, -1, tt.limit, nil)
			if tt.nested {
				inner, err := b.Open()
				if err != nil {
					t.Fatal(err)
				}
				b = message.NewBody(inner, -1, tt.limit, nil)
			}
			first, err := b.Open()
			if err != nil {
				t.Fatal(err)
			}
			src.send("one ", false)
			if _, err := io.ReadFull(first, make([]byte, 4)); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { _, err := first.Read(make([]byte, 1)); done <- err }()
			src.wait(2)
			if err := tt.free(b, first); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err == nil || errors.Is(err, message.ErrInterrupted) {
				t.Fatalf("the first reader ended with %v", err)
			}
			second, err := b.Open()
			if err != nil {
				t.Fatal(err)
			}
			src.send("two", true)
			if got, err := io.ReadAll(second); err != nil || string(got) != tt.want {
				t.Fatalf("%q, %v", got, err)
			}
			if b.Received() != 7 {
				t.Errorf("%d bytes received", b.Received())
			}
		})
	}
}

// What comes past the limit goes to the reader, and is gone for another one.
func TestBodyInPlacePastTheLimit(t *testing.T) {
	src := newPatient()
	b := message.NewBody(src, -1, 4, nil)
	r, err := b.Open()
	if err != nil {
		t.Fatal(err)
	}
	src.send("one two", true)
	p := make([]byte, 3)
	var got []byte
	for err == nil {
		var n int
		n, err = r.Read(p)
		got = append(got, p[:n]...)
	}
	if string(got) != "one two" || !errors.Is(err, io.EOF) || b.Replayable() {
		t.Fatalf("%q, %v, %v", got, err, b.Replayable())
	}
}

// Behind Close nobody reads from the source any more.
func TestBodyCloseWaits(t *testing.T) {
	src := newPatient()
	b := message.NewBody(src, -1, message.KiB, nil)
	r, err := b.Open()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { _, err := r.Read(make([]byte, 1)); done <- err }()
	src.wait(1)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	src.set(func() {
		if src.reads != 0 {
			t.Error("somebody still reads")
		}
	})
	if err := <-done; err == nil {
		t.Fatal("the read ended without an error")
	}
}
