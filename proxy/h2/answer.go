package h2

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"anyedge/internal/message"
)

var blocks = sync.Pool{New: func() any { return new([maxFrame]byte) }}

// A section is a header section to be written.
type section struct {
	req    *message.Request // nil: not of a request
	status string           // "": not of an answer
	header message.Header
	length string // content-length; "": none is said
	date   string
}

// digits returns n as text.
func (st *stream) digits(n int64) string {
	return st.arena.Text(strconv.AppendInt(st.arena.Room(20), n, 10))
}

// headers sends a header section.
func (st *stream) headers(s section, end, flush bool) error {
	c := st.conn
	var gone error
	err := c.write(flush, func(b []byte) []byte {
		if gone = st.alive(end); gone != nil {
			return b
		}
		return c.appendSection(b, st.id, &s, end)
	})
	if err = cmp.Or(gone, err); end && err == nil {
		st.endLocal()
	}
	return err
}

// alive reports whether frames may be sent on the stream; with end they are the
// last ones, and the peer may have read them before their writer goes on. It is
// asked with wmu held: nothing may follow RST_STREAM.
func (st *stream) alive(end bool) error {
	st.conn.mu.Lock()
	defer st.conn.mu.Unlock()
	if st.gone || st.conn.dead != nil {
		return errClientGone
	}
	if end {
		st.said = true
		st.settled()
	}
	return nil
}

func (st *stream) endLocal() {
	st.conn.mu.Lock()
	defer st.conn.mu.Unlock()
	st.localEnded = true
	if st.call != nil {
		st.call.settle()
	}
}

// encode appends a header section; wmu is held.
func (c *conn) encode(b []byte, s *section) []byte {
	b = c.enc.Begin(b)
	switch {
	case s.req != nil:
		b = appendRequest(b, c.enc, s.req)
	case s.status != "":
		b = c.enc.Append(b, ":status", s.status)
	}
	dated := false
	for i := range s.header {
		f := &s.header[i]
		switch kindOf(f.Name) {
		case kindDropped:
			continue
		case kindRequest:
			if s.status == "" && s.req == nil {
				continue
			}
		case kindDate:
			dated = true
		case kindOther:
		}
		if message.IsToken(f.Name) {
			b = c.enc.Append(b, f.Name, clean(f.Value))
		}
	}
	if s.date != "" && !dated {
		b = c.enc.Append(b, "date", s.date)
	}
	if s.length != "" {
		b = c.enc.Append(b, "content-length", s.length)
	}
	return b
}

// What a field of an answer is to its writer.
type kind uint8

const (
	kindOther   kind = iota
	kindDropped      // says something about another connection, or is written anyway
	kindRequest      // has no place in trailers
	kindDate
)

// kindOf tells the fields that are treated apart, in any case.
func kindOf(name string) kind {
	is := func(s string, k kind) kind {
		if strings.EqualFold(name, s) {
			return k
		}
		return kindOther
	}
	switch len(name) {
	case 2:
		return is("te", kindRequest)
	case 4:
		return max(is("date", kindDate), is("host", kindRequest))
	case 7:
		return max(is("upgrade", kindDropped), is("trailer", kindRequest))
	case 10:
		return max(is("connection", kindDropped), is("keep-alive", kindDropped))
	case 14:
		return max(is("content-length", kindDropped), is("http2-settings", kindDropped))
	case 16:
		return is("proxy-connection", kindDropped)
	case 17:
		return is("transfer-encoding", kindDropped)
	}
	return kindOther
}

// clean returns s as a value that no peer refuses, whatever an engine of another
// version let through.
func clean(s string) string {
	if message.IsValue(s) {
		return s
	}
	return strings.Trim(strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f {
			return ' '
		}
		return r
	}, s), " \t")
}

// appendSection appends HEADERS, and CONTINUATION where it is long; wmu is held.
func (c *conn) appendSection(b []byte, stream uint32, s *section, end bool) []byte {
	flags := byte(0)
	if end {
		flags = flagEndStream
	}
	at := len(b)
	b = c.encode(appendHeader(b, 0, typeHeaders, flags|flagEndHeaders, stream), s)
	size := len(b) - at - headerSize
	if size <= maxFrame {
		putLength(b[at:], size)
		return b
	}
	block := bytes.Clone(b[at+headerSize:])
	b = append(appendHeader(b[:at], maxFrame, typeHeaders, flags, stream), block[:maxFrame]...)
	for block = block[maxFrame:]; len(block) > maxFrame; block = block[maxFrame:] {
		b = append(appendHeader(b, maxFrame, typeContinuation, 0, stream), block[:maxFrame]...)
	}
	return append(appendHeader(b, len(block), typeContinuation, flagEndHeaders, stream), block...)
}

