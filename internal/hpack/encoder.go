package hpack

import (
	"hash/maphash"
	"math/bits"
	"strings"

	"anyedge/internal/message"
)

// remembered is how many fields an encoder has seen once and may see again.
const remembered = 64

var seed = maphash.MakeSeed()

// An Encoder writes the header sections of one connection in order. A field that it
// is given for the second time goes into the dynamic table: most that differ from
// answer to answer never do. Use [NewEncoder].
type Encoder struct {
	table  table
	lowest int // limit to be told before the current one; -1: none is to be told
	told   int
	seen   [remembered]uint32 // parts of the sums of fields written once, by the sum
}

// NewEncoder returns an encoder with a table of DefaultTableSize.
func NewEncoder() *Encoder {
	return &Encoder{table: table{limit: DefaultTableSize}, lowest: -1, told: DefaultTableSize}
}

// Resize takes the size that the peer allows; more than DefaultTableSize is not
// used.
func (e *Encoder) Resize(limit int) {
	limit = min(limit, DefaultTableSize)
	if e.lowest < 0 || limit < e.lowest {
		e.lowest = limit
	}
	e.table.resize(limit)
}

// Begin begins a header section.
func (e *Encoder) Begin(b []byte) []byte {
	if e.lowest < 0 {
		return b
	}
	if e.lowest < e.table.limit { // section 4.2
		b = appendInteger(b, 0x20, 5, uint64(e.lowest))
	}
	if e.lowest < e.table.limit || e.table.limit != e.told {
		b = appendInteger(b, 0x20, 5, uint64(e.table.limit))
	}
	e.lowest, e.told = -1, e.table.limit
	return b
}

// Append appends a field, its name in lower case.
func (e *Encoder) Append(b []byte, name, value string) []byte {
	index := staticName(name)
	for i := index; i > 0 && i <= len(static) && (i == index || static[i-1].Name == static[index-1].Name); i++ {
		if static[i-1].Value == value && value != "" {
			return appendInteger(b, 0x80, 7, uint64(i))
		}
	}
	if secret(index) {
		return appendText(appendName(b, 0x10, 4, index, name), value)
	}
	sum := sum(name, value)
	for i := range e.table.count() {
		x := e.table.at(i + 1)
		switch {
		case x.sum == sum && x.Value == value && equal(name, x.Name):
			return appendInteger(b, 0x80, 7, uint64(len(static)+i+1))
		case index == 0 && equal(name, x.Name):
			index = len(static) + i + 1
		}
	}
	if !e.again(sum) || len(name)+len(value)+entryOverhead > e.table.limit/2 {
		return appendText(appendName(b, 0, 4, index, name), value)
	}
	b = appendText(appendName(b, 0x40, 6, index, name), value)
	e.table.add(entry{Field: message.Field{Name: string(appendLower(nil, name)), Value: strings.Clone(value)}, sum: sum})
	return b
}

// again reports whether a field of that sum was written before, lately.
func (e *Encoder) again(sum uint64) bool {
	at, rest := &e.seen[sum%remembered], uint32(sum>>32)
	if *at == rest {
		return true
	}
	*at = rest
	return false
}

// sum is a checksum of a field.
func sum(name, value string) uint64 {
	return maphash.String(seed, value) ^ bits.RotateLeft64(uint64(slot(name))*0x9e3779b97f4a7c15, 17)
}

// secret reports whether the value of a static name is kept out of tables, here and
// behind (section 7.1.3).
func secret(index int) bool {
	switch index {
	case 23, 32, 49, 55: // authorization, cookie, proxy-authorization, set-cookie
		return true
	}
	return false
}

// appendName appends the beginning of a literal field.
func appendName(b []byte, kind byte, prefix uint, index int, name string) []byte {
	b = appendInteger(b, kind, prefix, uint64(index))
	if index > 0 {
		return b
	}
	return appendLower(appendInteger(b, 0, 7, uint64(len(name))), name)
}

func appendLower(b []byte, name string) []byte {
	for i := range len(name) {
		c := name[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		b = append(b, c)
	}
	return b
}

// appendText appends a string as it is: what is written often is in the table, and
// the rest is not worth coding.
func appendText(b []byte, s string) []byte {
	return append(appendInteger(b, 0, 7, uint64(len(s))), s...)
}

// appendInteger appends an integer with a prefix (section 5.1).
func appendInteger(b []byte, kind byte, prefix uint, n uint64) []byte {
	most := uint64(1)<<prefix - 1
	if n < most {
		return append(b, kind|byte(n))
	}
	b = append(b, kind|byte(most))
	for n -= most; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}
