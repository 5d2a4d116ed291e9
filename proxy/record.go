package proxy

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"anyedge/internal/message"
)

// A record is what the access log and the statistics will say of an exchange.
type record struct {
	// When it came, when the backend or geo that answered was asked, when that
	// answered, and when the answer was ready for the client. Zero: not yet.
	start, asked, heard, first time.Time

	queued   time.Duration // for a backend of this geo
	tries    int           // of backends of this geo
	answered bool          // an app made the answer, here or elsewhere
	declined bool          // another geo's request that this one has no room for
	err      string        // why the answer is an error
	shed     string        // geo that served it because this one is overloaded
	failover string        // geo that served it because no backend here did
	replay   string        // geo that served it because an app asked for it

	bytes  atomic.Int64           // of content sent to the client
	broke  atomic.Pointer[string] // how the content ended, if not well
	ended  atomic.Bool
	ending []func()

	// Of the answer.
	exchange *Exchange
	status   int
	body     countedBody
}

// atEnd has f called when the exchange is over.
func (r *record) atEnd(f func()) { r.ending = append(r.ending, f) }

// watch makes the end of resp's content the end of the exchange.
func (r *record) watch(e *Exchange, resp *message.Response) {
	if r.first = r.heard; !r.answered || r.first.IsZero() {
		r.first = time.Now()
	}
	if e.service != nil && !r.declined {
		e.service.stats.observe(r.first, sample{r.first.Sub(r.start), r.answered, resp.Status, r.moved()})
	}
	if e.rule != "" {
		e.proxy.refused.add(RefusedRequest{Listener: e.listener, Service: e.serviceName(), Rule: e.rule})
	}
	r.exchange, r.status = e, resp.Status
	switch {
	case resp.Stream != nil:
		counted := &countedStream{resp.Stream, r}
		resp.Stream = counted
		if isWebSocket(e.req) && !e.foreign() {
			resp.Stream = &webStream{counted, e.proxy.webSockets}
		}
	case resp.Body != nil:
		r.body = countedBody{resp.Body, r}
		resp.Body = &r.body
	default:
		r.over()
	}
}

// moved returns why another geo served it; "": this one did.
func (r *record) moved() hop {
	switch {
	case r.replay != "":
		return hopReplay
	case r.shed != "":
		return hopShed
	case r.failover != "":
		return hopFailover
	}
	return ""
}

// over ends the exchange with its answer.
func (r *record) over() {
	if why := r.broke.Load(); why != nil {
		r.err = *why
	}
	r.end(r.exchange, r.status, r.err)
}

// end closes the exchange's books, once.
func (r *record) end(e *Exchange, status int, err string) {
	if r.ended.Swap(true) {
		return
	}
	for _, f := range r.ending {
		f()
	}
	if s := e.service; s != nil {
		s.active.Add(-1)
		s.sent.Add(uint64(r.bytes.Load()))
		s.received.Add(uint64(e.received()))
		if status == statusGone {
			s.stats.gone()
		}
	}
	e.proxy.access.write(e, status, err)
	e.proxy.tracer.ended(e, status, err)
}

// countedBody is an answer's content.
type countedBody struct {
	io.ReadCloser
	record *record
}

// Read counts what goes to the client.
func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.record.bytes.Add(int64(n))
	if err != nil && !errors.Is(err, io.EOF) {
		why := "the answer broke off: " + err.Error()
		b.record.broke.CompareAndSwap(nil, &why)
	}
	return n, err
}

// Ready is message.Ready of the content.
func (b *countedBody) Ready() int { return message.Ready(b.ReadCloser) }

// Close ends the exchange.
func (b *countedBody) Close() error {
	defer b.record.over()
	return b.ReadCloser.Close()
}

// countedStream is the same for an upgraded connection.
type countedStream struct {
	io.ReadWriteCloser
	record *record
}

// Read counts what goes to the client.
func (s *countedStream) Read(p []byte) (int, error) {
	n, err := s.ReadWriteCloser.Read(p)
	s.record.bytes.Add(int64(n))
	return n, err
}

// Close ends the exchange.
func (s *countedStream) Close() error {
	defer s.record.over()
	return s.ReadWriteCloser.Close()
}

// CloseWrite ends one direction, where the connection can.
func (s *countedStream) CloseWrite() error {
	if c, ok := s.ReadWriteCloser.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// An accessLog writes a line per request, or per sampled request.
type accessLog struct {
	log    *slog.Logger
	sample float64
	always [600]bool // by status
	fields []LogField
}

func newAccessLog(c AccessLogConfig, log *slog.Logger) (*accessLog, error) {
	a := &accessLog{log: log, sample: 1, fields: logFields(c.Fields)}
	if c.Sample != nil {
		a.sample = *c.Sample
	}
	var errs []error
	if a.sample < 0 || a.sample > 1 {
		errs = append(errs, fmt.Errorf("log.access.sample: %v is not within 0 and 1", a.sample))
	}
	for i, s := range c.AlwaysOnStatus {
		n, err := strconv.Atoi(strings.Replace(s, "xx", "00", 1))
		if err != nil || len(s) != 3 || n < 100 || n > 599 {
			errs = append(errs, fmt.Errorf("log.access.always_on_status[%d]: %q is no status or class like 5xx", i, s))
			continue
		}
		a.always[n] = true
		for m := n; s[1:] == "xx" && m < n+100; m++ {
			a.always[m] = true
		}
	}
	if err := c.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("log.access: %w", err))
	}
	return a, errors.Join(errs...)
}

// wants reports whether a request with that status is logged.
func (a *accessLog) wants(status int) bool {
	if a.sample >= 1 || a.sample > 0 && rand.Float64() < a.sample { //nolint:gosec // a sample needs no secret
		return true
	}
	return status < len(a.always) && a.always[status]
}
