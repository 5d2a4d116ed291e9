package h1

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"anyedge/internal/message"
	"anyedge/proxy/wire"
)

// A try is one request on one connection to a backend.
type try struct {
	client *Client
	conn   *backendConn
	req    *message.Request
	fresh  bool            // conn was not pooled
	ctx    context.Context //nolint:containedctx // of the exchange that it is

	wrote      atomic.Int64 // bytes
	answered   bool         // a byte of an answer has come
	ownKey     bool         // the key of the WebSocket handshake is ours
	persistent bool         // the backend keeps the connection

	upload   *upload // nil: the request has no content; else uploads
	uploads  upload
	finished sync.Once

	res  message.Response // the answer and its content: one allocation with the try
	body answerBody

	// Of asking: what step goes on with.
	out    *[]byte // the request's head; nil: it is sent
	scan   headScan
	raw    []byte // the answer's head
	failed error

	// Made once and kept from one exchange to the next in the same arena.
	steps    func() bool           // the method step
	trailers func() message.Header // the method trailer
}

// Reset makes t ready for another exchange.
func (t *try) Reset() { *t = try{steps: t.steps, trailers: t.trailers} }

// run sends the request and reads the answer's head.
func (t *try) run(ctx context.Context) (*message.Response, error) {
	t.ctx = ctx
	t.conn.hook.Attach(ctx)
	if t.req.Body != nil && t.req.Body.Length() != 0 {
		if err := t.openUpload(); err != nil {
			return nil, err
		}
	}
	t.out = blocks.Get().(*[]byte)
	*t.out = t.appendHead(*t.out)
	t.conn.deadline(time.Now().Add(t.client.responseHeader))
	return t.answer()
}

// ask sends the head of the request, if it has not been sent, and waits for one of
// an answer: one write, and a read for each time that something comes.
func (t *try) ask() ([]byte, error) {
	if t.steps == nil {
		t.steps = t.step
	}
	t.raw, t.failed, t.scan = nil, nil, headScan{}
	err := t.conn.attend(t.steps)
	if t.out != nil {
		*t.out = (*t.out)[:0]
		blocks.Put(t.out)
		t.out = nil
	}
	return t.raw, orElse(t.failed, err)
}

// step goes on with ask, and reports whether that is over.
func (t *try) step() bool {
	if t.out != nil && !t.start() {
		return t.failed != nil
	}
	for t.raw == nil && t.failed == nil {
		// A backend is no stranger: its bytes alone are bounded.
		t.raw, t.failed = t.scan.next(&t.conn.in, maxResponseHeader, maxResponseHeader)
		if t.raw != nil || t.failed != nil {
			break
		}
		if err := t.conn.in.fill(); errors.Is(err, wire.ErrNothing) {
			return false
		} else if err != nil {
			t.failed = err
		}
	}
	return true
}

// start sends the request's head, and reports whether an answer may be there
// already. While a connection was dialled nobody attended it.
func (t *try) start() bool {
	if !t.fresh && (t.conn.bare || !t.repeatable() || time.Since(t.conn.since) >= lookAfter) && t.conn.stale() {
		t.failed = errStale
		return false
	}
	if t.upload != nil {
		if t.failed = t.upload.begin(t.out); t.failed != nil {
			return false
		}
	}
	n, err := t.conn.Write(*t.out)
	*t.out = (*t.out)[:0]
	blocks.Put(t.out)
	t.out = nil
	t.wrote.Add(int64(n))
	if err != nil {
		t.failed = err
		return false
	}
	if t.upload != nil && !t.upload.begun() {
		t.conn.deadline(time.Time{}) // until the content is sent
		t.req.Arena.Hold()
		go t.upload.run(t.req.Arena)
	}
	return t.fresh
}

// appendHead writes the request's head.
func (t *try) appendHead(b []byte) []byte {
	r := t.req
	b = append(append(b, r.Method...), ' ')
	b = append(append(b, r.Target...), " HTTP/1.1\r\nHost: "...)
	b = append(append(b, r.Authority...), "\r\n"...)
	chunked := t.upload != nil && t.upload.chunked
	for _, f := range r.Header {
		switch kind(f.Name) {
		case kindTE:
			if wantsTrailers(f.Value) {
				b = append(b, "TE: trailers\r\nConnection: TE\r\n"...)
			}
		case kindExpect:
			if t.upload != nil { // else there is nothing to wait for
				b = appendField(b, f)
			}
		case kindOther:
			if !chunked && strings.EqualFold(f.Name, "Trailer") {
				continue
			}
			b = appendField(b, f)
		}
	}
	switch {
	case r.Protocol != "":
		b = append(append(append(b, "Connection: Upgrade\r\nUpgrade: "...), r.Protocol...), "\r\n"...)
		if same(r.Protocol, "websocket") && !r.Header.Has("Sec-Websocket-Key") {
			// The client's version has no key (RFC 8441 section 5), HTTP/1 needs one.
			var key [16]byte
			_, _ = rand.Read(key[:])
			b = append(append(append(b, "Sec-WebSocket-Key: "...), base64.StdEncoding.EncodeToString(key[:])...), "\r\n"...)
			t.ownKey = true
		}
	case chunked:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case t.upload != nil:
		b = append(strconv.AppendInt(append(b, "Content-Length: "...), r.Body.Length(), 10), "\r\n"...)
	case r.Body != nil || r.Method == "POST" || r.Method == "PUT" || r.Method == "PATCH":
		b = append(b, "Content-Length: 0\r\n"...)
	}
	return append(b, "\r\n"...)
}

