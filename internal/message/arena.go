package message

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"
)

// Sizes of an Arena: what an exchange with fields of common length needs. One that
// needs more gets it from the heap.
const (
	arenaBytes  = 4 << 10
	arenaFields = 128
	arenaParts  = 16
)

// An Arena is the memory of one exchange: strings, field lines and small structs
// that everybody who works on it may read until it ends, whatever becomes of the
// buffers they were made from. Then it is used again.
//
// The engine that received the request makes the arena ([NewArena]), puts it into
// [Request.Arena] and ends it ([Arena.End]) when the exchange is over: the answer
// is written and closed, and nobody it called still runs. A goroutine that may
// outlive that holds it ([Arena.Hold]); where nobody can tell when the last one
// stops reading, [Arena.Forget] leaves it to the collector. What outlives an
// exchange by design is copied (strings.Clone).
//
// Under the race detector nothing is used twice and what has ended is overwritten,
// so that tests find whoever reads it later.
//
// Hold, End and Forget may be called from any goroutine; the rest belongs to
// whoever serves the exchange. The methods of a nil Arena take from the heap.
type Arena struct {
	holders   atomic.Int32
	forgotten atomic.Bool

	block  []byte   // its length is what is taken
	full   [][]byte // blocks before it; only kept to be overwritten
	fields []Field  // likewise
	parts  []part
	used   int // of parts
}

var arenas = sync.Pool{New: func() any {
	return &Arena{block: make([]byte, 0, arenaBytes), fields: make([]Field, 0, arenaFields)}
}}

// NewArena returns an empty arena with one holder.
func NewArena() *Arena {
	a := arenas.Get().(*Arena)
	a.holders.Store(1)
	return a
}

// Hold adds a holder, who has to call End too.
func (a *Arena) Hold() {
	if a != nil {
		a.holders.Add(1)
	}
}

// End takes a holder away. With the last one, all that the arena gave is gone.
func (a *Arena) End() {
	if a == nil || a.holders.Add(-1) != 0 || a.forgotten.Load() {
		return
	}
	if poison {
		a.overwrite()
		return
	}
	a.block, a.full = a.block[:0], nil
	clear(a.fields)
	a.fields = a.fields[:0]
	for _, p := range a.parts[:a.used] {
		p.reset()
	}
	a.used = 0
	if len(a.parts) > arenaParts {
		clear(a.parts[arenaParts:])
		a.parts = a.parts[:arenaParts]
	}
	arenas.Put(a)
}

// Forget keeps what the arena gave for as long as anybody has it.
func (a *Arena) Forget() {
	if a != nil {
		a.forgotten.Store(true)
	}
}

// overwrite makes what is read from now on recognizable.
func (a *Arena) overwrite() {
	for _, b := range append(a.full, a.block) {
		for i := range b {
			b[i] = 0xdb
		}
	}
	for i := range a.fields {
		a.fields[i] = Field{Name: "\xdb\xdb", Value: "\xdb\xdb"}
	}
	for _, p := range a.parts[:a.used] {
		p.reset()
	}
}

// Room returns an empty slice with place for n bytes, which become a string of the
// arena when they are given to Text before Room is called again.
func (a *Arena) Room(n int) []byte {
	if a == nil || n > arenaBytes/2 {
		return make([]byte, 0, n)
	}
	if cap(a.block)-len(a.block) < n {
		if poison {
			a.full = append(a.full, a.block)
		}
		a.block = make([]byte, 0, arenaBytes)
	}
	at := len(a.block)
	return a.block[at:at:cap(a.block)]
}

// Text returns b, which came from Room and which nobody changes any more, as a
// string.
func (a *Arena) Text(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if a != nil {
		if at := len(a.block); cap(a.block)-at >= len(b) && &b[0] == &a.block[at : at+1][0] {
			a.block = a.block[:at+len(b)]
		}
	}
	// b is either the block's, which is written no more until the arena ends, or
	// an allocation of its own that was given up with this call.
	return unsafe.String(unsafe.SliceData(b), len(b)) //nolint:gosec // see above
}

// Copy returns a copy of b.
func (a *Arena) Copy(b []byte) string { return a.Text(append(a.Room(len(b)), b...)) }

// Join returns the parts as one string.
func (a *Arena) Join(parts ...string) string {
	n := 0
	for _, s := range parts {
		n += len(s)
	}
	b := a.Room(n)
	for _, s := range parts {
		b = append(b, s...)
	}
	return a.Text(b)
}

// Addr returns the text of an address.
func (a *Arena) Addr(addr netip.Addr) string {
	const longest = len("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255%") + 32
	return a.Text(addr.AppendTo(a.Room(longest)))
}

// Fields returns an empty header with place for n fields. More are taken from the
// heap, as with any slice.
func (a *Arena) Fields(n int) Header {
	if a == nil || cap(a.fields)-len(a.fields) < n {
		return make(Header, 0, n)
	}
	at := len(a.fields)
	a.fields = a.fields[:at+n]
	return a.fields[at : at : at+n]
}

// Clone returns a copy of h with place for what is added on the way.
func (a *Arena) Clone(h Header) Header {
	if h == nil {
		return nil
	}
	return append(a.Fields(len(h)+cloneRoom), h...)
}

// A part is a struct that an arena keeps.
type part interface{ reset() }

type box[T any] struct{ v T }

func (b *box[T]) reset() {
	if r, ok := any(&b.v).(interface{ Reset() }); ok {
		r.Reset()
		return
	}
	var zero T
	b.v = zero
}

// Part returns a T that is the arena's. It is zero, or what its method Reset, which
// the arena's end calls, left of the one before: what was made once and is needed
// by each.
func Part[T any](a *Arena) *T {
	if a == nil {
		return new(T)
	}
	i := slices.IndexFunc(a.parts[a.used:], func(p part) bool { _, ok := p.(*box[T]); return ok })
	if i < 0 {
		i = len(a.parts) - a.used
		a.parts = append(a.parts, &box[T]{})
	}
	// The order of parts is that in which they were asked for last: mostly i is 0.
	p := a.parts[a.used+i]
	a.parts[a.used+i], a.parts[a.used] = a.parts[a.used], p
	a.used++
	return &p.(*box[T]).v
}
