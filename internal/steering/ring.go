package steering

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"anyedge/internal/world"
)

const (
	// ringSettle is how long a process must have run before it writes a ring:
	// before, it may not have heard of its siblings.
	ringSettle = 3 * time.Second
	// ringAnswer is how long a change waits for every node to follow a
	// generation; who has not by then is told by the next one.
	ringAnswer = 2 * time.Second
)

// A RingPlan says how the nodes of this geo should share its connections.
type RingPlan struct {
	Now  *world.Ring // in force; nil: none yet
	Ring world.Ring  // that should be in force; as Now when nothing is to change
	Lead bool        // this node is the one to write it
}

// Change reports whether Ring is to be written.
func (p *RingPlan) Change() bool { return p.Now == nil || p.Ring.Generation > p.Now.Generation }

// RingMemory is what the next ring's step must know.
type RingMemory struct {
	Generation uint64    // in force
	Since      time.Time // when this node saw it first
}

// A ringStep is the ring of this geo on its way to the next one.
type ringStep struct {
	v    *View
	geo  *world.Geo
	now  *world.Ring
	mem  RingMemory
	want []world.RingMember
	why  []Reason
}

// stepRing decides the next ring of this geo; nil when it has none.
//
// A planned change takes two steps, so that no node sends a connection where
// nobody knows of it: first every node learns the ring to come (prepare), then
// all swap, and the ring that was stays known for the drain time. A node that
// is dead leaves at once.
func stepRing(prev *Plan, v *View) (*RingPlan, RingMemory, []Reason) {
	if v.L4Drain <= 0 || v.World == nil {
		return nil, RingMemory{}, nil
	}
	s := &ringStep{v: v, geo: v.World.Self(), mem: prev.Memory.Ring}
	s.now = s.geo.Ring
	if s.now != nil && s.now.Generation != s.mem.Generation {
		s.mem = RingMemory{s.now.Generation, v.Now}
	}
	for i := range s.geo.Nodes {
		if n := &s.geo.Nodes[i]; s.eligible(n) {
			s.want = append(s.want, world.RingMember{Node: n.Name, Weight: n.Record.L4.Weight})
		}
	}
	slices.SortFunc(s.want, byNode)
	p := &RingPlan{Now: s.now, Lead: s.leads()}
	p.Ring = s.next()
	return p, s.mem, s.why
}

func byNode(a, b world.RingMember) int { return cmp.Compare(a.Node, b.Node) }

// next returns the ring that should be in force.
func (s *ringStep) next() world.Ring {
	switch {
	case s.now == nil && len(s.want) == 0:
		return world.Ring{}
	case s.now == nil:
		return s.change("first ring", world.RingStable, s.want, nil)
	}
	if dead := s.dead(); len(dead) > 0 {
		return s.bury(dead)
	}
	switch s.now.Phase {
	case world.RingPrepare:
		return s.prepared()
	case world.RingDrain:
		return s.drained()
	}
	if !s.wanted(s.now.Members) {
		return s.prepare()
	}
	return *s.now
}

// wanted reports whether ms is the ring to have. While nobody is eligible, the
// last one stays.
func (s *ringStep) wanted(ms []world.RingMember) bool {
	return len(s.want) == 0 || slices.Equal(s.want, ms)
}

// prepare lets every node learn the ring to come.
func (s *ringStep) prepare() world.Ring {
	return s.change(s.difference(), world.RingPrepare, s.now.Members, s.want)
}

// prepared goes on once every node follows, or back when the change is not
// wanted any more: nobody has swapped yet.
func (s *ringStep) prepared() world.Ring {
	switch {
	case s.wanted(s.now.Other) && len(s.want) > 0:
		if !s.followed() {
			return *s.now
		}
		return s.change(s.now.Reason, world.RingDrain, s.now.Other, s.now.Members)
	case s.wanted(s.now.Members):
		return s.change("given up: "+s.now.Reason, world.RingStable, s.now.Members, nil)
	}
	return s.prepare()
}

// drained ends a change when its time is over. Going back to the ring before
// is safe at once, because every node knows both.
func (s *ringStep) drained() world.Ring {
	over := s.v.Now.Sub(s.mem.Since) >= s.v.L4Drain
	switch {
	case s.wanted(s.now.Members):
		if over {
			return s.change(s.now.Reason, world.RingStable, s.now.Members, nil)
		}
	case s.wanted(s.now.Other):
		if s.followed() {
			return s.change(s.difference(), world.RingDrain, s.now.Other, s.now.Members)
		}
	case over:
		return s.prepare()
	}
	return *s.now
}

