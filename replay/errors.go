package replay

import (
	"fmt"
	"strconv"
	"time"

	"anyedge/internal/message"
)

// A Code names why a replay did not happen, in Replay-Geo-Error and the log.
type Code string

// Every code; its status never varies.
const (
	BodyTooLarge   Code = "body-too-large"  // 413: the request no longer fits in what is kept of it
	NoCandidate    Code = "no-candidate"    // 503, with Retry-After: no geo of the instruction can take it
	Loop           Code = "loop"            // 508: every geo of it was there before, or the hops are used up
	NotAllowed     Code = "not-allowed"     // 502: the service may not ask for this
	BadInstruction Code = "bad-instruction" // 502: malformed, or it names what is not configured
	Timeout        Code = "timeout"         // 504: no first byte in time, and nobody else may be asked
)

// Status returns the HTTP status that goes with c.
func (c Code) Status() int {
	switch c {
	case BodyTooLarge:
		return 413
	case NoCandidate:
		return 503
	case Loop:
		return 508
	case Timeout:
		return 504
	case NotAllowed, BadInstruction:
	}
	return 502
}

// retryAfter is what a client is asked to wait when no geo could take it.
const retryAfter = time.Second

// An Error is a replay that did not happen. The client gets its status, its
// code in Replay-Geo-Error, and its text.
type Error struct {
	Code   Code
	Status int
	Text   string // exact: names the geo, parameter or position at fault
}

// Errorf returns the error of that code, with the code's status.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Status: code.Status(), Text: fmt.Sprintf(format, args...)}
}

// Error returns code and text.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Text }

// Fields returns the header fields of the answer that tells a client of e.
func (e *Error) Fields() message.Header {
	h := message.Header{{Name: FieldError, Value: string(e.Code)}}
	if e.Code == NoCandidate {
		h.Add("Retry-After", strconv.Itoa(int(retryAfter/time.Second)))
	}
	return h
}
