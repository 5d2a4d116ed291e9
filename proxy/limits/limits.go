// Package limits bounds what one client may have and do: how much at once
// ([Counter]) and how often ([Rate]).
//
// A client is its IPv4 address or its IPv6 /64 ([ClientOf]). Memory is bounded
// whatever clients there are: a Counter has entries only for clients that have
// something, and a Rate has a table of fixed size. The package decides nothing
// about who is exempt, and takes the time as an argument.
package limits

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
)

// A Client is whose limit something counts against.
type Client [8]byte

// ClientOf returns the client that has an address.
func ClientOf(a netip.Addr) Client {
	var c Client
	if a = a.Unmap(); a.Is4() {
		four := a.As4()
		copy(c[:], "\x00\x00\xff\xff") // no /64 that is routed
		copy(c[4:], four[:])
		return c
	}
	six := a.As16()
	copy(c[:], six[:])
	return c
}

// hash spreads clients by a secret, so that nobody can choose clients that meet.
func (c Client) hash(seed maphash.Seed) uint64 {
	return maphash.Comparable(seed, binary.BigEndian.Uint64(c[:]))
}
