package steering_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"anyedge/internal/steering"
	"anyedge/internal/world"
)

// ringNode is one node of a geo in the tests of the ring.
type ringNode struct {
	name                string
	dead, unready, lost bool
	weight              uint32
	applied             uint64
}

// parseNodes reads "a b! c? d=2 e@7": ! is dead, ? not ready, =N a weight, @N the generation it follows
// (default: any).
func parseNodes(s string) []ringNode {
	var out []ringNode
	for _, f := range strings.Fields(s) {
		n := ringNode{weight: 1, applied: 1 << 40}
		if name, at, ok := strings.Cut(f, "@"); ok {
			_, _ = fmt.Sscan(at, &n.applied)
			f = name
		}
		if name, w, ok := strings.Cut(f, "="); ok {
			_, _ = fmt.Sscan(w, &n.weight)
			f = name
		}
		n.dead, n.unready = strings.HasSuffix(f, "!"), strings.HasSuffix(f, "?")
		n.name = strings.TrimRight(f, "!?")
		out = append(out, n)
	}
	return out
}

// parseRing reads "7 drain a b=2 / a c! " as ringText writes it.
func parseRing(s string) *world.Ring {
	if s == "" {
		return nil
	}
	r := &world.Ring{}
	f := strings.Fields(s)
	_, _ = fmt.Sscan(f[0], &r.Generation)
	r.Phase = world.RingPhase(f[1])
	to := &r.Members
	for _, word := range f[2:] {
		if word == "/" {
			to = &r.Other
			continue
		}
		n := parseNodes(word)[0]
		*to = append(*to, world.RingMember{Node: n.name, Weight: n.weight, Gone: n.dead})
	}
	return r
}

func ringText(r world.Ring) string {
	text := fmt.Sprintf("%d %s", r.Generation, r.Phase)
	write := func(ms []world.RingMember) {
		for _, m := range ms {
			text += " " + m.Node
			if m.Gone {
				text += "!"
			}
			if m.Weight != 1 {
				text += fmt.Sprintf("=%d", m.Weight)
			}
		}
	}
	write(r.Members)
	if len(r.Other) > 0 {
		text += " /"
		write(r.Other)
	}
	return text
}

var ringEpoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// ringView is what node self sees.
func ringView(now time.Time, self string, nodes []ringNode, ring *world.Ring, drained ...string) *steering.View {
	g := world.Geo{Name: "fra", Alive: true, Ring: ring}
	for _, n := range nodes {
		status := world.Joined
		if n.lost {
			status = world.Lost
		}
		g.Nodes = append(g.Nodes, world.Node{
			Name: n.name, Geo: "fra", Status: status, Alive: !n.dead, Seen: now,
			Record: &world.NodeRecord{Node: n.name, L4: &world.L4Record{Ready: !n.unready, Weight: n.weight, Applied: n.applied}},
		})
	}
	w := &world.World{At: now, Geo: "fra", Node: self, Geos: []world.Geo{g}}
	for _, d := range drained {
		w.Orders = append(w.Orders, world.Order{ID: d, Kind: world.DrainNode, Target: d, Who: "alice"})
	}
	return &steering.View{Now: now, Started: ringEpoch.Add(-time.Hour), World: w, L4Drain: 10 * time.Second}
}

