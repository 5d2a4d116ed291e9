package h1

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"

	"anyedge/internal/message"
)

// blockSize is how much of an answer is written at once, at most.
const blockSize = 32 << 10

// chunkHead is the room for a chunk's size line: blocks are below 64 KiB.
const chunkHead = len("ffff\r\n")

var blocks = sync.Pool{New: func() any { b := make([]byte, 0, blockSize+4<<10); return &b }}

// An answer is the writing of one answer to a client.
type answer struct {
	conn   *conn
	minor  int    // of the client's HTTP/1
	method string // of the request
	last   bool   // the connection ends behind it

	mu    sync.Mutex // held while an interim answer is written
	final bool       // no interim answer may be written any more
	went  bool       // a 100 was written

	informs func(int, message.Header) // the method inform: made once, kept from one exchange to the next
}

// Reset makes a ready for another exchange in the same arena.
func (a *answer) Reset() {
	a.conn, a.minor, a.method, a.last, a.final, a.went = nil, 0, "", false, false, false
}

// inform writes an interim answer at once.
func (a *answer) inform(status int, h message.Header) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.final || status < 100 || status > 199 || status == http.StatusSwitchingProtocols {
		return
	}
	a.went = a.went || status == http.StatusContinue
	b := appendStatus(nil, status)
	b = appendFields(b, h, false)
	b = append(b, "\r\n"...)
	_ = a.conn.send(b) // a failure shows at the final answer
}

// proceed tells a client that waits for it to send its content, unless a 100 of
// the answerer already has.
func (a *answer) proceed() {
	a.mu.Lock()
	went := a.went
	a.mu.Unlock()
	if !went {
		a.inform(http.StatusContinue, nil)
	}
}

// endInterim makes later calls of inform do nothing.
func (a *answer) endInterim() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.final = true
}

// A shape is how an answer's content is delimited.
type shape struct {
	length  int64 // -1: not known
	said    int64 // Content-Length; -1: none is said
	chunked bool
	none    bool // no content follows, whatever the head says
}

// shape decides how the content of res is delimited (RFC 9112 section 6.3).
func (a *answer) shape(res *message.Response) shape {
	s := shape{length: res.Length, said: -1}
	if res.Body == nil {
		s.length = 0
	}
	switch {
	case res.Status == http.StatusNoContent:
		s.none = true
	case a.method == http.MethodHead || res.Status == http.StatusNotModified:
		// What the content would have been; of a 304 only its maker knows.
		s.none = true
		v := res.Header.Get("Content-Length")
		if n, ok := message.ParseLength(v); ok {
			s.said = n
		} else if res.Length > 0 && res.Status != http.StatusNotModified {
			s.said = res.Length
		}
	case s.length >= 0 && (res.Body == nil || a.minor == 0 || !res.Header.Has("Trailer")):
		s.said = s.length
	case a.minor > 0:
		s.chunked = true
	default:
		a.last = true
	}
	return s
}

// write writes res, which has a final status, whole. After an error the
// connection must be severed.
func (a *answer) write(res *message.Response) error {
	s := a.shape(res)
	block := blocks.Get().(*[]byte)
	defer func() { *block = (*block)[:0]; blocks.Put(block) }()
	b := appendStatus(*block, res.Status)
	b = appendFields(b, res.Header, s.chunked)
	if !res.Header.Has("Date") {
		b = append(append(append(b, "Date: "...), a.conn.server.clock.Now()...), "\r\n"...)
	}
	switch {
	case s.chunked:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case s.said >= 0:
		b = append(strconv.AppendInt(append(b, "Content-Length: "...), s.said, 10), "\r\n"...)
	}
	switch {
	case a.last:
		b = append(b, "Connection: close\r\n"...)
	case a.minor == 0:
		b = append(b, "Connection: keep-alive\r\n"...)
	}
	b = append(b, "\r\n"...)
	if cap(b) > cap(*block) && cap(b) <= 2*blockSize {
		*block = b
	}
	if s.none || res.Body == nil {
		return a.conn.send(b)
	}
	if s.chunked {
		return a.chunks(b, res)
	}
	return a.plain(b, res.Body, s.length)
}

