// Package hpack reads and writes HTTP/2's header sections (RFC 7541).
//
// A [Decoder] gives out field lines whose strings are the exchange's memory
// (message.Arena), the static table's, or the dynamic table's. The dynamic table
// owns its strings: they outlive the entry for whoever still reads them. An
// [Encoder] puts into its table what it has written before, so that answers that
// resemble each other cost a byte per field. Neither allocates in a steady state.
//
// Both belong to one goroutine at a time.
package hpack

import (
	"errors"

	"anyedge/internal/message"
)

// DefaultTableSize is what a dynamic table may have until SETTINGS say otherwise, in
// bytes as section 4.1 counts them.
const DefaultTableSize = 4096

// entryOverhead is added to the length of an entry (section 4.1).
const entryOverhead = 32

// Why a header section cannot be decoded.
var (
	errShort    = errors.New("hpack: the header section ends within a field")
	errInteger  = errors.New("hpack: an integer is too large")
	errIndex    = errors.New("hpack: there is no entry of that index")
	errLate     = errors.New("hpack: the table's size changes behind a field")
	errTooLarge = errors.New("hpack: the table is to be larger than allowed")
)

// A table is a dynamic table (section 2.3.2). Its entries are entries[first:], the
// oldest first.
type table struct {
	entries []entry
	first   int
	size    int // as section 4.1 counts
	limit   int
}

type entry struct {
	message.Field
	sum uint64 // of the encoder
}

func (e *entry) size() int { return len(e.Name) + len(e.Value) + entryOverhead }

func (t *table) count() int { return len(t.entries) - t.first }

// at returns the entry of an index that counts from 1, the newest first.
func (t *table) at(i int) *entry { return &t.entries[len(t.entries)-i] }

// resize changes how much the table may have (section 4.3).
func (t *table) resize(limit int) {
	t.limit = limit
	t.evict(limit)
}

// evict removes the oldest entries until size is not over most.
func (t *table) evict(most int) {
	for t.size > most {
		e := &t.entries[t.first]
		t.size -= e.size()
		*e = entry{}
		t.first++
	}
	if t.first == len(t.entries) {
		t.entries, t.first = t.entries[:0], 0
	}
}

// add adds an entry (section 4.4), which is not kept when it is larger than the
// table.
func (t *table) add(e entry) {
	size := e.size()
	t.evict(max(t.limit-size, 0))
	if size > t.limit {
		return
	}
	if len(t.entries) == cap(t.entries) && t.first > 0 {
		n := copy(t.entries, t.entries[t.first:])
		clear(t.entries[n:])
		t.entries, t.first = t.entries[:n], 0
	}
	t.entries = append(t.entries, e)
	t.size += size
}