// data sends content as far as the windows let it, and waits for them. Nil p with
// end ends the stream alone.
func (st *stream) data(p []byte, end bool) error {
	c := st.conn
	for {
		n, err := st.reserve(len(p))
		if err != nil {
			return err
		}
		part, last := p[:n], end && n == len(p)
		p = p[n:]
		var gone error
		err = c.write(len(p) == 0, func(b []byte) []byte {
			if gone = st.alive(last); gone != nil {
				c.grow(int64(len(part)))
				return b
			}
			flags := byte(0)
			if last {
				flags = flagEndStream
			}
			return append(appendHeader(b, len(part), typeData, flags, st.id), part...)
		})
		if err = cmp.Or(gone, err); err != nil {
			return err
		}
		if len(p) == 0 {
			if last {
				st.endLocal()
			}
			return nil
		}
	}
}

// reserve takes up to n bytes, at most a frame of them, out of the windows.
func (st *stream) reserve(n int) (int, error) {
	c := st.conn
	flushed := false
	var stalled *time.Timer
	defer func() {
		if stalled != nil {
			stalled.Stop()
		}
	}()
	c.mu.Lock()
	for {
		if st.gone || c.dead != nil {
			c.mu.Unlock()
			return 0, errClientGone
		}
		most := min(int64(n), st.sendWindow, c.sendWindow, int64(c.peerFrame))
		if most > 0 || n == 0 {
			most = max(most, 0)
			st.sendWindow -= most
			c.sendWindow -= most
			c.control.count = 0 // the client answers content with frames that ask for nothing
			c.mu.Unlock()
			return int(most), nil
		}
		if !flushed { // what is queued may be what the client waits for
			c.mu.Unlock()
			if err := c.write(true, func(b []byte) []byte { return b }); err != nil {
				return 0, err
			}
			flushed = true
			c.mu.Lock()
			continue
		}
		if stalled == nil {
			id := st.id // the stream may be another one's when the call comes late
			stalled = time.AfterFunc(stallTimeout, func() { c.resetOpen(id, cancelled, c.cause(errStalled)) })
		}
		c.room.Wait()
	}
}

// grow gives back what was taken out of the connection's window and not sent.
func (c *conn) grow(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sendWindow += n
	c.room.Broadcast()
}

// answer sends res whole. After an error the stream must be reset.
func (st *stream) answer(res *message.Response) error {
	s := section{status: st.digits(int64(res.Status)), header: res.Header, date: st.conn.server.clock.Now()}
	length := res.Length
	if res.Body == nil {
		length = max(length, 0)
	}
	none := res.Body == nil
	switch {
	case res.Status == http.StatusNoContent:
		none = true
	case st.method == http.MethodHead || res.Status == http.StatusNotModified:
		// What the content would have been; of a 304 only its maker knows.
		none = true
		if v := res.Header.Get("Content-Length"); v != "" {
			s.length = v
		} else if length > 0 && res.Status != http.StatusNotModified {
			s.length = st.digits(length)
		}
	case length >= 0:
		s.length = st.digits(length)
	}
	if none {
		return st.headers(s, true, true)
	}
	if err := st.headers(s, false, message.Ready(res.Body) == 0); err != nil {
		return err
	}
	return st.content(res, length)
}

// content sends the content of res, and its trailer section.
func (st *stream) content(res *message.Response, length int64) error {
	block := blocks.Get().(*[maxFrame]byte)
	defer blocks.Put(block)
	var total int64
	for {
		n, err := res.Body.Read(block[:])
		end := errors.Is(err, io.EOF)
		total += int64(n)
		if length >= 0 && (total > length || end && total < length) {
			return fmt.Errorf("content has %d bytes, not %d", total, length)
		}
		var trailer message.Header
		if end && res.Trailer != nil {
			trailer = res.Trailer()
		}
		if n > 0 || end && len(trailer) == 0 {
			if err := st.data(block[:n], end && len(trailer) == 0); err != nil {
				return fmt.Errorf("write to the client: %w", err)
			}
		}
		switch {
		case end && len(trailer) > 0:
			return st.headers(section{header: trailer}, true, true)
		case end:
			return nil
		case err != nil:
			return err
		}
	}
}

// tunnel accepts an upgrade and pipes until it ends (RFC 8441 section 5).
func (st *stream) tunnel(res *message.Response) {
	h := res.Header.Clone()
	h.Del("Sec-Websocket-Accept")
	if err := st.headers(section{status: "200", header: h, date: st.conn.server.clock.Now()}, false, true); err != nil {
		return
	}
	message.Pipe(&st.life, &tunnel{st}, res.Stream)
}

// A tunnel is the byte stream of an extended CONNECT.
type tunnel struct{ st *stream }

// Read returns what the client sends.
func (t *tunnel) Read(p []byte) (int, error) { return t.st.read(p) }

// Write sends p.
func (t *tunnel) Write(p []byte) (int, error) {
	if err := t.st.data(p, false); err != nil {
		return 0, err
	}
	return len(p), nil
}

// CloseWrite ends the writing half.
func (t *tunnel) CloseWrite() error { return t.st.data(nil, true) }

// Close ends both halves.
func (t *tunnel) Close() error {
	st := t.st
	st.conn.mu.Lock()
	whole := st.localEnded && st.remoteEnded
	st.closed = true
	st.readable.Broadcast()
	st.conn.mu.Unlock()
	if !whole {
		st.reset(cancelled)
	}
	return nil
}
