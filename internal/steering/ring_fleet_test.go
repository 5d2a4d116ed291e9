package steering_test

import (
	"cmp"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"anyedge/internal/steering"
	"anyedge/internal/world"
)

// A ringPeer is one node of a geo that decides for itself, on what it has heard
// of the others.
type ringPeer struct {
	ringNode
	epoch   uint64 // of its process
	started time.Time
	plan    *steering.Plan

	heard map[string]world.Node // what the others said last
	rings map[string]ringRecord // by writer
	mute  map[string]int        // steps since which another one does not answer
}

// A ringRecord is a ring as one node wrote it.
type ringRecord struct {
	ring   world.Ring
	epoch  uint64
	writer string
}

// A ringFleet is the nodes of one geo, and what lies between them.
type ringFleet struct {
	now     time.Time
	peers   []*ringPeer
	cut     map[[2]int]bool
	drain   time.Duration
	drained string // by order
	calm    bool   // all that is said is heard
	written int
}

func newRingFleet() *ringFleet {
	f := &ringFleet{now: ringEpoch, cut: map[[2]int]bool{}}
	for _, n := range parseNodes("a b c d") {
		p := &ringPeer{ringNode: n}
		f.peers = append(f.peers, p)
		f.restart(p)
	}
	return f
}

// restart begins a new process of the node.
func (f *ringFleet) restart(p *ringPeer) {
	p.epoch, p.started, p.plan, p.dead, p.applied = p.epoch+1, f.now, nil, false, 0
	p.heard, p.rings, p.mute = map[string]world.Node{}, map[string]ringRecord{}, map[string]int{}
}

// self is what the node says of itself.
func (f *ringFleet) self(p *ringPeer) world.Node {
	return world.Node{
		Name: p.name, Geo: "fra", Status: world.Joined, Alive: true, Seen: f.now,
		Record: &world.NodeRecord{
			Version: world.Version{Epoch: p.epoch}, Node: p.name,
			L4: &world.L4Record{Ready: !p.unready, Weight: p.weight, Applied: p.applied},
		},
	}
}

// inForce is the ring in force, as the node has heard; nil: none.
func (p *ringPeer) inForce() *world.Ring {
	var best *ringRecord
	for _, r := range p.rings {
		if best == nil || cmp.Or(cmp.Compare(r.ring.Generation, best.ring.Generation), cmp.Compare(r.epoch, best.epoch), cmp.Compare(r.writer, best.writer)) > 0 {
			best = &r
		}
	}
	if best == nil {
		return nil
	}
	return &best.ring
}

// listen lets the node hear what reaches it.
func (f *ringFleet) listen(t *rapid.T, i int) {
	p := f.peers[i]
	for j, o := range f.peers {
		if i == j {
			continue
		}
		if o.dead || f.cut[[2]int{min(i, j), max(i, j)}] {
			p.mute[o.name]++
			continue
		}
		p.mute[o.name] = 0
		if f.calm || rapid.IntRange(0, 3).Draw(t, "heard") > 0 {
			p.heard[o.name] = f.self(o)
			for writer, r := range o.rings {
				if mine, ok := p.rings[writer]; !ok || r.epoch > mine.epoch || r.epoch == mine.epoch && r.ring.Generation > mine.ring.Generation {
					p.rings[writer] = r
				}
			}
		}
	}
}

// view is what the node decides on. One that does not answer for two steps is
// believed dead.
func (f *ringFleet) view(i int) *steering.View {
	p := f.peers[i]
	g := world.Geo{Name: "fra", Alive: true, Ring: p.inForce(), Nodes: []world.Node{f.self(p)}}
	for name, n := range p.heard {
		n.Alive = p.mute[name] < 2
		g.Nodes = append(g.Nodes, n)
	}
	slices.SortFunc(g.Nodes, func(a, b world.Node) int { return cmp.Compare(a.Name, b.Name) })
	w := &world.World{At: f.now, Geo: "fra", Node: p.name, Geos: []world.Geo{g}}
	if f.drained != "" {
		w.Orders = []world.Order{{ID: "1", Kind: world.DrainNode, Target: f.drained, Who: "alice"}}
	}
	return &steering.View{Now: f.now, Started: p.started, World: w, L4Drain: f.drain}
}

