package hpack

import (
	"anyedge/internal/huffman"
	"anyedge/internal/message"
)

// A Sink takes the field lines of a header section.
type Sink interface {
	Field(name, value string)
}

// A Decoder reads the header sections of one connection in order. Use [NewDecoder].
type Decoder struct {
	table   table
	most    int // what the table may be made by the peer
	scratch []byte
}

// NewDecoder returns a decoder whose table has DefaultTableSize and may not have
// more.
func NewDecoder() *Decoder {
	return &Decoder{table: table{limit: DefaultTableSize}, most: DefaultTableSize}
}

// Decode gives the fields of a whole header section to to. Their strings stay valid
// until arena ends. After an error, which is one of the connection, the decoder is
// of no use any more.
func (d *Decoder) Decode(section []byte, arena *message.Arena, to Sink) error {
	begun := false
	for len(section) > 0 {
		var err error
		b := section[0]
		switch {
		case b&0x80 != 0: // section 6.1
			section, err = d.indexed(section, to)
		case b&0xc0 == 0x40: // section 6.2.1
			section, err = d.literal(section, 6, true, arena, to)
		case b&0xe0 == 0x20: // section 6.3
			if begun {
				return errLate
			}
			if section, err = d.resize(section); err != nil {
				return err
			}
			continue
		default: // sections 6.2.2 and 6.2.3
			section, err = d.literal(section, 4, false, arena, to)
		}
		if err != nil {
			return err
		}
		begun = true
	}
	return nil
}

func (d *Decoder) resize(b []byte) (rest []byte, err error) {
	n, rest, err := integer(b, 5)
	switch {
	case err != nil:
		return nil, err
	case n > uint64(d.most):
		return nil, errTooLarge
	}
	d.table.resize(int(n))
	return rest, nil
}

func (d *Decoder) indexed(b []byte, to Sink) (rest []byte, err error) {
	n, rest, err := integer(b, 7)
	if err != nil {
		return nil, err
	}
	f, err := d.entry(n)
	if err != nil {
		return nil, err
	}
	to.Field(f.Name, f.Value)
	return rest, nil
}

// entry returns the field of an index (section 2.3.3).
func (d *Decoder) entry(n uint64) (*message.Field, error) {
	switch {
	case n == 0:
		return nil, errIndex
	case n <= uint64(len(static)):
		return &static[n-1], nil
	case n-uint64(len(static)) <= uint64(d.table.count()):
		return &d.table.at(int(n) - len(static)).Field, nil
	}
	return nil, errIndex
}

// literal reads a field whose value, and maybe name, is there as text.
func (d *Decoder) literal(b []byte, prefix uint, keep bool, arena *message.Arena, to Sink) (rest []byte, err error) {
	n, b, err := integer(b, prefix)
	if err != nil {
		return nil, err
	}
	if keep {
		arena = nil // the table's strings live longer
	}
	var f message.Field
	if n == 0 {
		f.Name, b, err = d.text(b, arena)
	} else {
		var named *message.Field
		if named, err = d.entry(n); err == nil {
			f.Name = named.Name
		}
	}
	if err != nil {
		return nil, err
	}
	if f.Value, b, err = d.text(b, arena); err != nil {
		return nil, err
	}
	if keep {
		d.table.add(entry{Field: f})
	}
	to.Field(f.Name, f.Value)
	return b, nil
}

// text reads a string (section 5.2).
func (d *Decoder) text(b []byte, arena *message.Arena) (s string, rest []byte, err error) {
	if len(b) == 0 {
		return "", nil, errShort
	}
	coded := b[0]&0x80 != 0
	n, b, err := integer(b, 7)
	switch {
	case err != nil:
		return "", nil, err
	case n > uint64(len(b)):
		return "", nil, errShort
	}
	raw, rest := b[:n], b[n:]
	switch {
	case coded && arena == nil: // what is kept for long has the size it needs
		if d.scratch, err = huffman.Append(d.scratch[:0], raw); err != nil {
			return "", nil, err
		}
		s = string(d.scratch)
		if cap(d.scratch) > DefaultTableSize { // one long string must not cost a connection its memory
			d.scratch = nil
		}
		return s, rest, nil
	case coded:
		out, err := huffman.Append(arena.Room(huffman.MaxLen(len(raw))), raw)
		if err != nil {
			return "", nil, err
		}
		return arena.Text(out), rest, nil
	case arena == nil:
		return string(raw), rest, nil
	}
	return arena.Copy(raw), rest, nil
}

// integer reads an integer with a prefix of bits (section 5.1).
func integer(b []byte, bits uint) (n uint64, rest []byte, err error) {
	if len(b) == 0 {
		return 0, nil, errShort
	}
	most := uint64(1)<<bits - 1
	if n = uint64(b[0]) & most; n < most {
		return n, b[1:], nil
	}
	for i, shift := 1, uint(0); i < len(b); i, shift = i+1, shift+7 {
		if shift > 56 {
			return 0, nil, errInteger
		}
		n += uint64(b[i]&0x7f) << shift
		if b[i]&0x80 == 0 {
			return n, b[i+1:], nil
		}
	}
	return 0, nil, errShort
}
