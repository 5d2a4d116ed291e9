package message

import (
	"errors"
	"fmt"
)

// Sent says how far a failed try got. It decides who may try again: after
// NothingSent anybody, after MaybeExecuted only an idempotent request (RFC 9110
// section 9.2.2), after Answered nobody without the answerer's word.
type Sent uint8

// How far a try got.
const (
	NothingSent   Sent = iota + 1 // no byte of the request reached a backend
	MaybeExecuted                 // the request was sent, wholly or in part; no answer came
	Answered                      // an answer began; the failure is in its rest
)

// String returns the words used in logs and explanations.
func (s Sent) String() string {
	switch s {
	case NothingSent:
		return "nothing was sent"
	case MaybeExecuted:
		return "maybe executed"
	case Answered:
		return "answered"
	}
	return "unknown"
}

// A TryError is one failed try of a request.
type TryError struct {
	Sent Sent
	To   string // who was asked: a backend or a geo
	Err  error
}

// Error names who was asked and how far the try got.
func (e *TryError) Error() string {
	return fmt.Sprintf("%s (%s): %v", e.To, e.Sent, e.Err)
}

// Unwrap returns the cause.
func (e *TryError) Unwrap() error { return e.Err }

// SentBy returns how far the try that ended in err got. An error that is no
// TryError counts as MaybeExecuted, the careful reading.
func SentBy(err error) Sent {
	if t, ok := errors.AsType[*TryError](err); ok {
		return t.Sent
	}
	return MaybeExecuted
}
