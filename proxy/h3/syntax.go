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