// bury takes dead nodes out. What they had goes to the others; nothing is sent
// to them any more.
func (s *ringStep) bury(dead []string) world.Ring {
	gone := func(m world.RingMember) bool { return slices.Contains(dead, m.Node) }
	members := slices.DeleteFunc(slices.Clone(s.now.Members), gone)
	if len(members) == 0 {
		members = s.want
	}
	if len(members) == 0 {
		return *s.now // nobody is left to take over
	}
	other := s.now.Members
	if s.now.Phase == world.RingDrain {
		other = s.now.Other // connections may still be where they were before
	}
	other = slices.Clone(other)
	for i := range other {
		other[i].Gone = other[i].Gone || gone(other[i])
	}
	return s.change(strings.Join(dead, ", ")+" is dead", world.RingDrain, members, other)
}

// change returns the next generation.
func (s *ringStep) change(reason string, phase world.RingPhase, members, other []world.RingMember) world.Ring {
	r := world.Ring{Generation: 1, Phase: phase, Members: members, Other: other, Reason: reason}
	if s.now != nil {
		r.Generation = s.now.Generation + 1
	}
	s.why = append(s.why, Reason{"ring-" + string(phase), s.geo.Name, fmt.Sprintf("generation %d: %s", r.Generation, reason)})
	return r
}

// dead returns the nodes that the ring in force counts on and that are dead.
func (s *ringStep) dead() []string {
	var names []string
	note := func(ms []world.RingMember) {
		for _, m := range ms {
			if !m.Gone && !s.live(m.Node) && !slices.Contains(names, m.Node) {
				names = append(names, m.Node)
			}
		}
	}
	note(s.now.Members)
	note(s.now.Other)
	slices.Sort(names)
	return names
}

// followed reports whether every live node of the ring follows the generation
// in force, or has had the time to.
func (s *ringStep) followed() bool {
	if s.v.Now.Sub(s.mem.Since) >= ringAnswer {
		return true
	}
	for _, m := range slices.Concat(s.now.Members, s.now.Other) {
		n := s.node(m.Node)
		if m.Gone || n == nil || n.Record == nil || n.Record.L4 == nil {
			continue
		}
		if n.Record.L4.Applied < s.now.Generation {
			return false
		}
	}
	return true
}

// leads reports whether this node writes the ring: it is the first by name of
// the live nodes that have a packet path.
func (s *ringStep) leads() bool {
	if s.v.Now.Sub(s.v.Started) < ringSettle {
		return false
	}
	first := ""
	for i := range s.geo.Nodes {
		n := &s.geo.Nodes[i]
		if (first == "" || n.Name < first) && s.live(n.Name) && n.Record != nil && n.Record.L4 != nil {
			first = n.Name
		}
	}
	return first != "" && first == s.v.World.Node
}

// eligible reports whether n should have a share.
func (s *ringStep) eligible(n *world.Node) bool {
	return s.live(n.Name) && n.Record != nil && n.Record.L4 != nil && n.Record.L4.Ready && n.Record.L4.Weight > 0 &&
		s.v.nodeOrder(n.Name) == nil
}

// live reports whether a node of this geo runs, as far as this one can see.
func (s *ringStep) live(name string) bool {
	n := s.node(name)
	return n != nil && n.Status == world.Joined && n.Alive
}

func (s *ringStep) node(name string) *world.Node {
	for i := range s.geo.Nodes {
		if s.geo.Nodes[i].Name == name {
			return &s.geo.Nodes[i]
		}
	}
	return nil
}

// difference says in words why the ring changes.
func (s *ringStep) difference() string {
	share := func(ms []world.RingMember, name string) (uint32, bool) {
		for _, m := range ms {
			if m.Node == name {
				return m.Weight, true
			}
		}
		return 0, false
	}
	var parts []string
	for _, m := range s.now.Members {
		switch weight, stays := share(s.want, m.Node); {
		case !stays:
			parts = append(parts, m.Node+s.left(m.Node))
		case weight != m.Weight:
			parts = append(parts, fmt.Sprintf("%s has weight %d, %d before", m.Node, weight, m.Weight))
		}
	}
	for _, m := range s.want {
		if _, was := share(s.now.Members, m.Node); !was {
			parts = append(parts, m.Node+" joins")
		}
	}
	return strings.Join(parts, "; ")
}

// left says why a node has no share any more.
func (s *ringStep) left(name string) string {
	if o := s.v.nodeOrder(name); o != nil {
		return fmt.Sprintf(" is drained by %s: %s", o.Who, cmp.Or(o.Reason, "no reason given"))
	}
	return " is not ready to serve"
}

// nodeOrder returns the operator's order in force that drains the node, nil
// when there is none.
func (v *View) nodeOrder(node string) *world.Order { return v.order(world.DrainNode, node) }