// answer reads heads until a final one.
func (t *try) answer() (*message.Response, error) {
	res := &t.res
	for range maxInterim {
		f, minor, err := t.head()
		if err != nil {
			return nil, t.cause(err)
		}
		switch {
		case res.Status == 101:
			return t.switched(f)
		case res.Status < 200:
			if res.Status == 100 && t.upload != nil {
				t.upload.proceed()
			}
			if t.req.Inform != nil {
				t.req.Inform(res.Status, res.Header)
			}
			continue
		}
		if t.upload != nil {
			t.upload.settle(res.Status)
		}
		t.conn.deadline(time.Time{})
		// HTTP/1.0 keeps connections by private agreement only (RFC 9112 section 9.3),
		// and nobody here asked for it.
		t.persistent = !f.close && minor > 0
		return t.final(f), nil
	}
	return nil, errors.New("too many interim answers")
}

// head reads one head into res.
func (t *try) head() (frame, int, error) {
	before := t.conn.in.got
	raw, err := t.ask()
	t.answered = t.answered || t.conn.in.got > before || raw != nil
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("the backend closed the connection without an answer: %w", io.ErrUnexpectedEOF)
		}
		return frame{}, 0, err
	}
	return parseAnswer(t.req.Arena, &t.res, t.req.Arena.Copy(raw), t.req.Method)
}

// cause returns why the answer could not be read: the upload's failure, if that
// came first.
func (t *try) cause(err error) error {
	if t.upload == nil {
		return err
	}
	return t.upload.cause(err)
}

// final makes the answer ready for its reader.
func (t *try) final(f frame) *message.Response {
	res := &t.res
	t.conn.bare = !f.chunked && f.length == 0
	if t.conn.bare {
		t.over(true)
		return res
	}
	b := &t.body
	*b = answerBody{try: t, content: content{in: &t.conn.in, chunked: f.chunked, open: !f.chunked && f.length < 0, left: f.length}}
	res.Body = b
	if f.chunked {
		if t.trailers == nil {
			t.trailers = t.trailer
		}
		res.Trailer = t.trailers
	}
	return res
}

// trailer is the answer's Trailer.
func (t *try) trailer() message.Header { return t.body.content.trailer }

// switched returns the stream behind a 101.
func (t *try) switched(f frame) (*message.Response, error) {
	res := &t.res
	if t.req.Protocol == "" || !same(f.protocol, t.req.Protocol) {
		return nil, fmt.Errorf("the backend changes to protocol %.40q, which nobody asked for", f.protocol)
	}
	t.conn.deadline(time.Time{})
	if t.ownKey {
		res.Header.Del("Sec-Websocket-Accept")
	}
	res.Length = 0
	res.Stream = &granted{t}
	return res, nil
}

// sent says how far the try got.
func (t *try) sent() message.Sent {
	switch {
	case t.answered:
		return message.Answered
	case t.wrote.Load() > 0:
		return message.MaybeExecuted
	}
	return message.NothingSent
}

// again reports whether the request, which failed on a pooled connection, can be
// sent once more. The backend that closes an idle connection sends no answer and
// is not slow.
func (t *try) again(err error) bool {
	switch t.sent() {
	case message.Answered:
		return false
	case message.MaybeExecuted:
		if errors.Is(err, os.ErrDeadlineExceeded) || isContent(err) {
			return false
		}
		return t.repeatable()
	case message.NothingSent:
	}
	return t.whole()
}

// repeatable reports whether the request can be sent twice.
func (t *try) repeatable() bool { return t.req.Idempotent() && t.whole() }

// whole reports whether all of the request is there for another try.
func (t *try) whole() bool { return t.req.Body == nil || t.req.Body.Replayable() }

// over ends the try; a connection on which nothing is left is kept.
func (t *try) over(whole bool) {
	t.finished.Do(func() {
		inTime := t.conn.hook.Stop()
		keep := whole && inTime && t.persistent && t.conn.in.buffered() == 0 && !t.conn.wire.Unread()
		if t.upload == nil {
			t.leave(keep)
		} else {
			t.upload.end(keep)
		}
	})
}

// leave gives the connection back, or closes it.
func (t *try) leave(keep bool) {
	if keep {
		t.client.pool.put(t.conn)
	} else {
		t.conn.close()
	}
}

// granted is the byte stream behind an upgrade.
type granted struct{ t *try }

// Read returns what came behind the head first.
func (g *granted) Read(p []byte) (int, error) { return g.t.conn.in.read(p) }

// Write sends p.
func (g *granted) Write(p []byte) (int, error) { return g.t.conn.Write(p) }

// CloseWrite ends the writing half.
func (g *granted) CloseWrite() error { return message.CloseWrite(g.t.conn.wire) }

// Close ends both halves.
func (g *granted) Close() error {
	g.t.over(false)
	return nil
}
