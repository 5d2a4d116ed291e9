package h1

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
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
	going   chan struct{} // closed when a 100 has come
	once    sync.Once
	done    chan struct{}

	mu      sync.Mutex
	sent    bool  // all of it
	settled bool  // there is an answer: how long it takes is no matter any more
	stopped bool  // nobody waits for anything
	failed  error // what the content or the connection failed with
}

// openUpload makes the content ready to be sent.
func (t *try) openUpload() error {
	b := t.req.Body
	reader, err := b.Open()
	if err != nil {
		return err
	}
	t.upload = &upload{
		try: t, body: b, reader: reader,
		// HTTP/1 has trailers only behind chunks.
		chunked: b.Length() < 0 || t.req.Header.Has("Trailer"),
		expects: strings.EqualFold(t.req.Header.Get("Expect"), "100-continue"),
		going:   make(chan struct{}), done: make(chan struct{}),
	}
	return nil
}

// proceed lets content go that waits for a 100.
func (u *upload) proceed() { u.once.Do(func() { close(u.going) }) }

// run sends the content.
func (u *upload) run() {
	defer close(u.done)
	defer u.reader.Close() //nolint:errcheck // it ends this try's reading only
	if u.expects {
		late := time.NewTimer(continueTimeout)
		defer late.Stop()
		select {
		case <-u.going:
		case <-late.C:
		}
	}
	err := u.send()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sent = err == nil
	if u.stopped {
		return
	}
	u.failed = err
	switch {
	case isContent(err):
		// What is missing must not look like the end.
		u.try.conn.abort()
	case u.settled:
	case err == nil:
		u.try.conn.deadline(time.Now().Add(u.try.client.responseHeader))
	default:
		// The backend reads no more; it may have answered.
		u.try.conn.deadline(time.Now().Add(time.Second))
	}
}

// contentError is a failure of the content, not of the connection.
type contentError struct{ error }

func (e contentError) Unwrap() error { return e.error }

func isContent(err error) bool {
	_, ok := errors.AsType[contentError](err)
	return ok
}

func (u *upload) send() error {
	block := blocks.Get().(*[]byte)
	defer blocks.Put(block)
	b := (*block)[:blockSize]
	var total int64
	for {
		n, err := u.reader.Read(b[chunkHead : blockSize-16])
		total += int64(n)
		end := errors.Is(err, io.EOF)
		if err != nil && !end {
			return contentError{fmt.Errorf("the request content broke off: %w", err)}
		}
		out := b[chunkHead : chunkHead+n]
		if u.chunked {
			out = u.frame(b, n, end)
		} else if most := u.body.Length(); total > most || end && total < most {
			return contentError{fmt.Errorf("the request content has %d bytes, not %d", total, most)}
		}
		if len(out) > 0 {
			n, err := u.try.conn.nc.Write(out)
			u.try.wrote.Add(int64(n))
			if err != nil {
				return err
			}
		}
		if end || !u.chunked && total == u.body.Length() {
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

// over reports whether all of the content was sent.
func (u *upload) over() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.sent
}

// settle takes note that there is an answer.
func (u *upload) settle() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.settled = true
}

// stop ends the sending.
func (u *upload) stop() {
	u.mu.Lock()
	u.stopped = true
	u.mu.Unlock()
	u.proceed()
	_ = u.reader.Close()
}

// cause returns why no answer came: the content's failure, if it has failed.
func (u *upload) cause(err error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if isContent(u.failed) {
		return u.failed
	}
	return err
}
