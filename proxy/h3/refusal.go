package h3

import "errors"

// Rules that a client can break, as Config.Refused names them.
const (
	RuleFraming    = "framing"     // frames, streams and settings (RFC 9114 sections 6 and 7), content-length
	RuleField      = "field"       // a field section's form (RFC 9114 section 4, RFC 9204)
	RuleHeaderSize = "header_size" // of the header section
	RuleSlowHeader = "slow_header" // Config.HeaderTimeout
	RuleSlowBody   = "slow_body"   // content that comes slower than 240 bytes a second
	RuleFlood      = "flood"       // too much that asks for nothing, or streams that came to nothing
	RuleEarlyData  = "early_data"  // a request that is not safe, before a handshake that never ended
)

// ruleOf says which rule an error is about.
func ruleOf(err error) string {
	var c code
	if bad, ok := errors.AsType[connError](err); ok {
		c = bad.code
	} else if bad, ok := errors.AsType[streamError](err); ok {
		c = bad.code
	}
	switch c {
	case excessiveLoad:
		return RuleFlood
	case messageError, decompressionFailed, encoderStreamError, decoderStreamError:
		return RuleField
	default:
		return RuleFraming
	}
}