// plain writes a head and content of a length, or until the end of the
// connection.
func (a *answer) plain(b []byte, body io.Reader, length int64) error {
	if len(b) > blockSize || message.Ready(body) == 0 {
		if err := a.conn.send(b); err != nil {
			return err
		}
		b = b[:0]
	}
	var total int64
	for {
		b = room32(b)
		n, err := body.Read(b[len(b):blockSize])
		total += int64(n)
		if length >= 0 && total > length {
			return fmt.Errorf("content is longer than its length, %d", length)
		}
		if b = b[:len(b)+n]; len(b) > 0 {
			if err := a.conn.send(b); err != nil {
				return fmt.Errorf("write to the client: %w", err)
			}
			b = b[:0]
		}
		switch {
		case errors.Is(err, io.EOF) && total < length:
			return fmt.Errorf("content ended early, after %d bytes, not %d", total, length)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// room32 returns b with place for a block.
func room32(b []byte) []byte {
	if cap(b) < blockSize {
		return append(make([]byte, 0, blockSize), b...)
	}
	return b
}

// chunks writes a head and content of unknown length, and its trailer section.
func (a *answer) chunks(b []byte, res *message.Response) error {
	body := res.Body
	if len(b) > blockSize/2 || message.Ready(body) == 0 {
		if err := a.conn.send(b); err != nil {
			return err
		}
		b = b[:0]
	}
	for {
		b = room32(b)
		start := len(b) + chunkHead
		n, err := body.Read(b[start : blockSize-2])
		if n > 0 {
			b = frameChunk(b, n)
		}
		end := errors.Is(err, io.EOF)
		if end {
			b = appendLast(b, res)
		}
		if len(b) > 0 {
			if err := a.conn.send(b); err != nil {
				return fmt.Errorf("write to the client: %w", err)
			}
			b = b[:0]
		}
		if end {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// appendLast appends the last chunk and the trailer section.
func appendLast(b []byte, res *message.Response) []byte {
	b = append(b, "0\r\n"...)
	if res.Trailer != nil {
		b = appendTrailer(b, res.Trailer())
	}
	return append(b, "\r\n"...)
}

// frameChunk makes a chunk of n bytes that stand chunkHead behind the end of b.
func frameChunk(b []byte, n int) []byte {
	at := len(b)
	data := b[at+chunkHead : at+chunkHead+n]
	b = strconv.AppendInt(b, int64(n), 16)
	b = append(b, "\r\n"...)
	if len(b) != at+chunkHead { // a short size: the data moves up to it
		b = append(b, data...)
	} else {
		b = b[:len(b)+n]
	}
	return append(b, "\r\n"...)
}

// switching writes the head of a 101.
func (a *answer) switching(res *message.Response, protocol string) error {
	b := appendStatus(nil, http.StatusSwitchingProtocols)
	b = append(append(append(b, "Connection: Upgrade\r\nUpgrade: "...), protocol...), "\r\n"...)
	b = appendFields(b, res.Header, false)
	b = append(b, "\r\n"...)
	return a.conn.send(b)
}

func appendStatus(b []byte, status int) []byte {
	b = strconv.AppendInt(append(b, "HTTP/1.1 "...), int64(status), 10)
	b = append(append(b, ' '), http.StatusText(status)...)
	return append(b, "\r\n"...)
}

// appendFields appends field lines, but those that the writer makes itself.
func appendFields(b []byte, h message.Header, trailers bool) []byte {
	for i := range h {
		switch kind(h[i].Name) {
		case kindOther, kindExpect, kindHost, kindTE:
			if !trailers && same(h[i].Name, "Trailer") {
				continue
			}
			b = appendField(b, h[i])
		}
	}
	return b
}

// appendField appends a line that can be nothing but one: whatever an engine of
// another version let through, no value begins another line.
func appendField(b []byte, f message.Field) []byte {
	if f.Name == "" || !all(f.Name, isToken) {
		return b
	}
	b = append(append(b, f.Name...), ": "...)
	if isText(f.Value) {
		return append(append(b, f.Value...), "\r\n"...)
	}
	for i := range len(f.Value) {
		c := f.Value[i]
		if classes[c]&isValue == 0 {
			c = ' '
		}
		b = append(b, c)
	}
	return append(b, "\r\n"...)
}

func appendTrailer(b []byte, h message.Header) []byte {
	for _, f := range cutTrailer(h.Clone()) {
		b = appendField(b, f)
	}
	return b
}
