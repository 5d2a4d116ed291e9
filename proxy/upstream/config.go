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
	HTTP    *HTTPCheckConfig `json:"http,omitempty" yaml:"http"`       // absent: a TCP connect every interval
	GRPC    *GRPCCheckConfig `json:"grpc,omitempty" yaml:"grpc"`       // the gRPC health protocol, of backends at h2c; in place of http
	Passive *PassiveConfig   `json:"passive,omitempty" yaml:"passive"` // what requests meet counts, too; {} takes the defaults; absent: only whether they can connect
}

// PassiveConfig says when a backend takes no requests for a while because of
// what requests met there: answers with a 5xx status but 501, connections that
// broke without an answer, and time that ran out.
type PassiveConfig struct {
	Consecutive *int           `json:"consecutive,omitempty" yaml:"consecutive" jsonschema:"minimum=0"`           // failures in a row that eject; 0 = any number; default 5
	ErrorRatio  *float64       `json:"error_ratio,omitempty" yaml:"error_ratio" jsonschema:"minimum=0,maximum=1"` // share of failures in a window that ejects; 0 = any share; default 0.5
	MinRequests int            `json:"min_requests,omitempty" yaml:"min_requests" jsonschema:"minimum=1"`         // in a window, for its share to count; default 20
	Window      *time.Duration `json:"window,omitempty" yaml:"window"`                                            // that failures are counted over; default 10s
	Eject       *time.Duration `json:"eject,omitempty" yaml:"eject"`                                              // how long at first; each further time as much longer, up to ten times as long; default 30s
	MaxEjected  *float64       `json:"max_ejected,omitempty" yaml:"max_ejected" jsonschema:"minimum=0,maximum=1"` // largest share of the backends that is ejected at once, but always one of several and never the last; default 0.5
}

// RetryConfig says when a request that failed is sent once more. A request of
// which no backend took a byte is always sent to the next one; what follows is
// about those that a backend may have executed, and holds for requests that can
// be repeated without harm (RFC 9110 section 9.2.2) and whose content is still
// there.
type RetryConfig struct {
	Attempts int            `json:"attempts,omitempty" yaml:"attempts" jsonschema:"minimum=1,maximum=10"` // times that a request is sent at most; 1 = never again; default 2
	On       []string       `json:"on,omitempty" yaml:"on" jsonschema:"enum=reset,enum=timeout"`          // reset: the connection broke before an answer; timeout: there was none in time; default [reset]
	Statuses []int          `json:"statuses,omitempty" yaml:"statuses"`                                   // of answers in whose place another backend's is taken, like 502, 503, 504; default none
	PerTry   *time.Duration `json:"per_try,omitempty" yaml:"per_try"`                                     // for an answer to one try, which is then given up for the next as if on had timeout; default none but timeouts.response_header
	Budget   *float64       `json:"budget,omitempty" yaml:"budget" jsonschema:"minimum=0,maximum=1"`      // share of the requests that may be repeated, over ten seconds; one more per second is always free; default 0.1
	Hedge    string         `json:"hedge,omitempty" yaml:"hedge"`                                         // how long a GET, HEAD or OPTIONS without content waits until a second backend is asked as well: a duration, or p95 of the times to an answer; default never
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

// GRPCCheckConfig is an active check by grpc.health.v1.Health/Check.
type GRPCCheckConfig struct {
	Service  string         `json:"service,omitempty" yaml:"service"`                  // that is asked about; default "", the whole server
	Interval *time.Duration `json:"interval,omitempty" yaml:"interval"`                // between two checks; default 2s
	Timeout  *time.Duration `json:"timeout,omitempty" yaml:"timeout"`                  // for a whole answer; default 1s
	Rise     int            `json:"rise,omitempty" yaml:"rise" jsonschema:"minimum=1"` // good answers in a row until healthy; default 2
	Fall     int            `json:"fall,omitempty" yaml:"fall" jsonschema:"minimum=1"` // bad ones until unhealthy; default 3
}

// TimeoutsConfig bounds how long a backend may take.
type TimeoutsConfig struct {
	Connect        *time.Duration `json:"connect,omitempty" yaml:"connect"`                 // for a TCP connection; default 1s
	ResponseHeader *time.Duration `json:"response_header,omitempty" yaml:"response_header"` // from the request's end to the answer's head; default 30s
	Total          *time.Duration `json:"total,omitempty" yaml:"total"`                     // for all tries and the whole answer with its content; not for an upgraded connection; default none
	Idle           *time.Duration `json:"idle,omitempty" yaml:"idle"`                       // how long a pooled connection is kept without a request; default 60s
}
