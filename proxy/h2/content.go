package h2

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
	call    *call
	body    *message.Body
	reader  io.ReadCloser
	expects bool
	going   chan struct{} // closed when the wait for a 100 is over
	once    sync.Once
	wanted  bool // read behind going
}

// newUpload makes the content of x ready to be sent.
func newUpload(x *call) (*upload, error) {
	reader, err := x.req.Body.Open()
	if err != nil {
		return nil, err
	}
	return &upload{
		call: x, body: x.req.Body, reader: reader,
		expects: strings.EqualFold(x.req.Header.Get("Expect"), "100-continue"),
		going:   make(chan struct{}),
	}, nil
}

// proceed ends the wait for a 100; wanted: it has come, or a final answer that
// refuses nothing and may need the content to go on.
func (u *upload) proceed(wanted bool) {
	u.once.Do(func() {
		u.wanted = wanted
		close(u.going)
	})
}

// stop ends the upload.
func (u *upload) stop() {
	_ = u.reader.Close()
	u.proceed(false)
}

// awaited waits for a 100, and reports whether the content is wanted: it is not
// when the request was refused instead (RFC 9110 section 10.1.1).
func (u *upload) awaited() bool {
	if !u.expects {
		return true
	}
	late := time.NewTimer(continueTimeout)
	defer late.Stop()
	select {
	case <-u.going:
		return u.wanted
	case <-late.C:
		return true
	}
}

// errGone means that the stream takes no more content.
var errGone = errors.New("the stream is over")

// run sends the content. It may outlive the exchange, and so holds its memory.
func (u *upload) run(arena *message.Arena) {
	defer arena.End()
	defer u.reader.Close() //nolint:errcheck // it ends this try's reading only
	if !u.awaited() {
		return
	}
	switch err := u.send(); {
	case err == nil:
		u.call.sentAll()
	case !errors.Is(err, errGone):
		// What is missing must not look like the end.
		u.call.fail(cancelled, err)
	}
}

// send sends all of the content. An error other than errGone is the content's.
func (u *upload) send() error {
	block := blocks.Get().(*[maxFrame]byte)
	defer blocks.Put(block)
	total := int64(0)
	for {
		n, end, err := u.read(block[:], &total)
		if err != nil {
			return err
		}
		var trailer message.Header
		if end {
			trailer = u.body.Trailer()
		}
		if n > 0 || end && len(trailer) == 0 {
			if u.call.data(block[:n], end && len(trailer) == 0) != nil {
				return errGone
			}
		}
		if end && len(trailer) > 0 && u.call.headers(section{header: trailer}, true, true) != nil {
			return errGone
		}
		if end {
			return nil
		}
	}
}

// read reads a part of the content; total counts it. Where the length is known,
// the last part comes with the end.
func (u *upload) read(p []byte, total *int64) (n int, end bool, err error) {
	length := u.body.Length()
	n, err = u.reader.Read(p)
	*total += int64(n)
	if err == nil && n > 0 && *total == length {
		var more [1]byte
		var extra int
		extra, err = u.reader.Read(more[:])
		*total += int64(extra)
	}
	end = errors.Is(err, io.EOF)
	switch {
	case err != nil && !end:
		return 0, false, fmt.Errorf("the request content broke off: %w", err)
	case length >= 0 && (*total > length || end && *total < length):
		return 0, false, fmt.Errorf("the request content has %d bytes, not %d", *total, length)
	}
	return n, end, nil
}

// answerContent is the content of an answer.
type answerContent struct {
	call *call
	end  error
}

// Read fails with a *message.TryError.
func (a *answerContent) Read(p []byte) (int, error) {
	if a.end != nil {
		return 0, a.end
	}
	n, err := a.call.read(p)
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, io.EOF):
		a.end = io.EOF
	default:
		a.end = &message.TryError{Sent: message.Answered, To: a.call.backend.client.to, Err: fmt.Errorf("the answer broke off: %w", because(a.call.ctx, err))}
	}
	a.call.over()
	return n, a.end
}

// Close ends the stream when the content has not ended.
func (a *answerContent) Close() error {
	if a.end == nil {
		a.end = errExchangeOver
	}
	a.call.over()
	return nil
}

// Ready returns how many bytes Read gives without waiting, at least.
func (a *answerContent) Ready() int {
	a.call.conn.mu.Lock()
	defer a.call.conn.mu.Unlock()
	return len(a.call.buf)
}

// granted is the byte stream behind an upgrade.
type granted struct {
	tunnel
	call *call
}

// Close ends both halves.
func (g *granted) Close() error {
	err := g.tunnel.Close()
	g.call.over()
	return err
}

// answer checks that f is an answer's header section (section 8.3.2), and returns
// the length that it declares, -1 for none.
func (f *fields) answer() (res message.Response, length int64, err error) {
	switch {
	case f.bad != nil:
		return res, 0, f.bad
	case f.tooLarge:
		return res, 0, errors.New("the answer's header section is too large")
	case f.pseudo != 1 || len(f.status) != 3 || f.status[0] < '1':
		return res, 0, errors.New("an answer has a :status of three digits alone")
	}
	n, ok := message.ParseLength(f.status)
	if !ok {
		return res, 0, errors.New(":status is no number")
	}
	res, length = message.Response{Status: int(n), Length: -1}, -1
	kept := f.header[:0]
	for _, x := range f.header {
		if x.Name == "content-length" {
			n, ok := message.ParseLength(x.Value)
			if !ok || length >= 0 {
				return res, 0, errors.New("content-length is no number, or given twice")
			}
			length = n
			continue
		}
		kept = append(kept, x)
	}
	res.Header = kept
	return res, length, nil
}
