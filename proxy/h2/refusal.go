package h2

import (
	"errors"
	"net/http"
)

// Rules that a client can break, as Config.Refused names them.
const (
	RuleField      = "field"       // a header section's form, or what it says
	RuleHeaderSize = "header_size" // of the header section
	RuleProtocol   = "protocol"    // of frames and streams
	RuleFlood      = "flood"       // more of something than anybody needs
	RuleStreams    = "streams"     // more at once than allowed
)

// A requestError is a streamError of a request that is none.
type requestError struct{ streamError }

func (e requestError) Unwrap() error { return e.streamError }

// refuse tells of a rule that the client broke.
func (c *conn) refuse(status int, rule string) {
	if c.backend == nil && c.server.refused != nil {
		c.server.refused(c.peer, status, rule)
	}
}

// refuseBy tells of the rule that err is about; of an end that is nobody's fault
// it tells nothing.
func (c *conn) refuseBy(err error) {
	if bad, ok := errors.AsType[connError](err); ok {
		switch bad.code {
		case noError:
		case enhanceYourCalm:
			c.refuse(http.StatusTooManyRequests, RuleFlood)
		case compressionError:
			c.refuse(http.StatusBadRequest, RuleField)
		default:
			c.refuse(http.StatusBadRequest, RuleProtocol)
		}
		return
	}
	bad, _ := errors.AsType[streamError](err)
	_, request := errors.AsType[requestError](err)
	switch {
	case request:
		c.refuse(http.StatusBadRequest, RuleField)
	case bad.code == refusedStream:
		c.refuse(http.StatusTooManyRequests, RuleStreams)
	default:
		c.refuse(http.StatusBadRequest, RuleProtocol)
	}
}
