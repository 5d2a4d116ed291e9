package nethttp

import (
	"log/slog"
	"net/http"
	"sync"

	"anyedge/internal/message"
)

// Handler returns a handler that answers by next. An answer that breaks off,
// an error of next after the client has gone, and one whose content is not as
// long as it says, abort the client's answer: it never gets a short one that
// looks complete. Any other error of next is answered with 502.
func Handler(next message.RoundTripper, log *slog.Logger) http.Handler {
	return &handler{next: next, log: log}
}

// handler is a message.RoundTripper as net/http sees it.
type handler struct {
	next message.RoundTripper
	log  *slog.Logger
}

// ServeHTTP runs one exchange.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{w: w, r: r, rc: http.NewResponseController(w), log: h.log}
	req := incoming(r)
	x.src = x.newSource()
	setBody(req, r, x.src)
	if r.ProtoAtLeast(1, 1) {
		req.Inform = x.inform
	}
	if req.Body != nil {
		defer func() { _ = req.Body.Close() }()
	}
	res, err := h.next.RoundTrip(r.Context(), req)
	x.endInterim()
	if err != nil {
		x.fail(err)
		return
	}
	defer res.Close()
	if res.Stream != nil {
		x.upgrade(r.Context(), res)
		return
	}
	x.answer(res)
}

// An exchange is one request of a client and the writing of its answer.
type exchange struct {
	w   http.ResponseWriter
	rc  *http.ResponseController
	r   *http.Request
	src *source // of the request's content; nil: none
	log *slog.Logger

	mu    sync.Mutex // held while an interim answer is written
	final bool       // no interim answer may be written any more
	went  bool       // a 100 was written
}

// inform writes an interim answer at once.
func (x *exchange) inform(status int, h message.Header) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.final || status < 100 || status > 199 || status == http.StatusSwitchingProtocols {
		return
	}
	x.went = x.went || status == http.StatusContinue
	header := x.w.Header()
	toHeader(header, h)
	x.w.WriteHeader(status)
	clear(header)
}

// proceed tells a client that waits for it to send its content, unless a 100
// of the answerer already has. Doing it here and not in the server keeps it
// apart from other interim answers.
func (x *exchange) proceed() {
	x.mu.Lock()
	went := x.went
	x.mu.Unlock()
	if !went {
		x.inform(http.StatusContinue, nil)
	}
}

// endInterim makes later calls of inform do nothing.
func (x *exchange) endInterim() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.final = true
}

// fail ends the exchange that got no answer.
func (x *exchange) fail(err error) {
	if x.r.Context().Err() != nil {
		panic(http.ErrAbortHandler)
	}
	x.log.Warn("request got no answer", "method", x.r.Method, "target", x.r.RequestURI, "err", err)
	x.w.WriteHeader(http.StatusBadGateway)
}

// abort ends the exchange whose answer is not complete.
func (x *exchange) abort(err error) {
	x.log.Debug("answer broke off", "method", x.r.Method, "target", x.r.RequestURI, "err", err)
	panic(http.ErrAbortHandler)
}
