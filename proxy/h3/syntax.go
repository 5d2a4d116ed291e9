package h3

import (
	"strings"

	"anyedge/internal/message"
)

// nameBytes are those of field names: a token's without upper case.
var nameBytes = func() (t [256]bool) {
	for _, c := range []byte("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz") {
		t[c] = true
	}
	return t
}()

// isName reports whether s is a field name as HTTP/3 spells it (RFC 9114 section
// 4.2).
func isName(s string) bool {
	for i := range len(s) {
		if !nameBytes[s[i]] {
			return false
		}
	}
	return s != ""
}

// clean returns s as a value that no peer refuses, whatever an engine of another
// version let through.
func clean(s string) string {
	if message.IsValue(s) {
		return s
	}
	return strings.Trim(strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f {
			return ' '
		}
		return r
	}, s), " \t")
}

// fold reports whether s is word, however it is spelled.
func fold(s, word string) bool { return len(s) == len(word) && strings.EqualFold(s, word) }

// isH2C reports whether a protocol is h2c, which is nothing to change to: a backend
// that took it would read the client's next bytes as requests that nobody has seen
// (RFC 9113 appendix B deprecates it).
func isH2C(protocol string) bool { return fold(protocol, "h2c") }