func TestRing(t *testing.T) {
	tests := []struct {
		name    string
		nodes   string
		ring    string
		age     time.Duration // since this node saw the ring
		drained string
		want    string // as ring when nothing is to change
		why     string // part of the text
	}{
		{name: "the first ring needs no preparation", nodes: "a b", want: "1 stable a b", why: "first ring"},
		{name: "nobody is ready yet", nodes: "a? b?", want: "0 "},
		{name: "nothing to do", nodes: "a b", ring: "5 stable a b", want: "5 stable a b"},
		{name: "one joins", nodes: "a b c", ring: "5 stable a b", want: "6 prepare a b / a b c", why: "c joins"},
		{name: "one is not ready", nodes: "a b?", ring: "5 stable a b", want: "6 prepare a b / a", why: "b is not ready to serve"},
		{name: "one is drained", nodes: "a b", ring: "5 stable a b", drained: "b", want: "6 prepare a b / a", why: "b is drained by alice"},
		{name: "a weight", nodes: "a b=3", ring: "5 stable a b", want: "6 prepare a b / a b=3", why: "weight 3, 1 before"},
		{name: "nobody is ready any more: the last ring stays", nodes: "a? b?", ring: "5 stable a b", want: "5 stable a b"},
		{name: "somebody does not follow yet", nodes: "a b c@5", ring: "6 prepare a b / a b c", want: "6 prepare a b / a b c"},
		{name: "all follow", nodes: "a b c@6", ring: "6 prepare a b / a b c", want: "7 drain a b c / a b"},
		{name: "it had its time", nodes: "a b c@5", ring: "6 prepare a b / a b c", age: 2 * time.Second, want: "7 drain a b c / a b"},
		{name: "given up before anybody swapped", nodes: "a b", ring: "6 prepare a b / a", want: "7 stable a b", why: "given up"},
		{name: "something else is wanted by now", nodes: "a b c", ring: "6 prepare a b / a", want: "7 prepare a b / a b c"},
		{name: "the drain goes on", nodes: "a b?", ring: "7 drain a / a b", age: 9 * time.Second, want: "7 drain a / a b"},
		{name: "the drain is over", nodes: "a b?", ring: "7 drain a / a b", age: 10 * time.Second, want: "8 stable a"},
		{name: "back at once: all know both", nodes: "a b", ring: "7 drain a / a b", want: "8 drain a b / a", why: "b joins"},
		{name: "back, but somebody does not follow yet", nodes: "a@6 b", ring: "7 drain a / a b", want: "7 drain a / a b"},
		{name: "another change waits for the drain", nodes: "a b c", ring: "7 drain a b / a", want: "7 drain a b / a"},
		{name: "and goes on from there", nodes: "a b c", ring: "7 drain a b / a", age: 10 * time.Second, want: "8 prepare a b / a b c"},
		{name: "a death", nodes: "a b! c", ring: "5 stable a b c", want: "6 drain a c / a b! c", why: "b is dead"},
		{name: "two deaths", nodes: "a b! c!", ring: "5 stable a b c", want: "6 drain a / a b! c!", why: "b, c is dead"},
		{name: "a death in a preparation", nodes: "a b! c", ring: "6 prepare a b / a b c", want: "7 drain a / a b!"},
		{name: "a death in a drain", nodes: "a b! c", ring: "7 drain a b c / a b", want: "8 drain a c / a b!"},
		{name: "who was to leave is dead", nodes: "a b!", ring: "7 drain a / a b", want: "8 drain a / a b!"},
		{name: "once dead is enough", nodes: "a b!", ring: "8 drain a / a b!", want: "8 drain a / a b!"},
		{name: "the dead one returns", nodes: "a b", ring: "8 drain a / a b!", age: 10 * time.Second, want: "9 prepare a / a b"},
		{name: "all members are dead, another lives", nodes: "a b! c!", ring: "5 stable b c", want: "6 drain a / b! c!"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ring := parseRing(tt.ring)
			var drained []string
			if tt.drained != "" {
				drained = append(drained, tt.drained)
			}
			prev := steering.Decide(nil, ringView(ringEpoch, "a", parseNodes("a b c"), ring))
			p := steering.Decide(prev, ringView(ringEpoch.Add(tt.age), "a", parseNodes(tt.nodes), ring, drained...))
			if got := ringText(p.Ring.Ring); got != tt.want {
				t.Errorf("ring\n got %s\nwant %s", got, tt.want)
			}
			why := fmt.Sprint(p.Why)
			if !strings.Contains(why, tt.why) {
				t.Errorf("why is %s, want %q in it", why, tt.why)
			}
			if changes := tt.want != tt.ring && tt.want != "0 "; tt.ring != "" && p.Ring.Change() != changes {
				t.Errorf("Change is %v", p.Ring.Change())
			}
		})
	}
}

func TestRingLeader(t *testing.T) {
	tests := []struct {
		self, nodes string
		up          time.Duration
		want        bool
	}{
		{"a", "a b", time.Hour, true},
		{"b", "a b", time.Hour, false},
		{"b", "a! b", time.Hour, true},
		{"a", "a? b", time.Hour, true}, // a node that leaves may still write
		{"a", "a b", time.Second, false},
	}
	for _, tt := range tests {
		v := ringView(ringEpoch, tt.self, parseNodes(tt.nodes), nil)
		v.Started = ringEpoch.Add(-tt.up)
		if got := steering.Decide(nil, v).Ring.Lead; got != tt.want {
			t.Errorf("%s of %s, up %s: leads %v", tt.self, tt.nodes, tt.up, got)
		}
	}
	v := ringView(ringEpoch, "a", parseNodes("a"), nil)
	v.L4Drain = 0
	if p := steering.Decide(nil, v); p.Ring != nil {
		t.Errorf("a node without a packet path plans a ring: %+v", p.Ring)
	}
}

