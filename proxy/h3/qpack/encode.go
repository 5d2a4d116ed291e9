package qpack

// Of the bytes before a field section's lines; there is no dynamic table to refer
// to.
const emptyPrefix = "\x00\x00"

// longestName is that of the static table.
const longestName = 32

var names = byName()

// byName returns the entries of the static table by their names.
func byName() map[string][]uint8 {
	m := make(map[string][]uint8, len(static))
	for i, p := range static {
		m[p.name] = append(m[p.name], uint8(i))
	}
	return m
}

// Begin appends what a section begins with.
func Begin(b []byte) []byte { return append(b, emptyPrefix...) }

// Append appends a field line. The name is spelled in lower case; strings are not
// Huffman-coded: that costs more time than their bytes do.
func Append(b []byte, name, value string) []byte {
	entries := find(name)
	for _, i := range entries {
		if static[i].value == value {
			return appendInteger(b, 0xc0, 6, int(i))
		}
	}
	if len(entries) > 0 {
		b = appendInteger(b, 0x50, 4, int(entries[0]))
	} else {
		b = appendInteger(b, 0x20, 3, len(name))
		for i := range len(name) {
			b = append(b, lower(name[i]))
		}
	}
	return append(appendInteger(b, 0, 7, len(value)), value...)
}

// AppendStatus appends the line of a status of three digits.
func AppendStatus(b []byte, status int) []byte {
	if status == 200 {
		return append(b, 0xc0|25)
	}
	return Append(b, ":status", string([]byte{byte('0' + status/100), byte('0' + status/10%10), byte('0' + status%10)}))
}

// find returns the entries of the static table with that name, however it is
// spelled.
func find(name string) []uint8 {
	if len(name) > longestName {
		return nil
	}
	var small [longestName]byte
	for i := range len(name) {
		small[i] = lower(name[i])
	}
	return names[string(small[:len(name)])]
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}

// appendInteger appends v, which begins in the last n bits of a byte whose others
// are given.
func appendInteger(b []byte, others byte, n uint, v int) []byte {
	most := 1<<n - 1
	if v < most {
		return append(b, others|byte(v))
	}
	b = append(b, others|byte(most))
	for v -= most; v >= 0x80; v >>= 7 {
		b = append(b, 0x80|byte(v))
	}
	return append(b, byte(v))
}
