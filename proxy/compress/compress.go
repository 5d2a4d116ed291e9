// Package compress makes answers smaller for clients that can read them so
// (RFC 9110 section 8.4): zstd, br or gzip, by what a client prefers.
//
// A [Policy] looks at an answer's fields and replaces its content by a reader that
// encodes as it is read; it starts no goroutine. It touches nothing that says what
// bytes it is made of (ranges, digests) or that somebody encoded already, and
// nothing whose maker forbids it (no-transform). Whether answers may be compressed
// at all is the operator's decision: an answer that repeats what an attacker sends
// beside a secret tells the secret by its length (BREACH).
package compress

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"anyedge/internal/message"
)

// DefaultMin is the default of Config.Min.
const DefaultMin = message.KiB

// maxActive bounds how many answers of one policy are compressed at once. Each
// holds an encoder of up to some MiB until its client has read it; beyond that
// answers go as they are.
const maxActive = 128

// Config says what is compressed. Its presence turns compression on.
type Config struct {
	Algorithms []string      `json:"algorithms,omitempty" yaml:"algorithms" jsonschema:"enum=zstd,enum=br,enum=gzip"` // in the order of preference where a client has none; default [zstd, br, gzip]
	Types      []string      `json:"types,omitempty" yaml:"types"`                                                    // media types, "text/*" for all of a kind; default text/* without text/event-stream, application/json, javascript, xml, wasm and manifest+json, image/svg+xml, font/ttf and otf
	Min        *message.Size `json:"min,omitempty" yaml:"min"`                                                        // smallest content that is; one of unknown length always is; default 1KiB
}

var defaultTypes = []string{
	"text/*", "application/json", "application/javascript", "application/xml", "application/wasm",
	"application/manifest+json", "image/svg+xml", "font/ttf", "font/otf",
}

// digests are fields that are about the bytes as they are.
var digests = []string{"Content-Digest", "Repr-Digest", "Digest", "Content-MD5"}

var algorithms = []string{zstdName, brName, gzipName}

// Validate reports every problem in c.
func (c Config) Validate() error {
	var errs []error
	for i, a := range c.Algorithms {
		if !slices.Contains(algorithms, a) {
			errs = append(errs, fmt.Errorf("algorithms[%d]: %q is none of zstd, br and gzip", i, a))
		}
		if slices.Contains(c.Algorithms[:i], a) {
			errs = append(errs, fmt.Errorf("algorithms[%d]: %s is given twice", i, a))
		}
	}
	for i, t := range c.Types {
		kind, sub, ok := strings.Cut(t, "/")
		if !ok || !message.IsToken(kind) || kind == "*" || !message.IsToken(sub) || strings.ToLower(t) != t {
			errs = append(errs, fmt.Errorf(`types[%d]: %q is no media type in lower case, like text/html or text/*`, i, t))
		}
	}
	return errors.Join(errs...)
}

// A Policy is a Config at work. It is safe for any number of requests at once.
type Policy struct {
	algorithms, types []string
	events            bool // text/event-stream is named
	min               int64
	active            atomic.Int32
}

// New returns the policy that c says.
func New(c Config) *Policy {
	p := &Policy{algorithms: c.Algorithms, types: c.Types, min: int64(DefaultMin)}
	if len(p.algorithms) == 0 {
		p.algorithms = algorithms
	}
	if len(p.types) == 0 {
		p.types = defaultTypes
	}
	p.events = slices.Contains(p.types, eventStream)
	if c.Min != nil {
		p.min = int64(*c.Min)
	}
	return p
}

// Apply compresses res, the answer to req, where both allow it. An answer that
// another client might get compressed says so (Vary).
func (p *Policy) Apply(req *message.Request, res *message.Response) {
	h := &res.Header
	if res.Status == 304 {
		weakenMatched(req, h)
		return
	}
	if !p.may(req, res) {
		return
	}
	vary(h)
	name := choose(req.Header.Joined("Accept-Encoding"), p.algorithms)
	if name == "" {
		return
	}
	if res.Body != nil {
		if p.active.Add(1) > maxActive {
			p.active.Add(-1)
			return
		}
		res.Body = newContent(name, res.Body, res.Length < 0, func() { p.active.Add(-1) })
		res.Length = -1
	}
	h.Del("Content-Length") // of the answer to a HEAD
	h.Del("Accept-Ranges")
	h.Set("Content-Encoding", name)
	if tag := h.Get("ETag"); strings.HasPrefix(tag, `"`) {
		h.Set("ETag", "W/"+tag)
	}
}

// may reports whether res is something that is compressed for who can read it.
func (p *Policy) may(req *message.Request, res *message.Response) bool {
	h := res.Header
	head := req.Method == "HEAD"
	switch {
	case res.Stream != nil, res.Body == nil && !head, res.Status < 200, res.Status == 204, res.Status == 206:
		return false
	case h.Has("Content-Encoding"), h.Has("Content-Range"), !p.matches(h.Get("Content-Type")):
		return false
	}
	if slices.ContainsFunc(digests, h.Has) {
		return false
	}
	for t := range h.Tokens("Cache-Control") {
		if strings.EqualFold(t, "no-transform") {
			return false
		}
	}
	length := res.Length
	if head {
		length = -1
		if n, ok := message.ParseLength(h.Get("Content-Length")); ok {
			length = n
		}
	}
	return length < 0 || length >= p.min
}

const eventStream = "text/event-stream"

// matches reports whether a Content-Type is one of the policy's.
func (p *Policy) matches(value string) bool {
	t, _, _ := strings.Cut(value, ";")
	t = strings.ToLower(strings.Trim(t, " \t"))
	if t == eventStream {
		return p.events
	}
	for _, want := range p.types {
		kind, all := strings.CutSuffix(want, "*")
		if t == want || all && strings.HasPrefix(t, kind) {
			return true
		}
	}
	return false
}

// vary adds Accept-Encoding to what the answer depends on (RFC 9110 section
// 12.5.5).
func vary(h *message.Header) {
	for t := range h.Tokens("Vary") {
		if t == "*" || strings.EqualFold(t, "Accept-Encoding") {
			return
		}
	}
	if before := h.Joined("Vary"); before != "" {
		h.Set("Vary", before+", Accept-Encoding")
		return
	}
	h.Add("Vary", "Accept-Encoding")
}

// weakenMatched gives a 304 the weak ETag of the answer that its client has, if it
// got that compressed: another one would not be of that answer (RFC 9111 section
// 4.3.4).
func weakenMatched(req *message.Request, h *message.Header) {
	tag := h.Get("ETag")
	if !strings.HasPrefix(tag, `"`) {
		return
	}
	for t := range req.Header.Tokens("If-None-Match") {
		switch t {
		case tag:
			return
		case "W/" + tag: // what the client has may have been compressed
			h.Set("ETag", "W/"+tag)
			vary(h)
			return
		}
	}
}
