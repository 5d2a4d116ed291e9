package nethttp

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"sync"
	"time"

	"anyedge/internal/message"
)

// chunk is how many bytes of content are read at once.
const chunk = 32 << 10

// flushDelay is how long bytes of an answer may wait for ones that most likely
// follow at once: the content behind a head, the end behind the content. All
// others are sent as they come.
const flushDelay = time.Millisecond

var chunks = sync.Pool{New: func() any { return new([chunk]byte) }}

// answer writes res to the client.
func (x *exchange) answer(res *message.Response) {
	if res.Status < 200 || res.Status > 999 {
		x.fail(fmt.Errorf("%d is not the status of a final answer", res.Status))
		return
	}
	status := res.Status
	if extendedConnect(x.r) && status/100 == 2 {
		// As it is it would accept an upgrade that its maker has not.
		status = http.StatusBadGateway
	}
	content := res.Body
	length := res.Length
	if content == nil {
		length = max(length, 0)
	}
	header := x.w.Header()
	toHeader(header, res.Header)
	names := trailerNames(res.Header)
	if len(names) > 0 && content != nil {
		for _, n := range names {
			header.Add("Trailer", n)
		}
	}
	x.setLength(res, length)
	if _, ok := header["Content-Type"]; !ok {
		header["Content-Type"] = nil // the answer's maker decides, not a guess
	}
	x.w.WriteHeader(status)
	switch {
	case x.r.Method == http.MethodHead || !bodyAllowed(res.Status):
		_ = x.rc.Flush() // else HTTP/3 adds a length
	case content != nil:
		if err := x.copy(content, length); err != nil {
			x.abort(err)
		}
		x.trailers(res, names)
	}
}

// setLength sets Content-Length to what res says of its content.
func (x *exchange) setLength(res *message.Response, length int64) {
	header := x.w.Header()
	switch {
	case res.Status == http.StatusNoContent:
	case x.r.Method == http.MethodHead || res.Status == http.StatusNotModified:
		// What the content would have been; of a 304 only its maker knows.
		if v := res.Header.Get("Content-Length"); v != "" {
			header.Set("Content-Length", v)
		} else if length > 0 && res.Status != http.StatusNotModified {
			header.Set("Content-Length", strconv.FormatInt(length, 10))
		}
	case length >= 0:
		header.Set("Content-Length", strconv.FormatInt(length, 10))
	}
}

// copy sends content to the client as it comes. It fails unless content ends
// properly and, when length is not -1, with so many bytes.
func (x *exchange) copy(content io.Reader, length int64) error {
	buf := chunks.Get().(*[chunk]byte)
	defer chunks.Put(buf)
	late := newLateFlush(x.rc)
	defer late.end()
	var total int64
	for {
		n, err := content.Read(buf[:])
		late.stop()
		if n > 0 {
			total += int64(n)
			if length >= 0 && total > length {
				return fmt.Errorf("content is longer than its length, %d", length)
			}
			if _, err := x.w.Write(buf[:n]); err != nil {
				return fmt.Errorf("write to the client: %w", err)
			}
		}
		switch {
		case errors.Is(err, io.EOF) && length >= 0 && total < length:
			return fmt.Errorf("content ended after %d of %d bytes", total, length)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			_ = x.rc.Flush()
			return err
		case total == length:
			late.start()
		default:
			if err := x.rc.Flush(); err != nil {
				return fmt.Errorf("write to the client: %w", err)
			}
		}
	}
}

// trailers makes the trailer section of res that of the answer.
func (x *exchange) trailers(res *message.Response, names []string) {
	if res.Trailer == nil {
		return
	}
	header := x.w.Header()
	for _, n := range names {
		delete(header, n)
	}
	for _, f := range res.Trailer() {
		name := textproto.CanonicalMIMEHeaderKey(f.Name)
		if !slices.Contains(names, name) {
			name = http.TrailerPrefix + name
		}
		header[name] = append(header[name], f.Value)
	}
}

// A lateFlush flushes an answer unless it is stopped within flushDelay.
type lateFlush struct {
	rc    *http.ResponseController
	timer *time.Timer

	mu    sync.Mutex // held while flushing
	armed bool
}

// newLateFlush returns a started lateFlush.
func newLateFlush(rc *http.ResponseController) *lateFlush {
	f := &lateFlush{rc: rc, armed: true}
	f.timer = time.AfterFunc(flushDelay, f.fire)
	return f
}

func (f *lateFlush) fire() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.armed {
		f.armed = false
		_ = f.rc.Flush() // a failure shows at the next write
	}
}

// stop returns when no flush is under way nor will be, until start.
func (f *lateFlush) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed = false
}

func (f *lateFlush) start() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed = true
	f.timer.Reset(flushDelay)
}

func (f *lateFlush) end() {
	f.stop()
	f.timer.Stop()
}
