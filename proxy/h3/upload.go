package h3

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"anyedge/internal/message"
)

const continueTimeout = time.Second // for a 100 before the content is sent all the same

// An upload sends a request's content while the answer may already come.
type upload struct {
	try     *try
	body    *message.Body
	expects bool
	going   chan struct{} // closed when the wait for a 100 is over
	once    sync.Once

	reader io.ReadCloser

	mu      sync.Mutex // guards what follows
	invited bool       // a 100 has come, or an answer that does without
	settled bool       // there is a final answer
	stopped bool       // the exchange is over
	sent    bool       // all of it, or the peer reads no more
}

// newUpload makes the content ready to be sent.
func newUpload(t *try) (*upload, error) {
	reader, err := t.req.Body.Open()
	if err != nil {
		return nil, err
	}
	return &upload{
		try: t, body: t.req.Body, reader: reader, going: make(chan struct{}),
		expects: fold(t.req.Header.Get("Expect"), "100-continue"),
	}, nil
}

// proceed lets content go that waits for a 100.
func (u *upload) proceed() {
	u.mu.Lock()
	u.invited = true
	u.mu.Unlock()
	u.wake()
}

// settle takes note that there is a final answer. One that refuses nothing may need
// the content to go on.
func (u *upload) settle(status int) {
	u.mu.Lock()
	u.settled = true
	u.invited = u.invited || status < 400
	u.mu.Unlock()
	u.wake()
}

func (u *upload) wake() { u.once.Do(func() { close(u.going) }) }

// end ends the exchange.
func (u *upload) end() {
	u.mu.Lock()
	u.stopped = true
	sent := u.sent
	u.mu.Unlock()
	if !sent {
		u.try.quic.CancelWrite(quic.StreamErrorCode(requestCancelled))
	}
	_ = u.reader.Close()
	u.wake()
}

// awaited waits for a 100, and reports whether the content is wanted: it is not when
// the request was refused instead (RFC 9110 section 10.1.1).
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

// run sends the content.
func (u *upload) run() {
	defer u.try.req.Arena.End()
	defer u.reader.Close() //nolint:errcheck // it ends this try's reading only
	if !u.awaited() {
		return
	}
	out := output{quic: u.try.quic, started: true}
	err := u.send(&out)
	out.drop()
	u.mu.Lock()
	u.sent = err == nil
	stopped := u.stopped
	u.mu.Unlock()
	if isContent(err) && !stopped {
		u.try.cancel(err) // what is missing must not look like the end
	}
	// Other failures show where the answer is read.
}

// contentError is a failure of the content, not of the stream.
type contentError struct{ error }

func (e contentError) Unwrap() error { return e.error }

func isContent(err error) bool {
	_, ok := errors.AsType[contentError](err)
	return ok
}

func (u *upload) send(out *output) error {
	var total int64
	length := u.body.Length()
	for {
		out.room()
		n, err := out.chunk(u.reader.Read)
		total += int64(n)
		end := errors.Is(err, io.EOF)
		switch {
		case err != nil && !end:
			return contentError{fmt.Errorf("the request content broke off: %w", err)}
		case length >= 0 && (total > length || end && total < length):
			return contentError{fmt.Errorf("the request content has %d bytes, not %d", total, length)}
		case end:
			out.trailer(u.body.Trailer())
		}
		if err := out.flush(); err != nil {
			return err
		}
		if end {
			return u.try.quic.Close()
		}
	}
}
