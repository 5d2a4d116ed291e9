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
	if slot.Hop1 == 0 || slot.Hop1 == now.Self {
		return out, nil
	}
	var line lbServer
	if err := p.read(lbVarServers, int(slot.Hop1), &line); err != nil {
		return out, err
	}
	out.Server = Server{Name: out.Owner, Mode: Mode(line.Mode), MAC: MAC(line.Eth[:6])}
	if out.Server.Mode == IPIP {
		out.Server.Addr, out.Server.MTU = netip.AddrFrom4([4]byte(line.Outer[16:])), int(line.Mtu)
	}
	return out, nil
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
