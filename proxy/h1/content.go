package h1

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"anyedge/internal/message"
)

const (
	maxExtensions = 16 << 10 // bytes of chunk extensions in one message
	maxTrailer    = 16 << 10 // bytes of a trailer section
)

// A content is the content of a message as its framing delimits it (RFC 9112
// section 6). It belongs to one goroutine at a time.
type content struct {
	in      *reader
	chunked bool
	open    bool  // until the connection ends
	left    int64 // of the content, or of the chunk
	state   chunkState
	extra   int    // bytes of chunk extensions so far
	text    []byte // of the trailer section so far
	lines   int    // in text
	trailer message.Header
	failed  error // nothing behind it can be told apart
}

type chunkState uint8

const (
	chunkSize chunkState = iota // a size line comes
	chunkData
	chunkEnd     // the CRLF behind data comes
	chunkTrailer // the trailer section comes, behind the last chunk
	chunksOver
)

// lastChunk is the end of a chunked content without trailers, behind data.
const lastChunk = "\r\n0\r\n\r\n"

// Read returns io.EOF with the last bytes or behind them, and
// io.ErrUnexpectedEOF when the connection ends before. Behind a deadline it goes on
// where it was.
func (c *content) Read(p []byte) (int, error) {
	switch {
	case len(p) == 0:
		return 0, nil
	case c.failed != nil:
		return 0, c.failed
	case c.chunked:
		n, err := c.readChunks(p)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) {
			c.failed = err
		}
		return n, err
	case c.open:
		return c.in.read(p)
	case c.left == 0:
		return 0, io.EOF
	}
	n, err := c.take(p)
	if err == nil && c.left == 0 {
		err = io.EOF
	}
	return n, err
}

// take reads what is left of the content or the chunk.
func (c *content) take(p []byte) (int, error) {
	if int64(len(p)) > c.left {
		p = p[:c.left]
	}
	n, err := c.in.read(p)
	c.left -= int64(n)
	if n > 0 {
		return n, nil
	}
	return 0, early(err)
}

// early makes the end of a connection an error.
func early(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// readChunks reads chunks into p as far as it need not wait for the next one: a
// chunk of a byte must not cost a read of its own.
func (c *content) readChunks(p []byte) (n int, err error) {
	for n < len(p) && (n == 0 || c.more()) {
		switch c.state {
		case chunkSize:
			err = early(c.size())
		case chunkData:
			var m int
			m, err = c.take(p[n:])
			n += m
			if err == nil && c.left == 0 {
				c.state = chunkEnd
			}
		case chunkEnd:
			err = early(c.endChunk())
		case chunkTrailer:
			err = early(c.readTrailer())
		case chunksOver:
			err = io.EOF
		}
		if err != nil {
			return n, err
		}
	}
	if b := c.in; c.atLastChunk() {
		b.r += len(lastChunk)
		c.state = chunksOver
		return n, io.EOF
	}
	return n, nil
}

// more reports whether the next step of a content with chunks gives data, or an
// error, without waiting.
func (c *content) more() bool {
	there := c.in.buf[c.in.r:c.in.w]
	switch c.state {
	case chunkSize: // the last chunk has a trailer section to wait for
		return len(there) > 0 && there[0] != '0' && bytes.IndexByte(there, '\n') >= 0
	case chunkData:
		return len(there) > 0
	case chunkEnd:
		return len(there) >= len("\r\n") && !c.atLastChunk()
	case chunkTrailer:
		return false
	case chunksOver:
	}
	return true
}

// atLastChunk reports whether the content's end is there, behind data.
func (c *content) atLastChunk() bool {
	return c.state == chunkEnd && bytes.HasPrefix(c.in.buf[c.in.r:c.in.w], []byte(lastChunk))
}

// endChunk reads the CRLF behind data.
func (c *content) endChunk() error {
	line, err := c.in.line(1)
	if err != nil || len(line) > 0 {
		return orElse(err, errors.New("a chunk is longer than its size"))
	}
	c.state = chunkSize
	return nil
}

func orElse(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// size reads a chunk's size line.
func (c *content) size() error {
	line, err := c.in.line(maxLine)
	if err != nil {
		return err
	}
	digits, n := 0, int64(0)
	for ; digits < len(line); digits++ {
		v := unhex(line[digits])
		if v < 0 {
			break
		}
		if digits >= 15 {
			return errors.New("a chunk is too large")
		}
		n = n<<4 | int64(v)
	}
	extension := line[digits:]
	if c.extra += len(extension); c.extra > maxExtensions {
		return errors.New("too many chunk extensions")
	}
	switch {
	case digits == 0:
		return fmt.Errorf("%.20q is no chunk size", line)
	case len(extension) > 0 && !isExtension(string(extension)):
		return fmt.Errorf("%.20q is no chunk extension", extension)
	case n > 0:
		c.left, c.state = n, chunkData
		return nil
	}
	c.state = chunkTrailer
	return nil
}

// isExtension reports whether s may stand behind a chunk's size: a ";" first,
// maybe behind white space, and no control character (RFC 9112 section 7.1.1).
func isExtension(s string) bool {
	for i := range len(s) {
		switch s[i] {
		case ' ', '\t':
		case ';':
			return all(s, isValue)
		default:
			return false
		}
	}
	return false
}

// readTrailer reads the trailer section.
func (c *content) readTrailer() error {
	for {
		line, err := c.in.line(maxTrailer)
		switch {
		case err != nil:
			return err
		case len(line) == 0:
			h, err := parseFields(nil, string(c.text))
			c.trailer, c.state = cutTrailer(h), chunksOver
			return err
		case len(c.text)+len(line) > maxTrailer || c.lines == maxFields:
			return errors.New("the trailer section is over the limit")
		}
		c.text = append(append(c.text, line...), "\r\n"...)
		c.lines++
	}
}

func unhex(b byte) int {
	switch {
	case b >= '0' && b <= '9':
		return int(b - '0')
	case b >= 'a' && b <= 'f':
		return int(b-'a') + 10
	case b >= 'A' && b <= 'F':
		return int(b-'A') + 10
	}
	return -1
}

// over reports whether the content has been read to its end.
func (c *content) over() bool {
	if c.chunked {
		return c.state == chunksOver
	}
	return !c.open && c.left == 0
}

// ready returns how many bytes Read gives without waiting, at least.
func (c *content) ready() int {
	n := c.in.buffered()
	if c.chunked && c.state != chunkData {
		return 0
	}
	if !c.open && int64(n) > c.left {
		n = int(c.left)
	}
	return n
}
