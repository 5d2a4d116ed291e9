package lb

import (
	"encoding/binary"
	"net/netip"
)

// The twins of the hashes in lb.c. They are keyed mixes, not cryptographic
// hashes: they make it hard to aim at one server without the key, and are all
// the same on every node.

// halves splits an address into the two words that the program hashes.
func halves(a netip.Addr) (hi, lo uint64) {
	if a.Is4() {
		b := a.As4()
		return 0, uint64(binary.LittleEndian.Uint32(b[:]))
	}
	b := a.As16()
	return binary.LittleEndian.Uint64(b[:8]), binary.LittleEndian.Uint64(b[8:])
}

// cellHash gives the two places of a key in a table of 1<<bits cells.
func cellHash(key [2]uint64, a, b uint64, bits int) (first, second uint32) {
	h := ((a ^ key[0]) * 0x9e3779b97f4a7c15) ^ ((b ^ key[1]) * 0xd6e8feb86659fd93)
	h ^= h >> 29
	h *= 0xbf58476d1ce4e5b9
	return uint32(h >> (64 - bits)), uint32(h>>32) & (1<<bits - 1)
}

// A Flow names one connection by what its client's packets carry.
type Flow struct {
	Src, Dst netip.AddrPort
	Proto    uint8 // 6 TCP, 17 UDP
}

// Bucket places a flow on the ring.
func (f Flow) Bucket(key [2]uint64) uint16 {
	s0, s1 := halves(f.Src.Addr())
	_, d1 := halves(f.Dst.Addr())
	var b [4]byte
	binary.BigEndian.PutUint16(b[:2], f.Src.Port())
	binary.BigEndian.PutUint16(b[2:], f.Dst.Port())
	ports := uint64(binary.LittleEndian.Uint32(b[:]))
	h := (s1 ^ key[0]) * 0x9e3779b97f4a7c15
	h ^= h >> 32
	h ^= (d1 ^ key[1] ^ (ports<<32 | ports)) * 0xc2b2ae3d27d4eb4f
	if f.Src.Addr().Is6() {
		h ^= s0 * 0x9fb21c651e98df25
	}
	h ^= uint64(f.Proto)
	h ^= h >> 32
	return uint16(h * 0xd6e8feb86659fd93 >> (64 - ringBits))
}
