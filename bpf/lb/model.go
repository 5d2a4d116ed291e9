package lb

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
)

const (
	protoIPIP = 4
	protoTCP  = 6
	protoUDP  = 17
	protoIPv6 = 41

	typeIPv4 = 0x0800
	typeIPv6 = 0x86dd
)

// An Action is what becomes of a packet, by the kernel's numbers.
type Action uint32

// The actions of the program.
const (
	Drop     Action = 1
	Pass     Action = 2
	Transmit Action = 3 // out of the interface that it came in by
)

// A Model is the program's reference: what must happen to a frame, written for
// reading. It is used by tests and tools, not on the packet path.
type Model struct {
	Spec *Spec
	// HasSocket tells whether this node has a socket for the flow that does not
	// just listen. Nil: it has none.
	HasSocket func(Flow) bool
}

// A Verdict is what must happen to a frame.
type Verdict struct {
	Action  Action
	Frame   []byte   // as it leaves the program
	Reasons []Reason // counted, in ascending order
	Server  string   // under whose name it is counted; "" for none
}

// packet is what the model reads from an IP packet.
type packet struct {
	flow Flow
	syn  bool
	tos  byte
	v6   bool
	size int // of the IP packet
	src  netip.Addr
	dst  netip.Addr
	prot byte
}

// origin is where a frame came from, and what a peer wrote on it.
type origin struct {
	peer  bool // else a router
	marks marks
}

// directs reports whether the receiver is to find the bucket's owner: nobody of
// its geo has looked for it yet.
func (o origin) directs() bool { return !o.peer || o.marks.abroad }

// marks are what a packet that is sent on carries.
type marks struct {
	chained bool // the bucket's other owner does not have it
	stray   bool // the geo that it arrived in does not have it
	abroad  bool // it goes to another geo
}

// id is the outer header's identification.
func (m marks) id() (id uint16) {
	for i, b := range []bool{m.chained, m.stray, m.abroad} {
		if b {
			id |= 1 << i
		}
	}
	return id
}

func readMarks(id uint16) marks { return marks{id&1 != 0, id&2 != 0, id&4 != 0} }

// Run returns the verdict on a frame.
func (m *Model) Run(frame []byte) Verdict {
	frame = bytes.Clone(frame)
	pass := Verdict{Action: Pass, Frame: frame}
	off, etherType, ok := network(frame)
	if !ok {
		return pass
	}
	var p packet
	var why Reason
	switch etherType {
	case typeIPv4:
		p, why = parseIPv4(frame[off:])
	case typeIPv6:
		p, why = parseIPv6(frame[off:])
	default:
		return pass
	}
	if why == OtherProto && !p.v6 && (p.prot == protoIPIP || p.prot == protoIPv6) && p.dst == m.Spec.Node.Addr {
		return m.decapsulate(frame, off, p)
	}
	if why != 0 {
		return Verdict{Action: Pass, Frame: frame, Reasons: []Reason{why}}
	}
	vip, ok := m.vip(p)
	if !ok {
		return pass
	}
	return m.decide(frame, off, p, vip, m.sender(frame))
}

// network finds the network header behind up to two VLAN tags.
func network(frame []byte) (off int, etherType uint16, ok bool) {
	for off = 14; off <= 22 && off <= len(frame); off += 4 {
		etherType = binary.BigEndian.Uint16(frame[off-2:])
		if etherType != 0x8100 && etherType != 0x88a8 {
			return off, etherType, true
		}
	}
	return 0, 0, false
}

func parseIPv4(b []byte) (packet, Reason) {
	if len(b) < 20 {
		return packet{}, Malformed
	}
	p := packet{
		tos: b[1], size: int(binary.BigEndian.Uint16(b[2:])), prot: b[9],
		src: netip.AddrFrom4([4]byte(b[12:])), dst: netip.AddrFrom4([4]byte(b[16:])),
	}
	switch {
	case b[0]>>4 != 4, b[0]&15 < 5, p.size < 20, p.size > len(b):
		return p, Malformed
	case b[0]&15 > 5:
		return p, Options
	case binary.BigEndian.Uint16(b[6:])&0x3fff != 0:
		return p, Fragment
	}
	return p, p.parseTransport(b[20:p.size])
}

