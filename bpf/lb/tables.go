package lb

import (
	"encoding/binary"
	"errors"
	"maps"
	"net/netip"
	"slices"
)

const (
	vipBits    = 12
	peerBits   = 13
	serverBits = 10
	groupBits  = 3
	ringBits   = 16

	maxMoves = 500 // of entries that make room for one

	macMarks = 6 // bits of a source MAC's first byte that a sender flips to say what it did
)

// numbers gives names the small numbers that the program counts under. A name
// keeps its number over Specs, so that its counters go on.
type numbers[K comparable] struct {
	of  map[K]uint16
	max int
}

// keep makes sure that each of want has a number and returns all of them.
// Names that left give theirs up only when there are no others.
func (n *numbers[K]) keep(want []K) map[K]uint16 {
	next := make(map[K]uint16, len(want))
	taken := make(map[uint16]bool, len(want))
	if n.of == nil {
		n.of = map[K]uint16{}
	}
	for _, k := range want {
		if i, ok := n.of[k]; ok {
			next[k], taken[i] = i, true
		}
	}
	if len(n.of)+len(want)-len(next) > n.max {
		n.of = next
	}
	for _, i := range n.of {
		taken[i] = true
	}
	free := uint16(1)
	for _, k := range want {
		if _, ok := next[k]; ok {
			continue
		}
		for taken[free] {
			free++
		}
		next[k], taken[free] = free, true
	}
	maps.Copy(n.of, next)
	return next
}

// tables are one generation of everything the program reads.
type tables struct {
	settings lbGeneration
	vips     []lbVip
	peers    []lbPeer
	servers  []lbServer
	ring     []byte // slots of all groups, as the program reads them
}

func encode(s *Spec, servers map[string]uint16, vips map[netip.Addr]uint16) (*tables, error) {
	t := &tables{
		settings: lbGeneration{Key: s.Key, Addr: s.Node.Addr.As4(), Self: servers[s.Node.Name]},
		servers:  make([]lbServer, 1<<serverBits),
	}
	for _, v := range s.Servers {
		t.servers[servers[v.Name]] = serverLine(s.Node, v)
	}
	for _, g := range s.Groups {
		t.ring = g.appendSlots(t.ring, servers)
	}
	var err1, err2 error
	t.vips, err1 = place(vipCells(s, vips, servers), vipBits)
	t.peers, err2 = place(peerCells(s, &t.settings), peerBits)
	return t, errors.Join(err1, err2)
}

// A cell is a value with its two possible places.
type cell[V any] struct {
	at    [2]uint32
	value V
}

var errFull = errors.New("no room in a two-choice table with this key; another key gives another layout")

// place puts each cell at one of its two places, first choice first, moving
// others where needed. A place once taken is never empty again, so a search
// may end at an empty first choice.
func place[V any](cells []cell[V], bits int) ([]V, error) {
	who := make([]int, 1<<bits) // index into cells + 1; 0 is empty
	for i, c := range cells {
		at, hand := c.at[0], i+1
		if who[at] != 0 && who[c.at[1]] == 0 {
			at = c.at[1]
		}
		for range maxMoves {
			hand, who[at] = who[at], hand
			if hand == 0 {
				break
			}
			at ^= cells[hand-1].at[0] ^ cells[hand-1].at[1] // its other place
		}
		if hand != 0 {
			return nil, errFull
		}
	}
	out := make([]V, 1<<bits)
	for at, i := range who {
		if i > 0 {
			out[at] = cells[i-1].value
		}
	}
	return out, nil
}

func vipCells(s *Spec, numbers map[netip.Addr]uint16, servers map[string]uint16) []cell[lbVip] {
	var out []cell[lbVip]
	for _, v := range s.VIPs {
		e := lbVip{Number: numbers[v.Addr], Group: uint16(v.Group), Family: 6, Abroad: servers[v.Abroad]}
		if v.Addr.Is4() {
			e.Family = 4
			a := v.Addr.As4()
			copy(e.Addr[8:], a[:])
		} else {
			e.Addr = v.Addr.As16()
		}
		hi, lo := halves(v.Addr)
		first, second := cellHash(s.Key, hi, lo, vipBits)
		out = append(out, cell[lbVip]{[2]uint32{first, second}, e})
	}
	return out
}

