package h3

import (
	"errors"
	"net/http"
)

// Rules that a client can break, as Config.Refused names them.
const (
	RuleProtocol    = "protocol"     // of frames, streams and settings (RFC 9114 sections 6 and 7)
	RuleField       = "field"        // a field section's form, or what it says (RFC 9114 section 4, RFC 9204)
	RuleHeaderSize  = "header_size"  // of the header section
	RuleSlowHeader  = "slow_header"  // Config.HeaderTimeout
	RuleSlowContent = "slow_content" // Config.SlowAfter
	RuleSlowReader  = "slow_reader"  // likewise; the status is that of the answer that was cut off
	RuleFlood       = "flood"        // too much that asks for nothing, or streams that came to nothing
	RuleEarlyData   = "early_data"   // a request that is not safe, before a handshake that never ended
)

// refusedFor tells of the rule that err, a connError or a streamError, is about.
func (c *Conn) refusedFor(err error) {
	var why code
	if bad, ok := errors.AsType[connError](err); ok {
		why = bad.code
	} else if bad, ok := errors.AsType[streamError](err); ok {
		why = bad.code
	}
	switch why {
	case excessiveLoad:
		c.refused(http.StatusTooManyRequests, RuleFlood)
	case messageError, decompressionFailed, encoderStreamError, decoderStreamError:
		c.refused(http.StatusBadRequest, RuleField)
	default:
		c.refused(http.StatusBadRequest, RuleProtocol)
	}
}
