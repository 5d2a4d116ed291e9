// Package replay holds the protocol by which an app, or the edge itself, has a
// request served somewhere else: its grammar, its limits, its loop rules and
// the proof that a delivery is one.
//
// An app answers with the field Replay-Geo in place of content ([Parse]). The
// edge that the client reached drops that answer and delivers the original
// request to the geos the instruction leads to ([Instruction.Resolve]), in
// order, until one serves it. The package is pure: it has no clock, does no I/O
// and sends nothing; proxy runs instructions and fabric carries requests.
//
// # The instruction
//
// Replay-Geo is a list of structured fields (RFC 9651). Its items are tried in
// order. Each is a geo, a group, a word ("next": the nearest other geo,
// "elsewhere": every other one, nearest first, "any": this one too) or an inner
// list, which is a group without a name: the nearest of its members first.
// Parameters belong to the whole instruction, whichever item carries them:
//
//	state="..."    handed to the app there; up to 1 KiB
//	timeout=0.8    seconds to the first byte of an answer, for each try
//	fallback=self  what to do when no item served it: none (default), self, next
//	hops=1         how many replays this request may see; at most the service's
//
// # What the app there sees
//
// Replay-Geo-Src is a dictionary:
//
//	geo=fra, node=fra-edge1, t=1764031200, hops=(fra), state="user-42", sig=:bGFk...:
//
// geo and node name the edge that replayed the request, t is the time in unix
// seconds, hops the geos that handled the request before, the first one first.
// sig is always the last member, in the form above. The bytes signed are those
// of the field value before the last ", sig=" in it, nothing else; the
// algorithm is Ed25519 (RFC 8032) without a prehash or a context. An app that
// wants more than the edge's promise (clients' copies never pass it) verifies
// that signature with the fleet's public key and refuses a t that is old: the
// signature does not name the request.
package replay

import (
	"strings"

	"anyedge/internal/message"
)

// Names of the protocol's fields.
const (
	Field       = "Replay-Geo"        // response: the instruction
	FieldSource = "Replay-Geo-Src"    // request: who replayed it, and proof
	FieldFailed = "Replay-Geo-Failed" // request: why a fallback gets it
	FieldError  = "Replay-Geo-Error"  // response of the edge: an error's code
)

// Owns reports whether name is a field of this protocol, in any case. Names
// spelt with "_" for "-" count, because CGI and its heirs show an app no
// difference.
func Owns(name string) bool {
	if len(name) < len(Field) {
		return false
	}
	for i := range len(Field) {
		c := name[i]
		if c == '_' {
			c = '-'
		}
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lowerField[i] {
			return false
		}
	}
	return len(name) == len(Field) || name[len(Field)] == '-' || name[len(Field)] == '_'
}

const lowerField = "replay-geo"

// Strip removes every field of the protocol from h: from what a client sends,
// so that the presence of one is proof, and from what a client gets.
func Strip(h *message.Header) { h.DelFunc(Owns) }

// Present reports whether a response carries an instruction. It is cheap
// enough for every response.
func Present(h message.Header) bool {
	return h.Has(Field) || isJSON(h)
}

// isJSON reports whether the content is the instruction.
func isJSON(h message.Header) bool {
	kind, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(kind), "application/vnd.replay-geo+json")
}
