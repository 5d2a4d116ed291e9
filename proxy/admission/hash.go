package admission

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// saltPeriod is how long a client keeps its place: the same clients should not
// be the relayed ones forever.
const saltPeriod = int64(time.Hour / time.Second)

// point places a client in [0,1): by its address (IPv4) or its /64 (IPv6), the
// salt and the hour.
func (d *Door) point(now time.Time, client netip.Addr) float64 {
	b := client.As16()
	hi := binary.BigEndian.Uint64(b[:8])
	lo := uint64(0)
	if client.Is4() || client.Is4In6() {
		lo = binary.BigEndian.Uint64(b[8:])
	}
	hour := uint64(now.Unix() / saltPeriod)
	h := mix(hi ^ d.salt[0])
	h = mix(h ^ lo ^ d.salt[1])
	h = mix(h ^ hour)
	return float64(h>>11) / (1 << 53)
}

// mix is the finaliser of SplitMix64: a bijection in which every bit of the
// input reaches every bit of the output.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func foldSalt(s [32]byte) [2]uint64 {
	w := func(i int) uint64 { return binary.BigEndian.Uint64(s[8*i:]) }
	return [2]uint64{mix(w(0)) ^ w(1), mix(w(2)) ^ w(3)}
}
