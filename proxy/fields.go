package proxy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"anyedge/internal/message"
)

// A LogField is a field that a line of the access log may have.
type LogField struct {
	Name    string
	Type    string // text, number, or yes or no
	Meaning string
	Default bool // where log.access.fields is absent
	Always  bool // whatever log.access.fields says

	value func(e *Exchange, over *outcome) slog.Value
}

// An outcome is how an exchange ended.
type outcome struct {
	status int
	err    string
	at     time.Time
}

// LogFields are all fields of the access log, in their order in a line. One that
// has no value for a request is left out of its line.
var LogFields = []LogField{
	{"id", "text", "the request's, 16 hex digits; the same in every geo that it comes to", false, true, func(e *Exchange, _ *outcome) slog.Value { return text(e.id.String()) }},
	{"method", "text", "", false, true, func(e *Exchange, _ *outcome) slog.Value { return text(cutText(e.req.Method)) }},
	{"host", "text", "as the client wrote it", false, true, func(e *Exchange, _ *outcome) slog.Value { return text(cutText(e.req.Authority)) }},
	{"path", "text", "with the query", false, true, func(e *Exchange, _ *outcome) slog.Value { return text(cutText(e.req.Target)) }},
	{"status", "number", "of the answer; 499: the client left before it", false, true, func(_ *Exchange, o *outcome) slog.Value { return slog.IntValue(o.status) }},
	{"client", "text", "address, after trusted proxies", false, true, func(e *Exchange, _ *outcome) slog.Value { return text(clientText(e.client)) }},
	{"service", "text", "that it was routed to", false, true, func(e *Exchange, _ *outcome) slog.Value { return text(e.serviceName()) }},

	{"bytes", "number", "of content sent to the client", true, false, func(e *Exchange, _ *outcome) slog.Value { return slog.Int64Value(e.record.bytes.Load()) }},
	{"bytes_in", "number", "of content that the client sent", true, false, func(e *Exchange, _ *outcome) slog.Value { return someInt(e.received()) }},
	{"duration_ms", "number", "from the request's header section to the end of the answer's content", true, false, func(e *Exchange, o *outcome) slog.Value { return ms(o.at.Sub(e.record.start)) }},
	{"first_byte_ms", "number", "from the request's header section to the answer's", true, false, func(e *Exchange, _ *outcome) slog.Value { return between(e.record.start, e.record.first) }},
	{"wait_ms", "number", "from the request's header section until the backend or geo that answered was asked: limits, door, queue and tries that failed", true, false, func(e *Exchange, _ *outcome) slog.Value { return between(e.record.start, e.record.asked) }},
	{"queue_ms", "number", "of that, until a backend of this geo had room", true, false, func(e *Exchange, _ *outcome) slog.Value { return someMs(e.record.queued) }},
	{"backend_ms", "number", "from then to its answer's header section", true, false, func(e *Exchange, _ *outcome) slog.Value { return between(e.record.asked, e.record.heard) }},
	{"version", "text", "h1, h2 or h3", true, false, func(e *Exchange, _ *outcome) slog.Value { return text(e.req.Version.String()) }},
	{"geo", "text", "that served it", true, false, func(e *Exchange, _ *outcome) slog.Value { return text(e.served) }},
	{"entry", "text", "the geo that the client came to", true, false, func(e *Exchange, _ *outcome) slog.Value { return text(e.origin) }},
	{"backend", "text", "of this geo, asked last", true, false, func(e *Exchange, _ *outcome) slog.Value { return text(e.backend) }},
	{"tries", "number", "how many backends of this geo were asked, where it was more than one", true, false, func(e *Exchange, _ *outcome) slog.Value { return several(e.record.tries) }},
	{"hop", "text", "why another geo sent it here: shed, failover or replay", true, false, func(e *Exchange, _ *outcome) slog.Value { return text(string(e.hop)) }},
	{"replay", "text", "geo that served it because an app asked for it", true, false, func(e *Exchange, _ *outcome) slog.Value { return text(e.record.replay) }},
	{"shed", "text", "geo that served it because this one is overloaded", true, false, func(e *Exchange, _ *outcome) slog.Value { return text(e.record.shed) }},
	{"failover", "text", "geo that served it because no backend here did", true, false, func(e *Exchange, _ *outcome) slog.Value { return text(e.record.failover) }},
	{"listener", "text", "that it came through; fabric: from another geo", false, false, func(e *Exchange, _ *outcome) slog.Value { return text(e.listener) }},
	{"peer", "text", "ADDRESS:PORT that connected to us", false, false, func(e *Exchange, _ *outcome) slog.Value { return text(peerText(e.req.Peer)) }},
	{"local", "text", "ADDRESS:PORT that it connected to", false, false, func(e *Exchange, _ *outcome) slog.Value { return text(peerText(e.req.Local)) }},
	{"tls_version", "text", "of the connection: 1.2 or 1.3; absent: plain text", false, false, func(e *Exchange, _ *outcome) slog.Value {
		return ofTLS(e, func(s *message.Secure) slog.Value {
			return text(strings.TrimPrefix(tls.VersionName(s.Version), "TLS "))
		})
	}},
	{"tls_resumed", "yes or no", "whether its handshake resumed an earlier session", false, false, func(e *Exchange, _ *outcome) slog.Value {
		return ofTLS(e, func(s *message.Secure) slog.Value { return slog.BoolValue(s.Resumed) })
	}},
	{"server_name", "text", "that its client asked for (SNI)", false, false, func(e *Exchange, _ *outcome) slog.Value {
		return ofTLS(e, func(s *message.Secure) slog.Value { return text(cutText(s.ServerName)) })
	}},
	{"user_agent", "text", "of the client", false, false, func(e *Exchange, _ *outcome) slog.Value { return text(cutText(e.req.Header.Get("User-Agent"))) }},
	{"referer", "text", "", false, false, func(e *Exchange, _ *outcome) slog.Value { return text(cutText(e.req.Header.Get("Referer"))) }},

	{"rule", "text", "by which the edge answered with an error of its own", false, true, func(e *Exchange, _ *outcome) slog.Value { return text(string(e.rule)) }},
	{"error", "text", "why the answer is an error, or how its content broke off", false, true, func(_ *Exchange, o *outcome) slog.Value { return text(o.err) }},
	{"why", "text", "what was decided about it on the way", false, true, func(e *Exchange, _ *outcome) slog.Value { return text(e.explain()) }},
}

