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

// origin is where a frame came from.
type origin int

const (
	fromRouter origin = iota
	fromPeer
	fromChain // a peer that is not the director: never sent on again
)

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
	group, ok := m.group(p)
	if !ok {
		return pass
	}
	return m.decide(frame, off, p, group, m.sender(frame))
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

func (m *Model) group(p packet) (Group, bool) {
	for _, v := range m.Spec.VIPs {
		if v.Addr == p.dst {
			return m.Spec.Groups[v.Group], true
		}
	}
	return Group{}, false
}

// sender tells by the source MAC who sent a frame that is not encapsulated.
func (m *Model) sender(frame []byte) origin {
	from := MAC(frame[6:12])
	flipped := from
	flipped[0] ^= localBit
	for _, p := range m.Spec.Peers {
		switch p.MAC {
		case MAC{}:
		case from:
			return fromPeer
		case flipped:
			return fromChain
		}
	}
	return fromRouter
}

// decapsulate takes a packet that is addressed to this node.
func (m *Model) decapsulate(frame []byte, off int, outer packet) Verdict {
	if !slices.ContainsFunc(m.Spec.Peers, func(p Peer) bool { return p.Addr == outer.src }) {
		return Verdict{Action: Drop, Frame: frame, Reasons: []Reason{Stranger}}
	}
	inner := frame[off+20:]
	parse, etherType := parseIPv4, uint16(typeIPv4)
	if outer.prot == protoIPv6 {
		parse, etherType = parseIPv6, typeIPv6
	}
	p, why := parse(inner)
	group, ok := m.group(p)
	if why != 0 || !ok || p.size > outer.size-20 {
		return Verdict{Action: Drop, Frame: frame, Reasons: []Reason{Inner}}
	}
	from := fromPeer
	if binary.BigEndian.Uint16(frame[off+4:]) == 1 {
		from = fromChain
	}
	out := slices.Concat(frame[:off], inner)
	binary.BigEndian.PutUint16(out[off-2:], etherType)
	v := m.decide(out, off, p, group, from)
	v.Reasons = append(v.Reasons, Decapsulated)
	slices.Sort(v.Reasons)
	return v
}

// decide finds out who has to have a packet for a VIP.
func (m *Model) decide(frame []byte, off int, p packet, g Group, from origin) Verdict {
	self := m.Spec.Node.Name
	keep := Verdict{Action: Pass, Frame: frame, Server: self}
	now, other := g.Owners(p.flow.Bucket(m.Spec.Key))
	switch self {
	case now:
	case other:
		if from != fromRouter {
			other = now
			break
		}
		return m.forward(frame, off, p, now, false)
	default:
		if from == fromRouter {
			return m.forward(frame, off, p, now, false)
		}
		keep.Reasons = []Reason{NotMine}
		return keep
	}
	// One of this node's buckets. While it changes hands, an established flow
	// without a socket here belongs to the other owner.
	if other == "" || from == fromChain || p.syn || m.HasSocket != nil && m.HasSocket(p.flow) {
		return keep
	}
	return m.forward(frame, off, p, other, true)
}

// forward brings the frame to another node.
func (m *Model) forward(frame []byte, off int, p packet, to string, chain bool) Verdict {
	i := slices.IndexFunc(m.Spec.Servers, func(s Server) bool { return s.Name == to })
	if i < 0 || m.Spec.Servers[i].Mode == Away {
		return Verdict{Action: Pass, Frame: frame, Reasons: []Reason{NoServer}}
	}
	s := m.Spec.Servers[i]
	v := Verdict{Action: Transmit, Frame: frame, Server: to}
	var refused Reason
	if s.Mode == L2 {
		refused = m.rewrite(frame, off, p, s, chain)
	} else {
		v.Frame, refused = m.encapsulate(frame, off, p, s, chain)
	}
	if refused != 0 {
		v.Action, v.Reasons = Drop, []Reason{refused}
	}
	if chain {
		v.Reasons = append(v.Reasons, Chained)
	}
	return v
}

func (m *Model) rewrite(frame []byte, off int, p packet, s Server, chain bool) Reason {
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
	m.macs(frame, s, chain)
	return 0
}

func (m *Model) encapsulate(frame []byte, off int, p packet, s Server, chain bool) ([]byte, Reason) {
	mtu := s.MTU
	if mtu == 0 {
		mtu = DefaultMTU
	}
	if p.size+20 > mtu {
		return frame, TooBig
	}
	h := outerHeader(m.Spec.Node.Addr, s.Addr)
	h[1] = p.tos &^ 3
	binary.BigEndian.PutUint16(h[2:], uint16(p.size+20))
	if p.v6 {
		h[9] = protoIPv6
	}
	if chain {
		h[5] = 1
	}
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	sum = sum&0xffff + sum>>16
	binary.BigEndian.PutUint16(h[10:], ^uint16(sum+sum>>16))
	out := slices.Concat(frame[:off], h[:], frame[off:])
	binary.BigEndian.PutUint16(out[off-2:], typeIPv4)
	m.macs(out, s, false)
	return out, 0
}

func (m *Model) macs(frame []byte, s Server, mark bool) {
	copy(frame, s.MAC[:])
	copy(frame[6:], m.Spec.Node.MAC[:])
	if mark {
		frame[6] ^= localBit
	}
}
