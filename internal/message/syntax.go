package message

import (
	"strings"
	"time"
)

// tokens are the bytes of a token (RFC 9110 section 5.6.2).
var tokens = func() (t [256]bool) {
	for c := range t {
		t[c] = c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c > 0 && strings.IndexByte("!#$%&'*+-.^_`|~", byte(c)) >= 0
	}
	return t
}()

// IsToken reports whether s is one.
func IsToken(s string) bool {
	for i := range len(s) {
		if !tokens[s[i]] {
			return false
		}
	}
	return s != ""
}

// IsVisible reports whether s is printable ASCII without white space, as targets
// and hosts are.
func IsVisible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// IsValue reports whether s is a field value (RFC 9110 section 5.5): without control
// characters but tabs, and without white space around it.
func IsValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return s == "" || s[0] != ' ' && s[0] != '\t' && s[len(s)-1] != ' ' && s[len(s)-1] != '\t'
}

// IsSwitchable reports whether an exchange may change to a protocol, one token or two
// with a slash between. A backend that took one that carries HTTP would read the
// client's next bytes as requests that nobody has seen (RFC 9113 appendix B).
func IsSwitchable(protocol string) bool {
	name, version, versioned := strings.Cut(protocol, "/")
	for _, s := range []string{"h2c", "h2", "http", "tls"} {
		if strings.EqualFold(name, s) {
			return false
		}
	}
	return IsToken(name) && (!versioned || IsToken(version))
}

// ParseLength reads the value of a Content-Length: 1*DIGIT (RFC 9110 section 8.6),
// of at most 18 digits.
func ParseLength(s string) (int64, bool) {
	if s == "" || len(s) > 18 {
		return 0, false
	}
	n := int64(0)
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int64(s[i]-'0')
	}
	return n, true
}

// AtRate returns how long n bytes take at a rate in bytes a second.
func AtRate(n, rate int64) time.Duration {
	return time.Duration(n/rate)*time.Second + time.Duration(n%rate)*time.Second/time.Duration(rate)
}
