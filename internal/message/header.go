package message

import (
	"iter"
	"slices"
	"strings"
)

// A Field is one header field line.
type Field struct {
	Name  string // spelling as received
	Value string
}

// Header is a header or trailer section: field lines in the order received.
// Names are compared without regard to case (RFC 9110 section 5.1).
type Header []Field

// same compares field names: tokens, without regard to the case of their letters.
func same(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if x, y := a[i], b[i]; x != y && (x|0x20 != y|0x20 || x|0x20 < 'a' || x|0x20 > 'z') {
			return false
		}
	}
	return true
}

// Get returns the first value of name, or "".
func (h Header) Get(name string) string {
	for i := range h {
		if same(h[i].Name, name) {
			return h[i].Value
		}
	}
	return ""
}

// Has reports whether a field of that name is present.
func (h Header) Has(name string) bool {
	for i := range h {
		if same(h[i].Name, name) {
			return true
		}
	}
	return false
}

// Values yields every value of name, in order.
func (h Header) Values(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range h {
			if same(h[i].Name, name) && !yield(h[i].Value) {
				return
			}
		}
	}
}

// Joined returns all values of name as one list value (RFC 9110 section 5.3).
func (h Header) Joined(name string) string {
	for i := range h {
		if !same(h[i].Name, name) {
			continue
		}
		if h[i+1:].Has(name) {
			return strings.Join(slices.Collect(h.Values(name)), ", ")
		}
		return h[i].Value // mostly there is one
	}
	return ""
}

// Add appends a field line.
func (h *Header) Add(name, value string) {
	*h = append(*h, Field{name, value})
}

// Set gives name the one value, in the place of its first line.
func (h *Header) Set(name, value string) {
	for i := range *h {
		if same((*h)[i].Name, name) {
			(*h)[i].Value = value
			rest := h.delFrom(i+1, name)
			*h = rest
			return
		}
	}
	h.Add(name, value)
}

// Del removes every line of name.
func (h *Header) Del(name string) {
	*h = h.delFrom(0, name)
}

// DelFunc removes every line whose name del reports true for.
func (h *Header) DelFunc(del func(name string) bool) {
	*h = slices.DeleteFunc(*h, func(f Field) bool { return del(f.Name) })
}

func (h *Header) delFrom(i int, name string) Header {
	kept := (*h)[:i]
	for _, f := range (*h)[i:] {
		if !same(f.Name, name) {
			kept = append(kept, f)
		}
	}
	clear((*h)[len(kept):])
	return kept
}

// cloneRoom is how many fields a copy has place for beside its own: most copies
// are made to be added to.
const cloneRoom = 8

// Clone returns a copy that shares no memory with h.
func (h Header) Clone() Header {
	if h == nil {
		return nil
	}
	return append(make(Header, 0, len(h)+cloneRoom), h...)
}

// Tokens yields the comma-separated elements of every line of name, trimmed,
// empty ones left out (RFC 9110 section 5.6.1).
func (h Header) Tokens(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for v := range h.Values(name) {
			for t := range strings.SplitSeq(v, ",") {
				if t = strings.Trim(t, " \t"); t != "" && !yield(t) {
					return
				}
			}
		}
	}
}
