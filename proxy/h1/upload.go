package h1

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"anyedge/internal/message"
)

// An upload sends a request's content while the answer may already come.
type upload struct {
	try     *try
	body    *message.Body
	reader  io.ReadCloser
	chunked bool
	expects bool
	total   int64         // bytes sent so far
	going   chan struct{} // closed when the wait for a 100 is over; nil: there is none
	once    sync.Once
	done    chan struct{} // closed when run has ended; nil: it was not needed

	mu      sync.Mutex
	invited bool  // a 100 has come, or an answer that does without
	last    bool  // what is being written is the end
	sent    bool  // all of it
	settled bool  // there is an answer: how long it takes is no matter any more
	stopped bool  // the exchange is over
	heir    bool  // of the connection: the sending ends after the exchange
	failed  error // what the content or the connection failed with
}

// openUpload makes the content ready to be sent.
func (t *try) openUpload() error {
	b := t.req.Body
	reader, err := b.Open()
	if err != nil {
		return err
	}
	u := &t.uploads
	u.try, u.body, u.reader = t, b, reader
	// HTTP/1 has trailers only behind chunks.
	u.chunked = b.Length() < 0 || t.req.Header.Has("Trailer")
	if u.expects = same(t.req.Header.Get("Expect"), "100-continue"); u.expects {
		u.going = make(chan struct{})
	}
	t.upload = u
	return nil
}

// begin appends the content to the request's head, as far as it is there, so that
// both leave with one write.
func (u *upload) begin(out *[]byte) error {
	if u.expects || u.chunked {
		return nil
	}
	for u.total < u.body.Length() && len(*out) < blockSize && message.Ready(u.reader) > 0 {
		b := *out
		n, err := u.reader.Read(b[len(b):max(cap(b), len(b))])
		*out = b[:len(b)+n]
		if u.total += int64(n); u.total > u.body.Length() {
			return u.wrongLength()
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return u.broken(err)
		}
	}
	if u.total == u.body.Length() {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.last, u.sent = true, true
	}
	return nil
}

// begun reports whether all of the content was there, and otherwise makes ready
// for run.
func (u *upload) begun() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.sent {
		u.done = make(chan struct{})
	}
	return u.sent
}

func (u *upload) wrongLength() error {
	return contentError{fmt.Errorf("the request content has %d bytes, not %d", u.total, u.body.Length())}
}

func (u *upload) broken(err error) error {
	return contentError{fmt.Errorf("the request content broke off: %w", err)}
}

// proceed lets content go that waits for a 100.
func (u *upload) proceed() {
	u.mu.Lock()
	u.invited = true
	u.mu.Unlock()
	u.wake()
}

func (u *upload) wake() {
	if u.going != nil {
		u.once.Do(func() { close(u.going) })
	}
}

// awaited waits for a 100, and reports whether the content is wanted: it is not
// when the request was refused instead (RFC 9110 section 10.1.1).
func (u *upload) awaited() bool {
	if u.expects {
		late := time.NewTimer(continueTimeout)
		defer late.Stop()
		select {
		case <-u.going:
		case <-late.C:
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return !u.stopped && (!u.expects || u.invited || !u.settled)
}

// run sends the content. It may outlive the exchange, and so holds its memory.
func (u *upload) run(arena *message.Arena) {
	defer close(u.done)
	defer arena.End()
	defer u.reader.Close() //nolint:errcheck // it ends this try's reading only
	if !u.awaited() {
		return
	}
	err := u.send(u.try.conn)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sent, u.failed = err == nil, err
	conn := u.try.conn
	switch {
	case u.heir:
		conn.deadline(time.Time{})
		u.try.leave(u.sent)
		return
	case u.stopped:
		return
	}
	switch {
	case isContent(err):
		// What is missing must not look like the end.
		conn.abort()
	case u.settled:
	case err == nil:
		conn.deadline(time.Now().Add(u.try.client.responseHeader))
	default:
		// The backend reads no more; it may have answered.
		conn.deadline(time.Now().Add(grace))
	}
}

// contentError is a failure of the content, not of the connection.
type contentError struct{ error }

func (e contentError) Unwrap() error { return e.error }

func isContent(err error) bool {
	_, ok := errors.AsType[contentError](err)
	return ok
}

func (u *upload) send(to io.Writer) error {
	block := blocks.Get().(*[]byte)
	defer blocks.Put(block)
	b := (*block)[:blockSize]
	for {
		n, err := u.reader.Read(b[chunkHead : blockSize-16])
		u.total += int64(n)
		end := errors.Is(err, io.EOF)
		if err != nil && !end {
			return u.broken(err)
		}
		out := b[chunkHead : chunkHead+n]
		if u.chunked {
			out = u.frame(b, n, end)
		} else if most := u.body.Length(); u.total > most || end && u.total < most {
			return u.wrongLength()
		}
		end = end || !u.chunked && u.total == u.body.Length()
		if end {
			u.finish()
		}
		if len(out) > 0 {
			n, err := to.Write(out)
			u.try.wrote.Add(int64(n))
			if err != nil {
				return err
			}
		}
		if end {
			return nil
		}
	}
}

// frame makes a chunk of what was read, and the end of the content.
func (u *upload) frame(b []byte, n int, end bool) []byte {
	out := b[:0]
	if n > 0 {
		out = frameChunk(out, n)
	}
	if end {
		out = append(out, "0\r\n"...)
		out = appendTrailer(out, u.body.Trailer())
		out = append(out, "\r\n"...)
	}
	return out
}

// finish takes note that the end is about to be written.
func (u *upload) finish() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.last = true
}

// settle takes note that there is a final answer. One that refuses nothing may
// need the content to go on.
func (u *upload) settle(status int) {
	u.mu.Lock()
	u.settled = true
	u.invited = u.invited || status < 400
	u.mu.Unlock()
	u.wake()
}

// end ends the exchange. The connection is kept, if it may be, when all of the
// content was sent. An answer may be here before the write of the last bytes
// has returned: then the sending does what is left.
func (u *upload) end(keep bool) {
	u.mu.Lock()
	u.stopped = true
	u.heir = keep && u.last && !u.sent && u.failed == nil
	heir, sent := u.heir, u.sent
	if heir {
		u.try.conn.deadline(time.Now().Add(grace))
	}
	u.mu.Unlock()
	if heir {
		return
	}
	_ = u.reader.Close()
	u.wake()
	u.try.leave(keep && sent)
}

// reset reports whether the backend reset the connection while the content was
// being sent: the write takes that error away from the read, which ends as if
// all were well. The exchange is over.
func (u *upload) reset() bool {
	if u.done != nil {
		<-u.done
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return errors.Is(u.failed, syscall.ECONNRESET)
}

// cause returns why no answer came: the content's failure, or the connection's
// when the answer did not come in time behind it.
func (u *upload) cause(err error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.failed != nil && (isContent(u.failed) || errors.Is(err, os.ErrDeadlineExceeded)) {
		return u.failed
	}
	return err
}
