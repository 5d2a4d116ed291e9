package bpf

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"anyedge/bpf/lb"
)

// A Status is what the packet path does.
type Status struct {
	Interfaces []Interface
	Pins       string // directory; "": nothing is pinned
	Unpinned   string // why, with what to do
	Generation uint64 // of the ring that should be followed; 0: none
	Members    []Member
	Other      []Member
	Buckets    map[string]int // of lb.Buckets, by member
}

// An Interface is where a program is, or why it is not.
type Interface struct {
	Name     string
	Mode     lb.AttachMode // "": not attached
	Program  string        // its name, number and tag
	Pinned   bool          // it outlives the process
	Adopted  bool          // it follows what a predecessor knew, until the first ring is known
	Error    string        // why it is not attached, or nobody can reach it; with what to do
	Addr     netip.Addr
	Applied  uint64 // the ring's generation that it follows
	Ways     []Way
	Flooded  time.Time // until then nothing is sent abroad: too much was
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
	Abroad Way    // to where the connection may be if nobody here has it; zero: nowhere
}

// Trace reads from the kernel where a flow's packets go that arrive on the first
// interface.
func (p *Path) Trace(f lb.Flow) (Trace, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := p.ports[0]
	prog := first.program()
	if prog == nil {
		return Trace{}, fmt.Errorf("no packet program of this process is on %s", first.name)
	}
	r, err := prog.Trace(f)
	if err != nil {
		return Trace{}, err
	}
	t := Trace{VIP: r.VIP, Bucket: r.Bucket, Owner: r.Owner, Other: r.Other}
	if r.Server.Name != "" {
		t.Way = Way{r.Owner, modeName(r.Server.Mode), p.wayText(r.Server)}
	}
	if r.Abroad.Name != "" {
		t.Abroad = Way{r.Abroad.Name, modeName(r.Abroad.Mode), p.wayText(r.Abroad)}
	}
	return t, nil
}

// wayText says where a server's packets go, or why nowhere; p.mu is held.
func (p *Path) wayText(s lb.Server) string {
	switch s.Mode {
	case lb.L2:
		return s.MAC.String()
	case lb.IPIP:
		return fmt.Sprintf("%s behind %s, packets up to %d bytes", s.Addr, s.MAC, s.MTU-lb.OuterSize)
	case lb.Away:
	}
	if len(p.status.Interfaces) > 0 {
		for _, w := range p.status.Interfaces[0].Ways {
			if w.Node == s.Name && w.Mode == "" {
				return w.Text
			}
		}
	}
	return "the program has none"
}