// step lets every living node hear and decide once.
func (f *ringFleet) step(t *rapid.T) {
	f.now = f.now.Add(100 * time.Millisecond)
	for i, p := range f.peers {
		if p.dead {
			continue
		}
		f.listen(t, i)
		was := p.inForce()
		if was != nil {
			p.applied = was.Generation
		}
		v := f.view(i)
		prev := p.plan
		p.plan = steering.Decide(prev, v)
		if again := steering.Decide(prev, v); ringText(again.Ring.Ring) != ringText(p.plan.Ring.Ring) {
			t.Fatalf("%s decides %s, then %s", p.name, ringText(p.plan.Ring.Ring), ringText(again.Ring.Ring))
		}
		if next := p.plan.Ring.Ring; p.plan.Ring.Lead && p.plan.Ring.Change() && next.Generation > 0 {
			f.check(t, v, p.plan.Memory.Ring.Since, &next)
			p.rings[p.name] = ringRecord{next, p.epoch, p.name}
			f.written++
		}
	}
}

// check holds what must be true of every change, as far as its writer can know.
func (f *ringFleet) check(t *rapid.T, v *steering.View, since time.Time, is *world.Ring) {
	was := v.World.Self().Ring
	if was == nil {
		return
	}
	if is.Generation != was.Generation+1 {
		t.Fatalf("%s after %s", ringText(*is), ringText(*was))
	}
	names := func(lists ...[]world.RingMember) (out []string) {
		for _, m := range slices.Concat(lists...) {
			if !m.Gone {
				out = append(out, m.Node)
			}
		}
		return out
	}
	lives := func(name string) bool {
		return slices.ContainsFunc(v.World.Self().Nodes, func(n world.Node) bool { return n.Name == name && n.Alive })
	}
	drained := was.Phase != world.RingDrain || f.now.Sub(since) >= v.L4Drain
	for _, name := range names(was.Members, was.Other) {
		serves := slices.Contains(names(was.Members), name) || was.Phase == world.RingDrain && !drained
		if serves && lives(name) && !slices.Contains(names(is.Members, is.Other), name) {
			t.Fatalf("%s forgets %s of %s", ringText(*is), name, ringText(*was))
		}
	}
	told := slices.Clone(was.Other) // the dead as well
	for i := range told {
		told[i].Gone = false
	}
	for _, name := range names(is.Members) { // nobody gets a share of whom the ring before has not told
		if !slices.Contains(names(was.Members, told), name) && slices.ContainsFunc(names(was.Members), lives) {
			t.Fatalf("%s gives %s a share that %s does not know", ringText(*is), name, ringText(*was))
		}
	}
}

// happen lets something go wrong, or right.
func (f *ringFleet) happen(t *rapid.T) {
	p := f.peers[rapid.IntRange(0, 3).Draw(t, "node")]
	switch rapid.IntRange(0, 5).Draw(t, "event") {
	case 0:
		if p.dead {
			f.restart(p)
		} else {
			p.dead = true
		}
	case 1:
		p.unready = !p.unready
	case 2:
		p.weight = uint32(rapid.IntRange(1, 3).Draw(t, "weight"))
	case 3:
		f.drained = ""
	case 4:
		f.drained = p.name
	case 5:
		i, j := rapid.IntRange(0, 2).Draw(t, "from"), rapid.IntRange(1, 3).Draw(t, "to")
		f.cut[[2]int{min(i, j), max(i, j)}] = !f.cut[[2]int{min(i, j), max(i, j)}]
	}
}

// wanted is the ring that there should be in the end.
func (f *ringFleet) wanted() []world.RingMember {
	var want []world.RingMember
	for _, n := range f.peers {
		if !n.dead && !n.unready && n.name != f.drained {
			want = append(want, world.RingMember{Node: n.name, Weight: n.weight})
		}
	}
	return want
}

func TestRingConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newRingFleet()
		f.drain = rapid.SampledFrom([]time.Duration{time.Second, 40 * time.Second}).Draw(t, "drain")
		in := map[string]uint64{}
		for range rapid.IntRange(1, 12).Draw(t, "events") {
			f.happen(t)
			for range rapid.IntRange(0, 30).Draw(t, "steps") {
				f.step(t)
			}
		}
		f.cut, f.calm = map[[2]int]bool{}, true
		for range 50 + 3*int(f.drain/(100*time.Millisecond)) {
			f.step(t)
			for _, p := range f.peers {
				if r := p.inForce(); !p.dead && r != nil {
					if r.Generation < in[p.name] {
						t.Fatalf("%s goes back from %d to %s", p.name, in[p.name], ringText(*r))
					}
					in[p.name] = r.Generation
				}
			}
		}
		want, written := f.wanted(), f.written
		if len(want) == 0 {
			return
		}
		for _, p := range f.peers {
			if r := p.inForce(); !p.dead && (r == nil || r.Phase != world.RingStable || !slices.Equal(r.Members, want)) {
				t.Fatalf("%s ends with %+v, want %v stable", p.name, r, want)
			}
		}
		for range 20 {
			f.step(t)
		}
		if f.written != written {
			t.Fatalf("%d rings are written while nothing happens", f.written-written)
		}
	})
}
