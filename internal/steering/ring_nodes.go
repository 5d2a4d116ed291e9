package steering

import (
	"maps"
	"slices"
	"time"

	"anyedge/internal/world"
)

// ringSettle is how long a process must have run, or have been among others again,
// before it writes a ring although it misses somebody: it may not have met its
// siblings yet.
const ringSettle = 3 * time.Second

// ringReturn is how long a node that was dead must have been back to have its
// share again before the drain time is over.
const ringReturn = 30 * time.Second

// remember returns what is known of the nodes' processes by now. It makes a new
// map for a change: the one before belongs to the plan before.
func (s *ringStep) remember() map[string]RingNode {
	before := s.mem.Nodes
	var now map[string]RingNode
	for i := range s.geo.Nodes {
		n := &s.geo.Nodes[i]
		was := before[n.Name]
		is := was
		switch {
		case n.Record == nil || !s.live(n.Name):
			is.Since = time.Time{}
		case was.Since.IsZero() || was.Epoch != n.Record.Version.Epoch:
			is.Epoch, is.Since = n.Record.Version.Epoch, s.v.Now
		}
		if !is.Since.IsZero() && !s.gone(n.Name) {
			is.Counted = is.Epoch
		}
		if is == was {
			continue
		}
		if now == nil {
			now = make(map[string]RingNode, len(s.geo.Nodes))
			maps.Copy(now, before)
		}
		now[n.Name] = is
	}
	if now == nil {
		return before
	}
	return now
}

// gone reports whether the ring in force calls the node dead.
func (s *ringStep) gone(name string) bool {
	return s.now != nil && slices.ContainsFunc(s.now.Other, func(m world.RingMember) bool { return m.Gone && m.Node == name })
}

// dead returns the nodes that the ring in force counts on and that are dead. In
// a preparation nobody counts on newcomers yet.
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
	if s.now.Phase == world.RingDrain {
		note(s.now.Other)
	}
	slices.Sort(names)
	return names
}

// revived returns the nodes that the ring calls dead and whose process is the
// same as before: they were slow, or not to be reached, and still have their
// connections. One that was started anew has none. That a record is of the
// process that runs now is known once it was confirmed after the node was back:
// a process that has said goodbye may still confirm its own.
func (s *ringStep) revived() []string {
	var names []string
	for _, m := range s.now.Other {
		n := s.node(m.Node)
		is := s.mem.Nodes[m.Node]
		if m.Gone && is.Counted != 0 && is.Counted == is.Epoch && !is.Since.IsZero() && n.Seen.After(is.Since) {
			names = append(names, m.Node)
		}
	}
	return names
}

// stay reports whether the nodes that the ring calls dead and that are back seem
// to stay: a process that ends again and again must not take connections with
// it each time.
func (s *ringStep) stay() bool {
	return !slices.ContainsFunc(s.now.Other, func(m world.RingMember) bool {
		since := s.mem.Nodes[m.Node].Since
		return m.Gone && (since.IsZero() || s.v.Now.Sub(since) < ringReturn)
	})
}

// followed reports whether every live node that has to follows the generation
// in force, or has had the time to: the ring's own, and those whose packet path
// followed one before.
func (s *ringStep) followed() bool {
	if s.v.Now.Sub(s.mem.Since) >= ringAnswer {
		return true
	}
	named := func(name string) bool {
		return slices.ContainsFunc(slices.Concat(s.now.Members, s.now.Other), func(m world.RingMember) bool { return m.Node == name })
	}
	return !slices.ContainsFunc(s.geo.Nodes, func(n world.Node) bool {
		return pathed(&n) && s.live(n.Name) && n.Record.L4.Applied < s.now.Generation && (n.Record.L4.Applied > 0 || named(n.Name))
	})
}

// leads reports whether this node writes the ring: it is the first by name of
// the live nodes that are ready, or, when none is, of those that have a packet
// path.
func (s *ringStep) leads() bool {
	if !s.settled() {
		return false
	}
	first, ready := "", false
	for i := range s.geo.Nodes {
		n := &s.geo.Nodes[i]
		if !pathed(n) || !s.live(n.Name) {
			continue
		}
		switch better := n.Record.L4.Ready && !ready; {
		case better, n.Record.L4.Ready == ready && (first == "" || n.Name < first):
			first, ready = n.Name, n.Record.L4.Ready
		}
	}
	return first != "" && first == s.v.World.Node
}

// ringHears is how long ago something must have come from another geo for this node
// to be among others. Siblings are believed dead before geos far away are: at
// that moment silence from everywhere says it earlier.
const ringHears = 300 * time.Millisecond

// alone reports whether nobody is heard here, neither a sibling nor another geo:
// then it is this node that is cut off, and not all the others that are dead.
// Without other geos nothing tells the two apart.
func (s *ringStep) alone() bool {
	w := s.v.World
	heard := func(g *world.Geo) bool { return g.Alive && w.At.Sub(g.Heard) < ringHears }
	others := s.v.others()
	if len(others) == 0 || slices.ContainsFunc(others, heard) {
		return false
	}
	return !slices.ContainsFunc(s.geo.Nodes, func(n world.Node) bool { return n.Name != s.v.World.Node && s.live(n.Name) })
}

// settled reports whether this node may judge the others: it runs and is among
// them long enough, or it knows a ring and misses nobody.
func (s *ringStep) settled() bool {
	since := s.v.Started
	if s.mem.Alone.After(since) {
		since = s.mem.Alone
	}
	if s.v.Now.Sub(since) >= ringSettle {
		return true
	}
	return s.now != nil && len(s.dead()) == 0 && !slices.ContainsFunc(s.geo.Nodes, func(n world.Node) bool {
		return s.live(n.Name) && n.Record == nil
	})
}

// eligible reports whether n should have a share.
func (s *ringStep) eligible(n *world.Node) bool {
	return s.live(n.Name) && Believed(s.geo, n, s.v.Now) && pathed(n) && n.Record.L4.Ready && n.Record.L4.Weight > 0 &&
		s.v.nodeOrder(n.Name) == nil
}

// pathed reports whether n says that it has a packet path.
func pathed(n *world.Node) bool { return n.Record != nil && n.Record.L4 != nil }

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

// nodeOrder returns the operator's order in force that drains the node, nil
// when there is none.
func (v *View) nodeOrder(node string) *world.Order { return v.order(world.DrainNode, node) }
