package steering

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"anyedge/internal/world"
)

// ringAnswer is how long a change waits for every node to follow a generation;
// who has not by then is told by the next one.
const ringAnswer = 2 * time.Second

// A RingPlan says how the nodes of this geo should share its connections.
type RingPlan struct {
	Now      *world.Ring // in force; nil: none yet
	Ring     world.Ring  // that should be in force; as Now when nothing is to change
	Lead     bool        // this node is the one to write it
	Followed bool        // every live node follows Now, or has had the time to
	// Want are the nodes that can have a share, by name. While there is none,
	// the last ring stays.
	Want []world.RingMember
}

// Change reports whether Ring is to be written.
func (p *RingPlan) Change() bool { return p.Now == nil || p.Ring.Generation > p.Now.Generation }

// Holds reports whether node has a share now that others could take: a stopping
// one waits until it has none and everybody knows that.
func (p *RingPlan) Holds(node string) bool {
	is := func(m world.RingMember) bool { return m.Node == node }
	if p.Now == nil || !slices.ContainsFunc(p.Want, func(m world.RingMember) bool { return m.Node != node }) {
		return false
	}
	return slices.ContainsFunc(p.Now.Members, is) || !p.Followed && slices.ContainsFunc(p.Now.Other, is)
}

// RingMemory is what the next ring's step must know.
type RingMemory struct {
	Generation uint64    // in force
	Since      time.Time // when this node saw it first
	Nodes      map[string]RingNode
	Alone      time.Time // when this node last saw nobody else
}

// A RingNode is what is remembered of a node and its processes, which the epochs
// of its records tell apart.
type RingNode struct {
	Epoch   uint64    // of the process that was seen last
	Since   time.Time // when that was seen first; zero: it is not seen now
	Counted uint64    // of the process that the ring counted on last; 0: none
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
		s.mem.Generation, s.mem.Since = s.now.Generation, v.Now
	}
	s.mem.Nodes = s.remember()
	if s.alone() {
		s.mem.Alone = v.Now
	}
	for i := range s.geo.Nodes {
		if n := &s.geo.Nodes[i]; s.eligible(n) {
			s.want = append(s.want, world.RingMember{Node: n.Name, Weight: n.Record.L4.Weight})
		}
	}
	slices.SortFunc(s.want, byNode)
	p := &RingPlan{Now: s.now, Want: s.want}
	if s.now != nil {
		p.Followed = s.followed()
	}
	p.Lead = s.leads()
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
	if back := s.revived(); len(back) > 0 {
		return s.unbury(back)
	}
	switch s.now.Phase {
	case world.RingPrepare:
		return s.prepared()
	case world.RingDrain:
		return s.drained()
	case world.RingStable:
		if !s.wanted(s.now.Members) {
			return s.prepare()
		}
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
// is safe at once, because every node knows both. Who wants to leave does not
// wait when only dead nodes are remembered: nobody could find anything there. Nor
// does a node that is back, when it seems to stay.
func (s *ringStep) drained() world.Ring {
	over := s.v.Now.Sub(s.mem.Since) >= s.v.L4Drain
	switch {
	case s.wanted(s.now.Members):
		if over {
			return s.change(s.now.Reason, world.RingStable, s.now.Members, nil)
		}
	case s.wanted(unmarked(s.now.Other)):
		if s.followed() && s.stay() {
			return s.change(s.difference(), world.RingDrain, s.want, s.now.Members)
		}
		if over {
			return s.prepare()
		}
	case over || s.mourns() && s.leaving():
		return s.prepare()
	}
	return *s.now
}

// unmarked returns ms without saying who is dead.
func unmarked(ms []world.RingMember) []world.RingMember {
	out := slices.Clone(ms)
	for i := range out {
		out[i].Gone = false
	}
	return out
}

// mourns reports whether the ring before differs by dead nodes alone.
func (s *ringStep) mourns() bool {
	left := slices.DeleteFunc(slices.Clone(s.now.Other), func(m world.RingMember) bool { return m.Gone })
	return slices.Equal(left, s.now.Members)
}

// leaving reports whether a node that has a share should have none.
func (s *ringStep) leaving() bool {
	return slices.ContainsFunc(s.now.Members, func(m world.RingMember) bool {
		return !slices.ContainsFunc(s.want, func(w world.RingMember) bool { return w.Node == m.Node })
	})
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
	return s.change(s.obituary(dead), world.RingDrain, members, other)
}

// obituary says what became of the dead.
func (s *ringStep) obituary(dead []string) string {
	parts := make([]string, len(dead))
	for i, name := range dead {
		n := s.node(name)
		parts[i] = name + pick(n != nil && n.Status == world.Left, " has left", " is dead")
	}
	return strings.Join(parts, "; ")
}

// unbury makes the connections of nodes findable again that were believed dead
// and were not.
func (s *ringStep) unbury(back []string) world.Ring {
	other := slices.Clone(s.now.Other)
	for i := range other {
		other[i].Gone = other[i].Gone && !slices.Contains(back, other[i].Node)
	}
	return s.change(strings.Join(back, ", ")+" was not dead", world.RingDrain, s.now.Members, other)
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
