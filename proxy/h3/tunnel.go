package h3

import (
	"errors"
	"io"
	"sync"

	"github.com/quic-go/quic-go"
)

// A tunnel is the byte stream of an extended CONNECT, which either side has.
type tunnel struct {
	quic   *quic.Stream
	in     *incoming
	out    output
	broken func(error) // ends the connection of a peer that broke one of its rules
	over   func()      // called by Close; nil: nobody has to know

	mu     sync.Mutex // guards what follows
	ended  bool       // our direction
	closed bool
}

// Read returns what the peer sends.
func (t *tunnel) Read(p []byte) (int, error) {
	n, err := t.in.content(p)
	if bad, ok := errors.AsType[connError](err); ok {
		t.broken(bad)
	}
	return n, err
}

// Write sends p.
func (t *tunnel) Write(p []byte) (int, error) {
	defer t.out.drop()
	sent := 0
	for sent < len(p) {
		t.out.room()
		n, _ := t.out.chunk(func(room []byte) (int, error) { return copy(room, p[sent:]), nil })
		if err := t.out.flush(); err != nil {
			return sent, err
		}
		sent += n
	}
	return sent, nil
}

// CloseWrite ends the writing half.
func (t *tunnel) CloseWrite() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return io.ErrClosedPipe
	}
	t.ended = true
	return t.quic.Close()
}

// Close ends both halves.
func (t *tunnel) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	t.closed = true
	t.quic.CancelRead(quic.StreamErrorCode(requestCancelled)) // nothing, behind the end
	if !t.ended {
		t.quic.CancelWrite(quic.StreamErrorCode(requestCancelled))
	}
	if t.over != nil {
		t.over()
	}
	return nil
}
