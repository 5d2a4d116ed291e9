package api

import "time"

// Paths of requests. Both take the same query to choose: service, rule, status (a
// class, 1 to 5, or a status), client (an address or a prefix), path (how it begins)
// and slow_ms; PathTraces takes id as well.
const (
	PathTraces    = "/v1/traces"
	PathTraceLive = "/v1/traces/live" // JSON lines, each a TraceEvent, until the caller ends it
)

// Traces lists the requests that are kept, oldest first: those that failed, that
// were slow or tried more than once, and those of or for other geos.
type Traces struct {
	Geo    string  `json:"geo"`
	Node   string  `json:"node"`
	Traces []Trace `json:"traces"`
}

// A TraceEvent is one line of a live trace.
type TraceEvent struct {
	Trace   *Trace `json:"trace,omitempty"`
	Dropped uint64 `json:"dropped,omitempty"` // not shown since the line before, because the reader was slow
}

// A Trace is what became of one request.
type Trace struct {
	ID       string    `json:"id"` // the same in every geo that had it
	At       time.Time `json:"at"` // when it came
	Listener string    `json:"listener"`
	Service  string    `json:"service,omitempty"`
	Client   string    `json:"client"`
	Version  string    `json:"version"`
	Method   string    `json:"method"`
	Host     string    `json:"host"`
	Path     string    `json:"path"`

	Status  int    `json:"status"`
	Rule    string `json:"rule,omitempty"` // by which the answer is an error of the edge's own
	Error   string `json:"error,omitempty"`
	Entry   string `json:"entry"` // geo that the client came to
	Geo     string `json:"geo"`   // that served it
	Moved   string `json:"moved,omitempty"`
	Hop     string `json:"hop,omitempty"`
	Backend string `json:"backend,omitempty"`
	Tries   int    `json:"tries"`

	Received        int64       `json:"received"` // bytes of content
	Sent            int64       `json:"sent"`
	FirstByteMillis *float64    `json:"first_byte_ms"` // null: there was no answer
	TookMillis      float64     `json:"took_ms"`
	Steps           []TraceStep `json:"steps"`
}

// A TraceStep is something that happened to a request.
type TraceStep struct {
	AfterMillis float64 `json:"after_ms"` // the request came
	Text        string  `json:"text"`
}
