package h2

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2/hpack"

	"anyedge/internal/message"
)

var blocks = sync.Pool{New: func() any { return new([maxFrame]byte) }}

// A section is a header section to be written.
type section struct {
	req    *message.Request // nil: not of a request
	status int              // 0: not of an answer
	header message.Header
	length string // content-length; "": none is said
	date   string
}

// headers sends a header section.
func (st *stream) headers(s section, end, flush bool) error {
	c := st.conn
	var gone error
	err := c.write(flush, func(b []byte) []byte {
		if gone = st.alive(); gone != nil {
			return b
		}
		c.encoded.b = c.encoded.b[:0]
		c.encode(s)
		return appendSection(b, st.id, c.encoded.b, end)
	})
	if err = cmp.Or(gone, err); end && err == nil {
		st.endLocal()
	}
	return err
}

// alive reports whether frames may be sent on the stream. It is asked with wmu
// held: nothing may follow RST_STREAM.
func (st *stream) alive() error {
	st.conn.mu.Lock()
	defer st.conn.mu.Unlock()
	if st.gone || st.conn.dead != nil {
		return errClientGone
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

// encode writes a header section; wmu is held.
func (c *conn) encode(s section) {
	put := func(name, value string) { _ = c.enc.WriteField(hpack.HeaderField{Name: name, Value: value}) }
	switch {
	case s.req != nil:
		putRequest(s.req, put)
	case s.status != 0:
		put(":status", strconv.Itoa(s.status))
	}
	dated := false
	for i := range s.header {
		name := lower(s.header[i].Name)
		switch name {
		case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "http2-settings", "content-length":
			continue
		case "trailer", "host", "te":
			if s.status == 0 && s.req == nil {
				continue
			}
		case "date":
			dated = true
		}
		if isName(name) {
			put(name, clean(s.header[i].Value))
		}
	}
	if s.date != "" && !dated {
		put("date", s.date)
	}
	if s.length != "" {
		put("content-length", s.length)
	}
}

// lower returns a field name as HTTP/2 spells it.
func lower(name string) string {
	for i := range len(name) {
		if name[i] >= 'A' && name[i] <= 'Z' {
			return strings.ToLower(name)
		}
	}
	return name
}

// clean returns s as a value that no peer refuses, whatever an engine of another
// version let through.
func clean(s string) string {
	if isValue(s) {
		return s
	}
	return strings.Trim(strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f {
			return ' '
		}
		return r
	}, s), " \t")
}

// appendSection appends HEADERS, and CONTINUATION where it is long.
func appendSection(b []byte, stream uint32, block []byte, end bool) []byte {
	kind, flags := byte(typeHeaders), byte(0)
	if end {
		flags = flagEndStream
	}
	for {
		part := block[:min(len(block), maxFrame)]
		block = block[len(part):]
		if len(block) == 0 {
			flags |= flagEndHeaders
		}
		b = append(appendHeader(b, len(part), kind, flags, stream), part...)
		if len(block) == 0 {
			return b
		}
		kind, flags = typeContinuation, 0
	}
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
			if gone = st.alive(); gone != nil {
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
			stalled = time.AfterFunc(stallTimeout, func() { st.fail(cancelled, c.cause(errStalled)) })
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
	s := section{status: res.Status, header: res.Header, date: st.conn.server.clock.Now()}
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
			s.length = strconv.FormatInt(length, 10)
		}
	case length >= 0:
		s.length = strconv.FormatInt(length, 10)
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
	if err := st.headers(section{status: http.StatusOK, header: h, date: st.conn.server.clock.Now()}, false, true); err != nil {
		return
	}
	message.Pipe(st.life, &tunnel{st}, res.Stream)
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
