// Package qpack encodes and decodes field sections of HTTP/3 (RFC 9204) without
// a dynamic table: a [Section] refers to the static table or has its strings with
// it, which is what a peer does when it is told that the table's capacity is 0.
// So no section waits for another stream, and what a peer can make this side
// remember is nothing.
package qpack

import (
	"errors"

	"anyedge/internal/huffman"
)

// ErrTooLarge means that a section is larger than its reader takes.
var ErrTooLarge = errors.New("qpack: the field section is too large")

// Why a section cannot be decoded (QPACK_DECOMPRESSION_FAILED).
var (
	errShort   = errors.New("qpack: the section ends within a field line")
	errDynamic = errors.New("qpack: the section refers to a dynamic table, which has no room")
	errIndex   = errors.New("qpack: the static table has no such entry")
	errInteger = errors.New("qpack: an integer is too large")
	errNothing = errors.New("qpack: an acknowledgment of nothing")
)

// lineCost is what a line counts beside its bytes (RFC 9114 section 4.2.2).
const lineCost = 32

// A Section is a decoded field section. Its memory is used again by the next
// Decode.
type Section struct {
	lines []line
	text  []byte // what the lines' strings are made of
	size  int
}

type line struct{ name, value piece }

// A piece is a string of the static table, or a part of the section's text.
type piece struct {
	static   string
	from, to int32
}

// Decode reads the section in b. It fails with ErrTooLarge as soon as it is more
// than maxSize bytes as RFC 9114 section 4.2.2 counts them: 32 for each line beside
// its strings.
func (s *Section) Decode(b []byte, maxSize int) error {
	s.lines, s.text, s.size = s.lines[:0], s.text[:0], 0
	b, err := prefix(b)
	for err == nil && len(b) > 0 {
		var l line
		if b, err = s.line(&l, b); err != nil {
			break
		}
		if s.size += lineCost + l.name.len() + l.value.len(); s.size > maxSize {
			return ErrTooLarge
		}
		s.lines = append(s.lines, l)
	}
	return err
}

// Text returns the bytes that Line needs as a string.
func (s *Section) Text() []byte { return s.text }

// Len returns how many lines there are.
func (s *Section) Len() int { return len(s.lines) }

// Line returns a line; text is the string of Text.
func (s *Section) Line(i int, text string) (name, value string) {
	l := &s.lines[i]
	return l.name.of(text), l.value.of(text)
}

func (p piece) len() int { return len(p.static) + int(p.to-p.from) }

func (p piece) of(text string) string {
	if p.static != "" {
		return p.static
	}
	return text[p.from:p.to]
}

// prefix takes the beginning of a section off (section 4.5.1).
func prefix(b []byte) ([]byte, error) {
	inserts, b, err := integer(b, 8)
	if err != nil {
		return nil, err
	}
	if inserts != 0 {
		return nil, errDynamic
	}
	if len(b) > 0 && b[0]&0x80 != 0 { // a base before the first insertion
		return nil, errDynamic
	}
	_, b, err = integer(b, 7)
	return b, err
}

// line reads one field line (sections 4.5.2 to 4.5.6).
func (s *Section) line(l *line, b []byte) (rest []byte, err error) {
	var i uint64
	switch c := b[0]; {
	case c&0xc0 == 0xc0:
		if i, b, err = integer(b, 6); err != nil {
			return nil, err
		}
		if i >= uint64(len(static)) {
			return nil, errIndex
		}
		l.name.static, l.value.static = static[i].name, static[i].value
		return b, nil
	case c&0xd0 == 0x50:
		if i, b, err = integer(b, 4); err != nil {
			return nil, err
		}
		if i >= uint64(len(static)) {
			return nil, errIndex
		}
		l.name.static = static[i].name
	case c&0xe0 == 0x20:
		if l.name, b, err = s.word(b, 3); err != nil {
			return nil, err
		}
	default:
		return nil, errDynamic
	}
	l.value, b, err = s.word(b, 7)
	return b, err
}

// word reads a string whose length has n bits in the first byte, behind the bit
// that says that it is Huffman-coded.
func (s *Section) word(b []byte, n uint) (p piece, rest []byte, err error) {
	coded := len(b) > 0 && b[0]>>n&1 == 1
	length, b, err := integer(b, n)
	if err != nil {
		return p, nil, err
	}
	if length > uint64(len(b)) {
		return p, nil, errShort
	}
	p.from = int32(len(s.text))
	if coded {
		s.text, err = huffman.Append(s.text, b[:length])
	} else {
		s.text = append(s.text, b[:length]...)
	}
	p.to = int32(len(s.text))
	return p, b[length:], err
}

// Cancellations reads the instructions of a decoder stream that may come when there
// is no dynamic table, which are stream cancellations (section 4.4.2). It returns
// how many bytes at the end of b are the beginning of one.
func Cancellations(b []byte) (left int, err error) {
	for len(b) > 0 {
		if b[0]&0xc0 != 0x40 {
			return 0, errNothing
		}
		_, rest, err := integer(b, 6)
		if errors.Is(err, errShort) {
			return len(b), nil
		}
		if err != nil {
			return 0, err
		}
		b = rest
	}
	return 0, nil
}

// integer reads an integer that begins with the last n bits of the first byte
// (RFC 7541 section 5.1).
func integer(b []byte, n uint) (v uint64, rest []byte, err error) {
	if len(b) == 0 {
		return 0, nil, errShort
	}
	most := uint64(1)<<n - 1
	v, b = uint64(b[0])&most, b[1:]
	if v < most {
		return v, b, nil
	}
	for shift := uint(0); shift < 56; shift += 7 {
		if len(b) == 0 {
			return 0, nil, errShort
		}
		c := b[0]
		b = b[1:]
		v += uint64(c&0x7f) << shift
		if c < 0x80 {
			return v, b, nil
		}
	}
	return 0, nil, errInteger
}
