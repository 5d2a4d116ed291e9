// Package huffman decodes strings in the code that HTTP/2 and HTTP/3 share for
// field sections (RFC 7541 section 5.2 and appendix B).
//
// The code is canonical: its lengths alone give it. Short codes are looked up,
// longer ones, which text hardly has, are searched by length.
package huffman

import (
	"encoding/binary"
	"errors"
)

// Why a string cannot be decoded.
var (
	errPadding = errors.New("huffman: the padding is not the beginning of EOS, or has 8 bits or more")
	errEOS     = errors.New("huffman: EOS is in the string")
)

const (
	eos       = 256 // the symbol behind the bytes
	shortBits = 9   // of the codes that are looked up
	longest   = 30
)

// A code is a symbol as the lookup finds it; length 0: it has more bits.
type code struct{ symbol, length uint8 }

// A row is all codes of one length.
type row struct {
	length uint
	first  uint32   // left-aligned
	beyond uint64   // behind the last one
	symbol []uint16 // in the order of their codes
}

type tables struct {
	short [1 << shortBits]code
	long  []row // lengths over shortBits, ascending
}

var theCode = build()

// build numbers the codes of each length in the order of symbols.
func build() *tables {
	t := &tables{}
	next := uint64(0) // left-aligned in 32 bits
	for length := uint(1); length <= longest; length++ {
		r := row{length: length, first: uint32(next)}
		for symbol := range eos + 1 {
			if lengthOf(symbol) != length {
				continue
			}
			if length <= shortBits {
				at := next >> (32 - shortBits)
				for i := range uint64(1) << (shortBits - length) {
					t.short[at+i] = code{uint8(symbol), uint8(length)}
				}
			}
			r.symbol = append(r.symbol, uint16(symbol))
			next += 1 << (32 - length)
		}
		r.beyond = next
		if length > shortBits && len(r.symbol) > 0 {
			t.long = append(t.long, r)
		}
	}
	return t
}

func lengthOf(symbol int) uint {
	if symbol == eos {
		return longest
	}
	return uint(lengths[symbol])
}

// MaxLen bounds how many bytes n bytes decode to: no code is shorter than 5 bits.
func MaxLen(n int) int { return n * 8 / 5 }

// Append appends what src decodes to.
func Append(dst, src []byte) ([]byte, error) {
	var bits uint64 // the last n are not decoded yet
	n := uint(0)
	for {
		switch {
		case n > 32:
		case len(src) >= 4:
			bits = bits<<32 | uint64(binary.BigEndian.Uint32(src))
			src = src[4:]
			n += 32
		default:
			for _, b := range src {
				bits = bits<<8 | uint64(b)
				n += 8
			}
			src = nil
		}
		if n == 0 {
			return dst, nil
		}
		window := uint32(bits << (64 - n) >> 32)
		if n < 32 { // as padding continues
			window |= 1<<(32-n) - 1
		}
		c := theCode.short[window>>(32-shortBits)]
		symbol, length := uint16(c.symbol), uint(c.length)
		if length == 0 {
			symbol, length = theCode.search(window)
		}
		switch {
		case length > n && n < 8 && window == 1<<32-1:
			return dst, nil
		case length > n:
			return dst, errPadding
		case symbol == eos:
			return dst, errEOS
		}
		dst = append(dst, byte(symbol))
		n -= length
	}
}

// search finds the code that window begins with.
func (t *tables) search(window uint32) (symbol uint16, length uint) {
	for i := range t.long {
		if r := &t.long[i]; uint64(window) < r.beyond {
			return r.symbol[(window-r.first)>>(32-r.length)], r.length
		}
	}
	return eos, longest // not reached: EOS is the last code, of ones alone
}
