package h1

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
)

const (
	bufferSize = 4 << 10
	maxLine    = 4 << 10 // of a chunk's size with its extensions
)

var (
	errHeadTooLarge = errors.New("the header section is over the limit")
	errLineTooLong  = errors.New("the request line is over the limit")
	errTooMany      = errors.New("the header section has too many lines")
	errBareLF       = errors.New("a line ends with a bare LF")
)

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// A reader takes a connection's bytes apart. It belongs to one goroutine at a
// time.
type reader struct {
	from net.Conn
	buf  []byte // unread bytes are buf[r:w]
	r, w int
	got  int64 // bytes read from the connection so far

	ended bool // the connection has ended, or failed for good
}

// buffered returns how many bytes are there without waiting.
func (b *reader) buffered() int { return b.w - b.r }

// fill reads once from the connection.
func (b *reader) fill() error {
	if b.buf == nil {
		b.buf = buffers.Get().(*[bufferSize]byte)[:]
	}
	switch {
	case b.r == b.w:
		b.r, b.w = 0, 0
	case b.w == len(b.buf) && b.r > 0:
		b.w = copy(b.buf, b.buf[b.r:b.w])
		b.r = 0
	case b.w == len(b.buf):
		bigger := make([]byte, 2*len(b.buf))
		b.w = copy(bigger, b.buf)
		b.giveBack()
		b.buf = bigger
	}
	n, err := b.receive(b.buf[b.w:])
	b.w += n
	if n > 0 {
		return nil // the error comes again
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// receive reads from the connection.
func (b *reader) receive(p []byte) (int, error) {
	n, err := b.from.Read(p)
	b.got += int64(n)
	b.ended = err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
	return n, err
}

// release gives the buffer up as long as it holds nothing.
func (b *reader) release() {
	if b.r == b.w && b.buf != nil {
		b.giveBack()
		b.buf, b.r, b.w = nil, 0, 0
	}
}

func (b *reader) giveBack() {
	if len(b.buf) == bufferSize {
		buffers.Put((*[bufferSize]byte)(b.buf))
	}
}

// read returns what is buffered, or reads into p.
func (b *reader) read(p []byte) (int, error) {
	if b.r == b.w {
		if len(p) >= bufferSize {
			return b.receive(p)
		}
		if err := b.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.buf[b.r:b.w])
	b.r += n
	return n, nil
}

// wholeHead reports whether a header section's end is buffered.
func (b *reader) wholeHead() bool { return bytes.Contains(b.buf[b.r:b.w], []byte("\r\n\r\n")) }

// head returns a start line and a header section, up to and with the empty line
// (RFC 9112 section 2.1); it is valid until the next read. One empty line before it is skipped
// (section 2.2). limit is in bytes.
func (b *reader) head(limit int) ([]byte, error) {
	scanned, start, lines := 0, 0, 0 // in bytes behind b.r
	skipped := false
	for {
		for {
			i := bytes.IndexByte(b.buf[b.r+scanned:b.w], '\n')
			if i < 0 {
				scanned = b.buffered()
				break
			}
			end := scanned + i // of the line's LF
			scanned = end + 1
			if end == start || b.buf[b.r+end-1] != '\r' {
				return nil, errBareLF
			}
			switch empty := end-1 == start; {
			case empty && lines == 0 && skipped:
				return nil, errNoStartLine
			case empty && lines == 0:
				skipped = true
				b.r += scanned
				scanned, start = 0, 0
				continue
			case empty && scanned > limit:
				return nil, errHeadTooLarge
			case empty:
				head := b.buf[b.r : b.r+scanned]
				b.r += scanned
				return head, nil
			}
			start = scanned
			if lines++; lines > maxFields+1 {
				return nil, errTooMany
			}
		}
		if b.buffered() > limit {
			if lines == 0 {
				return nil, errLineTooLong
			}
			return nil, errHeadTooLarge
		}
		if err := b.fill(); err != nil {
			return nil, err
		}
	}
}

// line returns the next line without its CRLF; it is valid until the next read.
func (b *reader) line(limit int) ([]byte, error) {
	scanned := 0
	for {
		if i := bytes.IndexByte(b.buf[b.r+scanned:b.w], '\n'); i >= 0 {
			end := b.r + scanned + i
			if end == b.r || b.buf[end-1] != '\r' {
				return nil, errBareLF
			}
			line := b.buf[b.r : end-1]
			b.r = end + 1
			return line, nil
		}
		scanned = b.buffered()
		if scanned > limit {
			return nil, errHeadTooLarge
		}
		if err := b.fill(); err != nil {
			return nil, err
		}
	}
}
