package h1

import (
	"errors"
	"fmt"
	"os"
)

// Rules that a client can break, as Config.Refused names them.
const (
	RuleRequestLine = "request_line" // its form, method or version
	RuleTarget      = "target"
	RuleField       = "field"   // a field line's form
	RuleFraming     = "framing" // Content-Length, Transfer-Encoding, Connection
	RuleHost        = "host"
	RuleExpect      = "expect"
	RuleBareLF      = "bare_lf"
	RuleHeaderSize  = "header_size"  // of the request line or the header section
	RuleSlowHeader  = "slow_header"  // Config.HeaderTimeout
	RuleSlowContent = "slow_content" // Config.SlowAfter
	RuleSlowReader  = "slow_reader"  // likewise; the status is that of the answer that was cut off
)

// A refusal is why a request is not taken.
type refusal struct {
	status int
	rule   string
	why    error
}

func (r *refusal) Error() string { return r.why.Error() }
func (r *refusal) Unwrap() error { return r.why }

func refuse(status int, rule, format string, args ...any) *refusal {
	return &refusal{status, rule, fmt.Errorf(format, args...)}
}

// unread returns the refusal of a head that could not be read; nil: the client
// has gone.
func unread(err error) *refusal {
	switch {
	case errors.Is(err, errLineTooLong):
		return &refusal{414, RuleHeaderSize, err}
	case errors.Is(err, errHeadTooLarge), errors.Is(err, errTooMany):
		return &refusal{431, RuleHeaderSize, err}
	case errors.Is(err, errBareLF):
		return &refusal{400, RuleBareLF, err}
	case errors.Is(err, errNoStartLine):
		return &refusal{400, RuleRequestLine, err}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return refuse(408, RuleSlowHeader, "the header section did not come in time")
	}
	return nil
}
