package message

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
)

// closeWriter is a stream whose writing half can be ended alone.
type closeWriter interface{ CloseWrite() error }

// facing is a stream that puts something around the other one of its Pipe.
type facing interface {
	Face(other io.ReadWriteCloser) io.ReadWriteCloser
}

// Pipe copies between a, a client, and b, each end of one direction passed on, and
// closes both when both directions have ended, one has failed, or ctx has. When b
// has a method Face(io.ReadWriteCloser) io.ReadWriteCloser, what that makes of a
// takes a's place.
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
	direction := func(dst, src io.ReadWriteCloser) {
		_, err := io.Copy(writerOnly{dst}, src)
		if err == nil {
			err = CloseWrite(dst)
		}
		if err != nil {
			closeBoth()
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { direction(b, a) })
	direction(a, b)
	wg.Wait()
}

// writerOnly hides ReadFrom, which may wait for more than there is.
type writerOnly struct{ io.Writer }

// CloseWrite ends the writing half of w; it is an error when w has no halves.
func CloseWrite(w io.Writer) error {
	if cw, ok := w.(closeWriter); ok {
		return cw.CloseWrite()
	}
	return fmt.Errorf("end one direction: %w", errors.ErrUnsupported)
}
