package nethttp

import (
	"errors"

	"github.com/quic-go/quic-go/http3"
)

// errUnprocessed means that the peer refused the request or went away without
// having looked at it. Whoever sent the request decides what to do next, not
// the transport.
var errUnprocessed = errors.New("the peer has not processed the request")

// h2StreamError has the shape of the stream error of net/http's HTTP/2, which
// copies itself into any struct like it.
type h2StreamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

// Error is part of being an error.
func (h2StreamError) Error() string { return "stream reset" }

// refusedStream is REFUSED_STREAM (RFC 9113 section 7).
const refusedStream = 0x7

// unprocessed reports whether err is the peer's word that it has done nothing
// with the request, which makes it as good as not sent (RFC 9113 section 8.7, RFC 9114 section 4.1.1).
func unprocessed(err error) bool {
	if errors.Is(err, errUnprocessed) {
		return true
	}
	if h3, ok := errors.AsType[*http3.Error](err); ok {
		return h3.ErrorCode == http3.ErrCodeRequestRejected
	}
	var h2 h2StreamError
	return errors.As(err, &h2) && h2.Code == refusedStream
}
