package bpf

import (
	"net/netip"
	"slices"

	"anyedge/bpf/lb"
)

// A Status is what the packet path does.
type Status struct {
	Interfaces []Interface
	Generation uint64 // of the ring that should be followed; 0: none
	Members    []Member
	Other      []Member
	Buckets    map[string]int // of lb.Buckets, by member
}

// An Interface is where a program is, or why it is not.
type Interface struct {
	Name     string
	Mode     lb.AttachMode // "": not attached
	Error    string        // why not, with what to do
	Addr     netip.Addr
	Applied  uint64 // the ring's generation that it follows
	Ways     []Way
	Counters lb.Counters
}

// A Way is how packets reach another node from an interface.
type Way struct {
	Node string
	Mode string // l2 | ipip | "": none is known
	Text string // "fe:…", "via 198.51.100.1", or why there is none
}

// Status returns what the packet path does; the counters are read from the
// kernel now.
func (p *Path) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.status
	s.Interfaces = slices.Clone(s.Interfaces)
	for i := range s.Interfaces {
		if prog := p.ports[i].program(); prog != nil {
			if c, err := prog.Counters(); err == nil {
				s.Interfaces[i].Counters = c
			}
		}
	}
	return s
}

// A Trace says what happens to a flow's packets that a router hands to this
// node.
type Trace struct {
	VIP    bool // the destination is one; all else is about VIPs alone
	Bucket uint16
	Owner  string // "": no ring yet
	Other  string // during a change: who may have the connection as well
	Way    Way    // to the owner, when that is another node
}

// Trace asks where a flow goes.
func (p *Path) Trace(f lb.Flow) Trace {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := Trace{VIP: slices.Contains(p.setup.VIPs, f.Dst.Addr()), Bucket: f.Bucket(p.setup.Key)}
	if !t.VIP || p.status.Generation == 0 {
		return t
	}
	g := p.ports[0].group(&p.want)
	t.Owner, t.Other = g.Owners(t.Bucket)
	if t.Owner != p.setup.Node && len(p.status.Interfaces) > 0 {
		for _, w := range p.status.Interfaces[0].Ways {
			if w.Node == t.Owner {
				t.Way = w
			}
		}
	}
	return t
}
