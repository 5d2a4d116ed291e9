package h2

import (
	"io"
	"sync"
)

var frameBuffers = sync.Pool{New: func() any { return new([headerSize + maxFrame]byte) }}

// A reader takes a connection's bytes apart. It has a buffer only as long as there
// is something in it, or while it waits within a Read. It belongs to one goroutine.
type reader struct {
	from io.Reader
	buf  *[headerSize + maxFrame]byte // unread bytes are buf[r:w]
	r, w int
}

// frame returns the next frame if all of it is there. Its payload is valid until the
// next fill.
func (b *reader) frame() (f frame, whole bool, err error) {
	if b.w-b.r < headerSize {
		return f, false, nil
	}
	f, length := parseHeader(b.buf[b.r:b.w])
	switch {
	case length > maxFrame:
		return f, false, connError{frameSizeError, "a frame is over 16 KiB"}
	case b.w-b.r < headerSize+length:
		return f, false, nil
	}
	f.payload = b.buf[b.r+headerSize : b.r+headerSize+length]
	b.r += headerSize + length
	return f, true, nil
}

// starts reads as many bytes as s has, and reports whether they are s.
func (b *reader) starts(s string) bool {
	for b.w-b.r < len(s) {
		if b.fill() != nil {
			return false
		}
	}
	b.r += len(s)
	return string(b.buf[b.r-len(s):b.r]) == s
}

// fill reads once from the connection.
func (b *reader) fill() error {
	switch {
	case b.buf == nil:
		b.buf = frameBuffers.Get().(*[headerSize + maxFrame]byte)
	case b.r == b.w:
		b.r, b.w = 0, 0
	case b.r > 0 && len(b.buf)-b.w < maxFrame/4, b.w == len(b.buf):
		b.w = copy(b.buf[:], b.buf[b.r:b.w])
		b.r = 0
	}
	n, err := b.from.Read(b.buf[b.w:])
	b.w += n
	if n > 0 {
		return nil // the error comes again
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// release gives the buffer up unless something is in it.
func (b *reader) release() {
	if b.r == b.w && b.buf != nil {
		frameBuffers.Put(b.buf)
		b.buf, b.r, b.w = nil, 0, 0
	}
}