func parseIPv6(b []byte) (packet, Reason) {
	if len(b) < 40 {
		return packet{v6: true}, Malformed
	}
	p := packet{
		v6: true, tos: b[0]<<4 | b[1]>>4, size: int(binary.BigEndian.Uint16(b[4:])) + 40, prot: b[6],
		src: netip.AddrFrom16([16]byte(b[8:])), dst: netip.AddrFrom16([16]byte(b[24:])),
	}
	if b[0]>>4 != 6 || p.size > len(b) || p.size > 65535 {
		return p, Malformed
	}
	return p, p.parseTransport(b[40:p.size])
}

func (p *packet) parseTransport(b []byte) Reason {
	switch {
	case p.prot == protoTCP && len(b) >= 20:
		p.syn = b[13]&0x12 == 0x02 // SYN without ACK
	case p.prot == protoUDP && len(b) >= 8:
	case p.prot == protoTCP || p.prot == protoUDP:
		return Malformed
	default:
		return OtherProto
	}
	p.flow = Flow{
		netip.AddrPortFrom(p.src, binary.BigEndian.Uint16(b)),
		netip.AddrPortFrom(p.dst, binary.BigEndian.Uint16(b[2:])), p.prot,
	}
	return 0
}

func (m *Model) vip(p packet) (VIP, bool) {
	for _, v := range m.Spec.VIPs {
		if v.Addr == p.dst {
			return v, true
		}
	}
	return VIP{}, false
}

// sender tells by the source MAC who sent a frame that is not encapsulated.
func (m *Model) sender(frame []byte) origin {
	from := MAC(frame[6:12])
	for _, p := range m.Spec.Peers {
		flipped := from[0] ^ p.MAC[0]
		if p.MAC != (MAC{}) && flipped&^macMarks == 0 && slices.Equal(p.MAC[1:], from[1:]) {
			return origin{true, readMarks(uint16(flipped >> 1))}
		}
	}
	return origin{}
}

// decapsulate takes a packet that is addressed to this node.
func (m *Model) decapsulate(frame []byte, off int, outer packet) Verdict {
	i := slices.IndexFunc(m.Spec.Peers, func(p Peer) bool { return p.Addr == outer.src })
	if i < 0 {
		return Verdict{Action: Drop, Frame: frame, Reasons: []Reason{Stranger}}
	}
	inner := frame[off+20:]
	parse, etherType := parseIPv4, uint16(typeIPv4)
	if outer.prot == protoIPv6 {
		parse, etherType = parseIPv6, typeIPv6
	}
	p, why := parse(inner)
	vip, ok := m.vip(p)
	from := origin{true, readMarks(binary.BigEndian.Uint16(frame[off+4:]))}
	far := m.Spec.Peers[i].Far
	from.marks.stray = from.marks.stray || far
	if why != 0 || !ok || p.size > outer.size-20 || far != from.marks.abroad || far && (p.syn || p.prot != protoTCP) {
		return Verdict{Action: Drop, Frame: frame, Reasons: []Reason{Inner}}
	}
	out := slices.Concat(frame[:off], inner)
	binary.BigEndian.PutUint16(out[off-2:], etherType)
	v := m.decide(out, off, p, vip, from)
	if from.marks.abroad {
		v.Reasons = append(v.Reasons, FromAbroad)
	} else {
		v.Reasons = append(v.Reasons, Decapsulated)
	}
	slices.Sort(v.Reasons)
	return v
}

