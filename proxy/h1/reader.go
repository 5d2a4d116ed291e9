package h1

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"

	"anyedge/proxy/wire"
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
	from io.Reader
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
	b.ended = err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, wire.ErrNothing)
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

// head returns a start line and a header section, up to and with the empty line
// (RFC 9112 section 2.1); it is valid until the next read. One empty line before
// it is skipped (section 2.2). limit is in bytes, lines is how many fields it may have.
func (b *reader) head(limit, lines int) ([]byte, error) {
	var s headScan
	for {
		head, err := s.next(b, limit, lines)
		if head != nil || err != nil {
			return head, err
		}
		if err := b.fill(); err != nil {
			return nil, err
		}
	}
}

// A headScan is how far a reader has looked for the end of a head, in bytes
// behind b.r.
type headScan struct {
	at, line int // line is where the one that at stands in begins
	lines    int // before it
	skipped  bool
}

// next returns the head when it is whole, nil when more must come.
func (s *headScan) next(b *reader, limit, lines int) ([]byte, error) {
	for {
		i := bytes.IndexByte(b.buf[b.r+s.at:b.w], '\n')
		if i < 0 {
			s.at = b.buffered()
			return nil, s.over(limit)
		}
		end := s.at + i // of the line's LF
		s.at = end + 1
		if end == s.line || b.buf[b.r+end-1] != '\r' {
			return nil, errBareLF
		}
		switch empty := end-1 == s.line; {
		case empty && s.lines > 0:
			if err := s.over(limit); err != nil {
				return nil, err
			}
			head := b.buf[b.r : b.r+s.at]
			b.r += s.at
			return head, nil
		case empty && s.skipped:
			return nil, errNoStartLine
		case empty:
			b.r += s.at
			*s = headScan{skipped: true}
		case s.lines == 0 && s.at > limit:
			return nil, errLineTooLong
		case s.lines > lines:
			return nil, errTooMany
		default:
			s.line = s.at
			s.lines++
		}
	}
}

// over returns an error when what was looked at is too much.
func (s *headScan) over(limit int) error {
	switch {
	case s.at <= limit:
		return nil
	case s.lines == 0:
		return errLineTooLong
	}
	return errHeadTooLarge
}

// line returns the next line without its CRLF; it is valid until the next read.
func (b *reader) line(limit int) ([]byte, error) {
	scanned := 0
	for {
		if i := bytes.IndexByte(b.buf[b.r+scanned:b.w], '\n'); i >= 0 {
			end := b.r + scanned + i
			switch {
			case end == b.r || b.buf[end-1] != '\r':
				return nil, errBareLF
			case end-b.r > limit:
				return nil, errHeadTooLarge
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