// keys returns what a peer is known by, in the form of the C struct peer.
func (p Peer) keys() [][8]byte {
	var out [][8]byte
	if p.Addr.IsValid() {
		a := p.Addr.As4()
		out = append(out, [8]byte{4, 4: a[0], 5: a[1], 6: a[2], 7: a[3]})
	}
	if m := p.MAC; m != (MAC{}) {
		out = append(out, [8]byte{6, 0, m[0] &^ macMarks, m[1], m[2], m[3], m[4], m[5]})
	}
	return out
}

// kind is the value of used in the C struct peer.
func (p Peer) kind() uint8 {
	if p.Far {
		return 2
	}
	return 1
}

// macBit is the place of a MAC in the bitmap that tells the router's frames
// from those of peers, mostly, without a lookup.
func macBit(m MAC) uint16 {
	x := binary.LittleEndian.Uint16(m[4:])
	return (x ^ x>>7) & 511
}

func peerCells(s *Spec, g *lbGeneration) []cell[lbPeer] {
	var out []cell[lbPeer]
	for _, p := range s.Peers {
		for _, k := range p.keys() {
			if k[0] == 6 {
				bit := macBit(p.MAC)
				g.PeerMacs[bit>>6] |= 1 << (bit & 63)
			}
			first, second := cellHash(s.Key, binary.LittleEndian.Uint64(k[:]), 0, peerBits)
			out = append(out, cell[lbPeer]{[2]uint32{first, second}, lbPeer{Key: k, Used: p.kind(), Bits: p.MAC[0] & macMarks}})
		}
	}
	return out
}

// serverLine prepares the headers of one server.
func serverLine(n Node, v Server) lbServer {
	line := lbServer{Mode: uint8(v.Mode), Mtu: uint16(v.mtu())}
	copy(line.Eth[:6], v.MAC[:])
	copy(line.Eth[6:12], n.MAC[:])
	line.Eth[12] = 0x08
	if v.Mode == IPIP {
		line.Outer = outerHeader(n.Addr, v.Addr)
		var sum uint32
		for i := 0; i < 20; i += 2 {
			sum += uint32(binary.LittleEndian.Uint16(line.Outer[i:]))
		}
		for sum>>16 != 0 {
			sum = sum&0xffff + sum>>16
		}
		line.Sum = uint16(sum)
	}
	return line
}

// outerHeader is an IPv4 header without TOS, length and checksum: TTL 64, must
// not be fragmented.
func outerHeader(from, to netip.Addr) [20]byte {
	h := [20]byte{0: 0x45, 6: 0x40, 8: 64, 9: protoIPIP}
	src, dst := from.As4(), to.As4()
	copy(h[12:], src[:])
	copy(h[16:], dst[:])
	return h
}

// Owners returns both owners of a bucket; the second is "" unless the bucket
// changes hands.
func (g Group) Owners(b uint16) (now, other string) {
	if g.Ring == nil {
		return "", ""
	}
	now = g.Ring.Owner(b)
	if g.Other != nil {
		if o := g.Other.Owner(b); o != now && !slices.Contains(g.Gone, o) {
			other = o
		}
	}
	return now, other
}

func (g Group) appendSlots(to []byte, servers map[string]uint16) []byte {
	now, other := g.Ring.numbers(servers), g.Other.numbers(servers)
	for i := range other {
		if slices.Contains(g.Gone, g.Other.names[i]) {
			other[i] = 0
		}
	}
	for b := range Buckets {
		var hop1, hop2 uint16
		if now != nil {
			hop1 = now[g.Ring.owner[b]]
			if other != nil {
				hop2 = other[g.Other.owner[b]]
			}
		}
		if hop2 == hop1 {
			hop2 = 0
		}
		to = binary.LittleEndian.AppendUint16(to, hop1)
		to = binary.LittleEndian.AppendUint16(to, hop2)
	}
	return to
}

// numbers lists the members' server numbers in the order of r.names.
func (r *Ring) numbers(servers map[string]uint16) []uint16 {
	if r == nil {
		return nil
	}
	out := make([]uint16, len(r.names))
	for i, name := range r.names {
		out[i] = servers[name]
	}
	return out
}