// logFields returns those of a line with the names chosen; nil: the default.
func logFields(chosen []string) []LogField {
	return slices.DeleteFunc(slices.Clone(LogFields), func(f LogField) bool {
		return !f.Always && !slices.Contains(chosen, f.Name) && (chosen != nil || !f.Default)
	})
}

// Validate reports every problem in c.
func (c AccessLogConfig) Validate() error {
	var errs []error
	for i, name := range c.Fields {
		if slices.ContainsFunc(LogFields, func(f LogField) bool { return f.Name == name }) {
			continue
		}
		var names []string
		for _, f := range LogFields {
			if !f.Always {
				names = append(names, f.Name)
			}
		}
		errs = append(errs, fmt.Errorf("fields[%d]: %q is no field of the access log; there are %s", i, name, strings.Join(names, ", ")))
	}
	return errors.Join(errs...)
}

// write logs an exchange that has ended.
func (a *accessLog) write(e *Exchange, status int, err string) {
	if !a.wants(status) {
		return
	}
	over := outcome{status, err, time.Now()}
	attrs := make([]any, 0, len(a.fields))
	for i := range a.fields {
		f := &a.fields[i]
		if v := f.value(e, &over); v.Kind() != slog.KindAny && (v.Kind() != slog.KindString || v.String() != "") {
			attrs = append(attrs, slog.Attr{Key: f.Name, Value: v})
		}
	}
	a.log.Info("request", attrs...)
}

// ofTLS is what f says of a connection with TLS, left out without.
func ofTLS(e *Exchange, f func(*message.Secure) slog.Value) slog.Value {
	if e.req.Secure == nil {
		return slog.Value{}
	}
	return f(e.req.Secure)
}

func text(s string) slog.Value { return slog.StringValue(s) }

// someInt is a number that is left out when it is 0.
func someInt(n int64) slog.Value {
	if n == 0 {
		return slog.Value{}
	}
	return slog.Int64Value(n)
}

// several is a number that is left out when it is no more than 1.
func several(n int) slog.Value {
	if n < 2 {
		return slog.Value{}
	}
	return slog.IntValue(n)
}

func ms(d time.Duration) slog.Value {
	return slog.Float64Value(float64(d.Microseconds()) / 1000)
}

// someMs is a time that is left out when it is 0.
func someMs(d time.Duration) slog.Value {
	if d == 0 {
		return slog.Value{}
	}
	return ms(d)
}

// between is the time from one moment to another, left out when one has not been.
func between(from, to time.Time) slog.Value {
	if from.IsZero() || to.Before(from) {
		return slog.Value{}
	}
	return ms(to.Sub(from))
}

func clientText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func peerText(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// A requestID names a request in logs, traces and error answers.
type requestID uint64

func newID() requestID { return requestID(rand.Uint64()) } //nolint:gosec // it tells requests apart, and keeps nothing secret

// String returns 16 hex digits.
func (id requestID) String() string { return fmt.Sprintf("%016x", uint64(id)) }

// text returns the id as a string of the arena.
func (id requestID) text(a *message.Arena) string {
	const hex = "0123456789abcdef"
	b := a.Room(16)
	for shift := 60; shift >= 0; shift -= 4 {
		b = append(b, hex[id>>shift&15])
	}
	return a.Text(b)
}

// parseID reads what String wrote.
func parseID(s string) (requestID, bool) {
	id, err := strconv.ParseUint(s, 16, 64)
	return requestID(id), err == nil && len(s) == 16
}