// decide finds out who has to have a packet for a VIP.
func (m *Model) decide(frame []byte, off int, p packet, vip VIP, from origin) Verdict {
	self := m.Spec.Node.Name
	keep := Verdict{Action: Pass, Frame: frame, Server: self}
	now, other := m.Spec.Groups[vip.Group].Owners(p.flow.Bucket(m.Spec.Key))
	switch {
	case now == self:
	case from.directs():
		return m.forward(frame, off, p, now, marks{stray: from.marks.stray})
	case other == self:
		other = now
	default:
		keep.Reasons = []Reason{NotMine}
		return keep
	}
	// One of this node's buckets. An established flow without a socket here
	// belongs to the bucket's other owner, or to another geo.
	if p.syn || m.HasSocket != nil && m.HasSocket(p.flow) {
		return keep
	}
	if other != "" && !from.marks.chained {
		return m.forward(frame, off, p, other, marks{chained: true, stray: from.marks.stray})
	}
	if vip.Abroad != "" && !from.marks.stray && p.prot == protoTCP {
		return m.forward(frame, off, p, vip.Abroad, marks{stray: true, abroad: true})
	}
	return keep
}

// forward brings the frame to another node.
func (m *Model) forward(frame []byte, off int, p packet, to string, with marks) Verdict {
	i := slices.IndexFunc(m.Spec.Servers, func(s Server) bool { return s.Name == to })
	if i < 0 || m.Spec.Servers[i].Mode == Away {
		return Verdict{Action: Pass, Frame: frame, Reasons: []Reason{NoServer}}
	}
	s := m.Spec.Servers[i]
	if with.abroad && p.size+OuterSize > s.mtu() { // better reset than stuck
		return Verdict{Action: Pass, Frame: frame, Reasons: []Reason{TooBig}}
	}
	v := Verdict{Action: Transmit, Frame: frame, Server: to}
	var refused Reason
	if s.Mode == L2 {
		refused = m.rewrite(frame, off, p, s, with)
	} else {
		v.Frame, refused = m.encapsulate(frame, off, p, s, with)
	}
	if refused != 0 {
		v.Action, v.Reasons = Drop, []Reason{refused}
	}
	switch {
	case with.abroad:
		v.Reasons = append(v.Reasons, ToAbroad)
	case with.chained:
		v.Reasons = append(v.Reasons, Chained)
	}
	return v
}

func (m *Model) rewrite(frame []byte, off int, p packet, s Server, with marks) Reason {
	at := off + 8
	if p.v6 {
		at = off + 7
	}
	if frame[at] <= 1 {
		return TTLExpired
	}
	frame[at]--
	if !p.v6 { // RFC 1624: the checksum grows by what the sum lost
		sum := uint32(binary.BigEndian.Uint16(frame[off+10:])) + 0x100
		binary.BigEndian.PutUint16(frame[off+10:], uint16(sum+sum>>16))
	}
	m.macs(frame, s)
	frame[6] ^= byte(with.id()<<1) & macMarks
	return 0
}

func (m *Model) encapsulate(frame []byte, off int, p packet, s Server, with marks) ([]byte, Reason) {
	if p.size+OuterSize > s.mtu() {
		return frame, TooBig
	}
	h := outerHeader(m.Spec.Node.Addr, s.Addr)
	h[1] = p.tos &^ 3
	binary.BigEndian.PutUint16(h[2:], uint16(p.size+20))
	if p.v6 {
		h[9] = protoIPv6
	}
	binary.BigEndian.PutUint16(h[4:], with.id())
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	sum = sum&0xffff + sum>>16
	binary.BigEndian.PutUint16(h[10:], ^uint16(sum+sum>>16))
	out := slices.Concat(frame[:off], h[:], frame[off:])
	binary.BigEndian.PutUint16(out[off-2:], typeIPv4)
	m.macs(out, s)
	return out, 0
}

func (m *Model) macs(frame []byte, s Server) {
	copy(frame, s.MAC[:])
	copy(frame[6:], m.Spec.Node.MAC[:])
}

// mtu is that of the way.
func (v Server) mtu() int {
	if v.MTU == 0 {
		return DefaultMTU
	}
	return v.MTU
}