// A ringFleet is several nodes that decide by themselves and hear of one
// another's rings late.
type ringFleet struct {
	now    time.Time
	nodes  []ringNode
	rings  []*world.Ring // what each node believes is in force
	plans  []*steering.Plan
	drains []string
}

// step lets every living node decide once; heard says which of the others hear
// of what was written.
func (f *ringFleet) step(t *rapid.T, heard func() bool) {
	f.now = f.now.Add(100 * time.Millisecond)
	for i := range f.nodes {
		if f.nodes[i].dead {
			continue
		}
		if f.rings[i] != nil {
			f.nodes[i].applied = f.rings[i].Generation
		}
		v := ringView(f.now, f.nodes[i].name, f.nodes, f.rings[i], f.drains...)
		v.L4Drain = time.Second
		p := steering.Decide(f.plans[i], v)
		f.plans[i] = p
		if !p.Ring.Lead || !p.Ring.Change() || p.Ring.Ring.Generation == 0 {
			continue
		}
		next := p.Ring.Ring
		f.check(t, f.rings[i], &next)
		f.rings[i] = &next
		for j := range f.rings {
			if heard() && (f.rings[j] == nil || f.rings[j].Generation < next.Generation) {
				f.rings[j] = &next
			}
		}
	}
}

// check holds what must be true of every change.
func (f *ringFleet) check(t *rapid.T, was, is *world.Ring) {
	if was == nil {
		return
	}
	if is.Generation != was.Generation+1 {
		t.Fatalf("%s after %s", ringText(*is), ringText(*was))
	}
	known := func(r *world.Ring, name string) bool {
		return slices.ContainsFunc(slices.Concat(r.Members, r.Other), func(m world.RingMember) bool { return m.Node == name })
	}
	for _, m := range was.Members { // whoever serves now is known in the next ring
		if !known(is, m.Node) && !f.node(m.Node).dead {
			t.Fatalf("%s forgets %s of %s", ringText(*is), m.Node, ringText(*was))
		}
	}
	for _, m := range is.Members { // nobody gets a share of whom the ring before has not told
		if !known(was, m.Node) && slices.ContainsFunc(was.Members, func(m world.RingMember) bool { return !f.node(m.Node).dead }) {
			t.Fatalf("%s gives %s a share that %s does not know", ringText(*is), m.Node, ringText(*was))
		}
	}
}

func (f *ringFleet) node(name string) *ringNode {
	return &f.nodes[slices.IndexFunc(f.nodes, func(n ringNode) bool { return n.name == name })]
}

func TestRingConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := &ringFleet{now: ringEpoch, nodes: parseNodes("a b c d")}
		f.rings, f.plans = make([]*world.Ring, len(f.nodes)), make([]*steering.Plan, len(f.nodes))
		late := func() bool { return rapid.IntRange(0, 3).Draw(t, "heard") > 0 }
		for range rapid.IntRange(1, 12).Draw(t, "events") {
			n := &f.nodes[rapid.IntRange(0, 3).Draw(t, "node")]
			switch rapid.IntRange(0, 4).Draw(t, "event") {
			case 0:
				n.dead = !n.dead
			case 1:
				n.unready = !n.unready
			case 2:
				n.weight = uint32(rapid.IntRange(1, 3).Draw(t, "weight"))
			case 3:
				f.drains = nil
			case 4:
				f.drains = []string{n.name}
			}
			for range rapid.IntRange(0, 30).Draw(t, "steps") {
				f.step(t, late)
			}
		}
		// The world calms down: what was written reaches everybody.
		var newest *world.Ring
		for _, r := range f.rings {
			if r != nil && (newest == nil || r.Generation > newest.Generation) {
				newest = r
			}
		}
		for i := range f.rings {
			f.rings[i] = newest
		}
		for range 120 {
			f.step(t, func() bool { return true })
		}
		var want []world.RingMember
		for _, n := range f.nodes {
			if !n.dead && !n.unready && !slices.Contains(f.drains, n.name) {
				want = append(want, world.RingMember{Node: n.name, Weight: n.weight})
			}
		}
		for i, n := range f.nodes {
			if n.dead || len(want) == 0 {
				continue
			}
			if r := f.rings[i]; r == nil || r.Phase != world.RingStable || !slices.Equal(r.Members, want) {
				t.Fatalf("%s ends with %+v, want %v stable", n.name, r, want)
			}
		}
	})
}
