package message

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// closeWriter is a stream whose writing half can be ended alone.
type closeWriter interface{ CloseWrite() error }

// facing is a stream that puts something around the other one of its Pipe.
type facing interface {
	Face(other io.ReadWriteCloser) io.ReadWriteCloser
}

// Pipe copies between a, a client, and b, each end of one direction passed on, and
// closes both when both directions have ended, a has failed, or ctx has ended. A b
// that fails may have said why: a hears it first. When b has a method
// Face(io.ReadWriteCloser) io.ReadWriteCloser, what that makes of a takes a's place.
func Pipe(ctx context.Context, a, b io.ReadWriteCloser) {
	if f, ok := b.(facing); ok {
		a = f.Face(a)
	}
	closeBoth := sync.OnceFunc(func() {
		_ = a.Close()
		_ = b.Close()
	})
	defer closeBoth()
	stop := context.AfterFunc(ctx, closeBoth)
	defer stop()
	var silent, deaf atomic.Bool // b says, b takes nothing more
	over := func() {
		if silent.Load() && deaf.Load() {
			time.AfterFunc(farewell, closeBoth)
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		w := sink{to: b}
		_, err := io.Copy(&w, a)
		switch {
		case w.failed: // b may have said why: the client hears it, and goes
			deaf.Store(true)
			over()
			_, _ = io.Copy(io.Discard, a)
			if silent.Load() {
				return
			}
		case err == nil && CloseWrite(b) == nil:
			return
		}
		closeBoth()
	})
	w := sink{to: a}
	_, err := io.Copy(&w, b)
	if w.failed || CloseWrite(a) != nil {
		closeBoth()
	}
	silent.Store(true)
	if err != nil {
		deaf.Store(true)
	}
	over()
	wg.Wait()
}

// farewell is how long a client of a dead b has to read b's last words and go.
const farewell = time.Second

// A sink remembers that it failed. It hides ReadFrom, which may wait for more than
// there is.
type sink struct {
	to     io.Writer
	failed bool
}

// Write passes p on.
func (s *sink) Write(p []byte) (int, error) {
	n, err := s.to.Write(p)
	s.failed = s.failed || err != nil
	return n, err
}

// CloseWrite ends the writing half of w; it is an error when w has no halves.
func CloseWrite(w io.Writer) error {
	if cw, ok := w.(closeWriter); ok {
		return cw.CloseWrite()
	}
	return fmt.Errorf("end one direction: %w", errors.ErrUnsupported)
}
