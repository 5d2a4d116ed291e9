package h3

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"

	"github.com/quic-go/quic-go"

	"anyedge/internal/message"
	"anyedge/proxy/h3/qpack"
)

const (
	maxInterim = 16   // answers before the final one
	maxFields  = 1000 // of an answer: a peer is no stranger
)

// A try is one request on its own stream.
type try struct {
	client *Client
	quic   *quic.Stream
	req    *message.Request
	unhook func() bool // from the exchange's context; nil: not hooked yet
	upload *upload     // nil: the request has no content

	in      incoming
	section qpack.Section
	fields  fields
	res     message.Response

	wrote    bool // a byte, as far as anybody knows
	finished sync.Once

	mu    sync.Mutex
	cause error // why it was cancelled
}

func newTry(c *Client, s *quic.Stream, req *message.Request) *try {
	t := &try{client: c, quic: s, req: req}
	t.in = incoming{reader: reader{src: s}, section: &t.section, limit: int(c.cfg.Header), most: maxFields, declared: -1}
	return t
}

// run sends the request and reads the answer's head.
func (t *try) run() (*message.Response, error) {
	if b := t.req.Body; b != nil && b.Length() != 0 {
		var err error
		if t.upload, err = newUpload(t); err != nil {
			return nil, err
		}
	}
	out := output{quic: t.quic}
	out.head(t.head())
	err := out.flush()
	out.drop()
	t.wrote = out.sent
	if err != nil && !isStopped(err) {
		return nil, err
	}
	switch {
	case err != nil: // it may have answered
	case t.upload != nil:
		t.req.Arena.Hold()
		go t.upload.run()
	case t.req.Protocol == "":
		_ = t.quic.Close() // the answer says whether it came to anything
	}
	return t.answer()
}

// isStopped reports whether err says that the peer reads no more of a stream.
func isStopped(err error) bool {
	bad, ok := errors.AsType[*quic.StreamError](err)
	return ok && bad.Remote
}

// head returns the request's header section.
func (t *try) head() section {
	r := t.req
	s := section{header: r.Header, asking: t.pseudo}
	switch {
	case r.Protocol != "":
	case t.upload != nil && r.Body.Length() > 0:
		s.length = strconv.FormatInt(r.Body.Length(), 10)
	case t.upload == nil && (r.Body != nil || r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch):
		s.length = "0"
	}
	return s
}

// pseudo writes the request's pseudo-header fields.
func (t *try) pseudo(b []byte) []byte {
	r := t.req
	method := r.Method
	if r.Protocol != "" {
		method = http.MethodConnect
	}
	b = qpack.Append(b, ":method", method)
	b = qpack.Append(b, ":scheme", "https")
	b = qpack.Append(b, ":authority", r.Authority)
	b = qpack.Append(b, ":path", r.Target)
	if r.Protocol != "" {
		b = qpack.Append(b, ":protocol", r.Protocol)
	}
	return b
}

// answer reads field sections until the final answer's.
func (t *try) answer() (*message.Response, error) {
	res := &t.res
	for range maxInterim {
		if err := t.in.head(&t.fields, nil); err != nil {
			return nil, err
		}
		h, err := t.fields.response(res)
		if err != nil {
			return nil, streamError{messageError, err.Error()}
		}
		switch {
		case res.Status == http.StatusSwitchingProtocols:
			return nil, streamError{messageError, "101 has no place in HTTP/3"}
		case res.Status < 200:
			if res.Status == http.StatusContinue && t.upload != nil {
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
		return t.final(h), nil
	}
	return nil, connError{excessiveLoad, "too many interim answers"}
}

// final makes the answer ready for its reader.
func (t *try) final(h head) *message.Response {
	res := &t.res
	if t.req.Protocol != "" && res.Status/100 == 2 {
		res.Status, res.Length = http.StatusSwitchingProtocols, 0
		t.in.tunnel = true
		res.Stream = &tunnel{quic: t.quic, in: &t.in, out: output{quic: t.quic, started: true}, broken: t.client.fail, over: t.forget}
		return res
	}
	none := res.Status == http.StatusNoContent
	if t.req.Method == http.MethodHead || res.Status == http.StatusNotModified {
		none = true
		if h.length >= 0 {
			res.Header.Add("Content-Length", strconv.FormatInt(h.length, 10))
		}
	}
	if none || h.length == 0 || h.length < 0 && t.in.over() {
		t.over()
		return res
	}
	res.Length, t.in.declared = h.length, h.length
	res.Body = &content{t: t}
	res.Trailer = t.trailer
	return res
}

func (t *try) trailer() message.Header { return t.in.trailer }

// cancel ends the try for that reason.
func (t *try) cancel(why error) {
	t.mu.Lock()
	if t.cause == nil {
		t.cause = why
	}
	t.mu.Unlock()
	t.end(requestCancelled)
}

// end ends both directions of the stream.
func (t *try) end(why code) {
	t.quic.CancelRead(quic.StreamErrorCode(why))
	t.quic.CancelWrite(quic.StreamErrorCode(why))
}

// failed returns the error of a try that got no final answer.
func (t *try) failed(err error) error {
	t.mu.Lock()
	why := t.cause
	t.mu.Unlock()
	if why != nil {
		err = why
	} else {
		t.broken(err)
	}
	sent := message.NothingSent
	switch {
	case errors.Is(err, errUnprocessed):
	case why == nil && isRejected(err):
		err = fmt.Errorf("%w: %w", errUnprocessed, err)
	case t.in.begun:
		sent = message.Answered
	case t.wrote:
		sent = message.MaybeExecuted
	}
	return &message.TryError{Sent: sent, To: t.client.cfg.To, Err: err}
}

// isRejected reports whether the peer has refused the stream without looking at it
// (RFC 9114 section 4.1.1).
func isRejected(err error) bool {
	bad, ok := errors.AsType[*quic.StreamError](err)
	return ok && bad.Remote && bad.ErrorCode == quic.StreamErrorCode(requestRejected)
}

// broken ends what has to end when the peer broke a rule.
func (t *try) broken(err error) {
	if bad, ok := errors.AsType[connError](err); ok {
		t.client.fail(bad)
		return
	}
	if bad, ok := errors.AsType[streamError](err); ok {
		t.end(bad.code)
		return
	}
	t.end(requestCancelled)
}

// over ends the try; what the peer still sends is not wanted.
func (t *try) over() {
	t.finished.Do(func() {
		t.unhook()
		t.client.remove(t)
		if !t.in.over() {
			t.quic.CancelRead(quic.StreamErrorCode(requestCancelled))
		}
		t.in.drop()
		if t.upload != nil {
			t.upload.end()
		}
	})
}

// forget ends the try whose stream is somebody else's by now.
func (t *try) forget() {
	t.unhook()
	t.client.remove(t)
}

// content is the content of an answer.
type content struct {
	t  *try
	mu sync.Mutex // held while reading
}

// Read fails with a *message.TryError.
func (c *content) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.t
	n, err := t.in.content(p)
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, io.EOF):
		t.over()
		return n, io.EOF
	}
	err = t.failed(fmt.Errorf("the answer broke off: %w", err))
	t.over()
	return n, err
}

// Close ends the answer when its content has not, and a Read that is under way.
func (c *content) Close() error {
	c.t.quic.CancelRead(quic.StreamErrorCode(requestCancelled)) // nothing, behind the end
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t.over()
	return nil
}
