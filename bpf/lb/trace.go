package lb

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// A Route is where the kernel's tables send the packets of a flow that a router
// hands to this node.
type Route struct {
	VIP    bool // the destination is one; the rest is about these alone
	Bucket uint16
	Owner  string // "": nobody, packets stay
	Other  string // during a change: the bucket's other owner
	Server Server // of Owner, when that is another node
	Abroad Server // of another geo: who may have the connection if nobody here has it
}

// Trace reads a flow's way from the tables in the kernel.
func (p *Program) Trace(f Flow) (Route, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var now lbGeneration
	if err := p.read(lbVarGenerations, 0, &now); err != nil {
		return Route{}, err
	}
	out := Route{Bucket: f.Bucket(now.Key)}
	vip, err := p.findVIP(now.Key, f.Dst.Addr())
	if out.VIP = vip.Number != 0; !out.VIP || err != nil {
		return out, err
	}
	var slot lbSlot
	if err := p.read(lbVarRing, int(vip.Group)<<ringBits|int(out.Bucket), &slot); err != nil {
		return out, err
	}
	names := map[uint16]string{}
	for name, n := range p.servers.of {
		names[n] = name
	}
	out.Owner, out.Other = names[slot.Hop1], names[slot.Hop2]
	if slot.Hop1 != now.Self {
		out.Server, err = p.readServer(slot.Hop1, names)
	}
	if err == nil && f.Proto == protoTCP {
		out.Abroad, err = p.readServer(vip.Abroad, names)
	}
	return out, err
}

// readServer returns the server of a number; the zero Server for 0.
func (p *Program) readServer(number uint16, names map[uint16]string) (Server, error) {
	if number == 0 {
		return Server{}, nil
	}
	var line lbServer
	if err := p.read(lbVarServers, int(number), &line); err != nil {
		return Server{}, err
	}
	s := Server{Name: names[number], Mode: Mode(line.Mode), MAC: MAC(line.Eth[:6])}
	if s.Mode == IPIP {
		s.Addr, s.MTU = netip.AddrFrom4([4]byte(line.Outer[16:])), int(line.Mtu)
	}
	return s, nil
}

// findVIP looks at both places of an address; Number is 0 when it is at none.
func (p *Program) findVIP(key [2]uint64, a netip.Addr) (lbVip, error) {
	hi, lo := halves(a)
	first, second := cellHash(key, hi, lo, vipBits)
	for _, at := range []uint32{first, second} {
		var v lbVip
		if err := p.read(lbVarVips, int(at), &v); err != nil {
			return v, err
		}
		found := netip.AddrFrom16(v.Addr)
		if v.Family == 4 {
			found = netip.AddrFrom4([4]byte(v.Addr[8:]))
		}
		if v.Number != 0 && found == a {
			return v, nil
		}
	}
	return lbVip{}, nil
}

// read reads entry i of the active generation of a table.
func (p *Program) read(table string, i int, into any) error {
	b := make([]byte, binary.Size(into))
	at := p.at[table]
	_, err := p.tables.ReadAt(b, at.start+int64(p.active)*at.half+int64(i*len(b)))
	if err == nil {
		_, err = binary.Decode(b, binary.LittleEndian, into)
	}
	if err != nil {
		return fmt.Errorf("read the %s: %w", table, err)
	}
	return nil
}
