package upstream

import "time"

// A BackendConfig is one local instance of a service.
type BackendConfig struct {
	Name          string `json:"name" yaml:"name"`                                                                     // unique in the service
	URL           string `json:"url" yaml:"url"`                                                                       // http://HOST:PORT; h2c://HOST:PORT for HTTP/2 without TLS
	Weight        int    `json:"weight,omitempty" yaml:"weight" jsonschema:"minimum=1,maximum=65535"`                  // share of the requests in proportion to the others'; default 1
	ProxyProtocol string `json:"proxy_protocol,omitempty" yaml:"proxy_protocol" jsonschema:"enum=off,enum=v1,enum=v2"` // connections begin with a PROXY header of that version, and each carries the requests of one client connection; http only; default off

	Limit LimitConfig `json:"limit,omitzero" yaml:"limit"` // requests under way there at once; absent: no limit

	// Priority is set by discovery: backends take requests while none of a lower
	// number can (RFC 2782).
	Priority int `json:"-" yaml:"-"`
}

// LimitConfig bounds the requests under way at one backend, seen from this node.
type LimitConfig struct {
	Soft int `json:"soft,omitempty" yaml:"soft" jsonschema:"minimum=1"` // above it others that have room are preferred; default hard
	Hard int `json:"hard,omitempty" yaml:"hard" jsonschema:"minimum=1"` // never exceeded; when all are there, requests queue; absent: no limit
}

// QueueConfig bounds the requests that wait while every backend is at its hard
// limit. What finds no place is another geo's, or refused.
type QueueConfig struct {
	Length *int           `json:"length,omitempty" yaml:"length" jsonschema:"minimum=0"` // most requests that wait; 0 = none; default the sum of the hard limits
	Wait   *time.Duration `json:"wait,omitempty" yaml:"wait"`                            // longest wait; an eighth of it while the queue has not been empty for that long; default 250ms
}

// HealthConfig says how a backend is judged.
type HealthConfig struct {
	HTTP *HTTPCheckConfig `json:"http,omitempty" yaml:"http"` // absent: a TCP connect every interval
}

// HTTPCheckConfig is an active check by HTTP request.
type HTTPCheckConfig struct {
	Path     string         `json:"path,omitempty" yaml:"path"`                        // what is asked for; default "/"
	Expect   []int          `json:"expect,omitempty" yaml:"expect"`                    // statuses that count as healthy; default [200]
	Interval *time.Duration `json:"interval,omitempty" yaml:"interval"`                // between two checks; default 2s
	Timeout  *time.Duration `json:"timeout,omitempty" yaml:"timeout"`                  // for a whole answer; default 1s
	Rise     int            `json:"rise,omitempty" yaml:"rise" jsonschema:"minimum=1"` // good answers in a row until healthy; default 2
	Fall     int            `json:"fall,omitempty" yaml:"fall" jsonschema:"minimum=1"` // bad ones until unhealthy; default 3
}

// TimeoutsConfig bounds how long a backend may take.
type TimeoutsConfig struct {
	Connect        *time.Duration `json:"connect,omitempty" yaml:"connect"`                 // for a TCP connection; default 1s
	ResponseHeader *time.Duration `json:"response_header,omitempty" yaml:"response_header"` // from the request's end to the answer's head; default 30s
	Idle           *time.Duration `json:"idle,omitempty" yaml:"idle"`                       // how long a pooled connection is kept without a request; of a pooled connection; default 60s
}
