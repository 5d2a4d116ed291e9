package nethttp

import (
	"errors"

	"github.com/quic-go/quic-go/http3"
)

// errUnprocessed means that the peer refused the request or went away without
// having looked at it. Whoever sent the request decides what to do next, not
// the transport.
var errUnprocessed = errors.New("the peer has not processed the request")

// unprocessed reports whether err is the peer's word that it has done nothing
// with the request, which makes it as good as not sent (RFC 9114 section 4.1.1).
func unprocessed(err error) bool {
	if errors.Is(err, errUnprocessed) {
		return true
	}
	if h3, ok := errors.AsType[*http3.Error](err); ok {
		return h3.ErrorCode == http3.ErrCodeRequestRejected
	}
	return false
}
