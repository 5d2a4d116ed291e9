package steering_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"anyedge/internal/steering"
	"anyedge/internal/world"
)

// ringNode is one node of a geo in the tests of the ring.
type ringNode struct {
	name          string
	dead, unready bool
	left          bool // dead with a goodbye
	anew          bool // its process is another one than at the start of the test
	weight        uint32
	applied       uint64
}

// parseNodes reads "a b! c? d=2 e@7 f* g~": ! is dead, ~ has left, ? not ready, =N a weight, @N the generation it follows
// (default: any), * started anew.
func parseNodes(s string) []ringNode {
	var out []ringNode
	for f := range strings.FieldsSeq(s) {
		n := ringNode{weight: 1, applied: 1 << 40}
		if name, at, ok := strings.Cut(f, "@"); ok {
			_, _ = fmt.Sscan(at, &n.applied)
			f = name
		}
		if name, w, ok := strings.Cut(f, "="); ok {
			_, _ = fmt.Sscan(w, &n.weight)
			f = name
		}
		n.dead, n.unready, n.anew = strings.HasSuffix(f, "!"), strings.HasSuffix(f, "?"), strings.HasSuffix(f, "*")
		n.left = strings.HasSuffix(f, "~")
		n.dead = n.dead || n.left
		n.name = strings.TrimRight(f, "!?*~")
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
		status, version := world.Joined, world.Version{Epoch: 1}
		if n.left {
			status = world.Left
		}
		if n.anew {
			version.Epoch++
		}
		g.Nodes = append(g.Nodes, world.Node{
			Name: n.name, Geo: "fra", Status: status, Alive: !n.dead, Seen: now,
			Record: &world.NodeRecord{Version: version, Node: n.name, L4: &world.L4Record{Ready: !n.unready, Weight: n.weight, Applied: n.applied}},
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
		long    bool   // the drain time is two minutes
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
		{name: "two deaths", nodes: "a b! c!", ring: "5 stable a b c", want: "6 drain a / a b! c!", why: "b is dead; c is dead"},
		{name: "one is killed, one said goodbye", nodes: "a b! c~", ring: "5 stable a b c", want: "6 drain a / a b! c!", why: "b is dead; c has left"},
		{name: "a death in a preparation", nodes: "a b! c", ring: "6 prepare a b / a b c", want: "7 drain a / a b!"},
		{name: "a death in a drain", nodes: "a b! c", ring: "7 drain a b c / a b", want: "8 drain a c / a b!"},
		{name: "who was to leave is dead", nodes: "a b!", ring: "7 drain a / a b", want: "8 drain a / a b!"},
		{name: "once dead is enough", nodes: "a b!", ring: "8 drain a / a b!", want: "8 drain a / a b!"},
		{name: "the dead one is back, started anew: it waits", nodes: "a b*", ring: "8 drain a / a b!", age: 9 * time.Second, want: "8 drain a / a b!"},
		{name: "and joins", nodes: "a b*", ring: "8 drain a / a b!", age: 10 * time.Second, want: "9 prepare a / a b"},
		{name: "it seems to stay: all know both rings", nodes: "a b* c", ring: "8 drain a c / a b! c", long: true, age: 31 * time.Second, want: "9 drain a b c / a c", why: "b joins"},
		{name: "not long enough", nodes: "a b* c", ring: "8 drain a c / a b! c", long: true, age: 30 * time.Second, want: "8 drain a c / a b! c"},
		{name: "not with another weight", nodes: "a b*=2 c", ring: "8 drain a c / a b! c", long: true, age: 31 * time.Second, want: "8 drain a c / a b! c"},
		{name: "it was not dead", nodes: "a b", ring: "8 drain a / a b!", age: time.Second, want: "9 drain a / a b", why: "b was not dead"},
		{name: "one who leaves does not wait for the dead", nodes: "a? b! c", ring: "8 drain a c / a b! c", age: time.Second, want: "9 prepare a c / c"},
		{name: "but for the living", nodes: "a? b c", ring: "8 drain a c / a b c", age: time.Second, want: "8 drain a c / a b c"},
		{name: "a newcomer dies", nodes: "a b c!", ring: "6 prepare a b / a b c", want: "7 stable a b", why: "given up"},
		{name: "a node that left the ring before still forwards", nodes: "a b c@6 d?@5", ring: "6 prepare a b / a b c", want: "6 prepare a b / a b c"},
		{name: "one without a program is not waited for", nodes: "a b c@6 d?@0", ring: "6 prepare a b / a b c", want: "7 drain a b c / a b"},
		{name: "all members are dead, another lives", nodes: "a b! c!", ring: "5 stable b c", want: "6 drain a / b! c!"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ring := parseRing(tt.ring)
			var drained []string
			if tt.drained != "" {
				drained = append(drained, tt.drained)
			}
			prev := steering.Decide(nil, ringView(ringEpoch, "a", parseNodes("a b c"), nil))
			prev = steering.Decide(prev, ringView(ringEpoch, "a", parseNodes("a b c"), ring))
			var p *steering.Plan
			for _, age := range []time.Duration{min(tt.age, time.Second/2), tt.age} {
				v := ringView(ringEpoch.Add(age), "a", parseNodes(tt.nodes), ring, drained...)
				if tt.long {
					v.L4Drain = 2 * time.Minute
				}
				p = steering.Decide(prev, v)
				prev = p
			}
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
		name, self, nodes string
		ring              string
		up                time.Duration
		drained           string
		want              bool
	}{
		{name: "the first by name", self: "a", nodes: "a b", want: true},
		{name: "nobody else", self: "b", nodes: "a b"},
		{name: "the next when that is dead", self: "b", nodes: "a! b", want: true},
		{name: "one that stops leaves it to the next", self: "b", nodes: "a? b", want: true},
		{name: "and knows", self: "a", nodes: "a? b"},
		{name: "one that is drained may", self: "a", nodes: "a b", drained: "a", want: true},
		{name: "when nobody is ready, the first by name", self: "a", nodes: "a? b?", want: true},
		{name: "a new process knows too little", self: "a", nodes: "a b", up: time.Second},
		{name: "but for a ring of which nobody is missing", self: "a", nodes: "a b", ring: "5 stable a b", up: time.Second, want: true},
		{name: "somebody is", self: "a", nodes: "a b!", ring: "5 stable a b", up: time.Second},
		{name: "and still is", self: "a", nodes: "a b!", ring: "5 stable a b", up: 3 * time.Second, want: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := ringView(ringEpoch, tt.self, parseNodes(tt.nodes), parseRing(tt.ring), tt.drained)
			if tt.up > 0 {
				v.Started = ringEpoch.Add(-tt.up)
			}
			if got := steering.Decide(nil, v).Ring.Lead; got != tt.want {
				t.Errorf("%s of %s leads: %v", tt.self, tt.nodes, got)
			}
		})
	}
	v := ringView(ringEpoch, "a", parseNodes("a"), nil)
	v.L4Drain = 0
	if p := steering.Decide(nil, v); p.Ring != nil {
		t.Errorf("a node without a packet path plans a ring: %+v", p.Ring)
	}
	v = ringView(ringEpoch, "a", parseNodes("a b"), nil)
	v.World.Geos[0].Nodes[1].Seen = ringEpoch.Add(-time.Minute)
	if got := ringText(steering.Decide(nil, v).Ring.Ring); got != "1 stable a" {
		t.Errorf("an old word of b counts: %s", got)
	}
}

// A node that is back is not believed to be the process of before by a record
// that nobody has confirmed since: that of the process that runs now may be under way.
func TestRingOldRecord(t *testing.T) {
	ring := parseRing("8 drain a / a b!")
	p := steering.Decide(nil, ringView(ringEpoch, "a", parseNodes("a b"), parseRing("7 stable a b")))
	decide := func(seconds int, nodes string, seen int) string {
		v := ringView(ringEpoch.Add(time.Duration(seconds)*time.Second), "a", parseNodes(nodes), ring)
		v.World.Geos[0].Nodes[1].Seen = ringEpoch.Add(time.Duration(seen) * time.Second)
		p = steering.Decide(p, v)
		return ringText(p.Ring.Ring)
	}
	for _, step := range []struct {
		seconds int
		nodes   string
		seen    int
		want    string
	}{
		{1, "a b!", 0, "8 drain a / a b!"},
		{2, "a b!", 2, "8 drain a / a b!"}, // it says goodbye
		{3, "a b", 2, "8 drain a / a b!"},
		{4, "a b", 2, "8 drain a / a b!"},
		{5, "a b*", 5, "8 drain a / a b!"}, // it is another one
		{6, "a b*", 6, "8 drain a / a b!"},
		{7, "a b", 7, "8 drain a / a b!"}, // as if it were the one of before
		{8, "a b", 8, "9 drain a / a b"},
	} {
		if got := decide(step.seconds, step.nodes, step.seen); got != step.want {
			t.Errorf("%d s, %s: %s, want %s", step.seconds, step.nodes, got, step.want)
		}
	}
}

// A stopping node waits while others could take its share, and until they know.
func TestRingHolds(t *testing.T) {
	for _, tt := range []struct {
		nodes, ring string
		want        bool
	}{
		{"a? b", "", false},
		{"a? b", "5 stable a b", true},
		{"a? b", "6 prepare a b / b", true},
		{"a? b@6", "7 drain b / a b", true}, // b does not follow yet
		{"a? b", "7 drain b / a b", false},
		{"a? b?", "5 stable a b", false}, // nobody can take it
		{"a? b!", "5 stable a b", false},
	} {
		p := steering.Decide(nil, ringView(ringEpoch, "a", parseNodes(tt.nodes), parseRing(tt.ring)))
		if got := p.Ring.Holds("a"); got != tt.want {
			t.Errorf("%s in %q: holds %v", tt.nodes, tt.ring, got)
		}
	}
}

func TestRingEvents(t *testing.T) {
	var plan *steering.Plan
	var got []string
	for i, ring := range []string{"", "1 stable a=2 b=2", "1 stable a=2 b=2", "2 prepare a=2 b=2 / a=2 b=3", "3 drain a / a b!"} {
		r := parseRing(ring)
		if r != nil {
			r.Reason = "a reason"
		}
		next := steering.Decide(plan, ringView(ringEpoch.Add(time.Duration(i)*time.Second), "a", parseNodes("a b"), r))
		for _, e := range steering.Events(plan, next) {
			got = append(got, e.Kind+" "+e.Text)
		}
		plan = next
	}
	want := []string{
		"ring generation 1, stable: a, b (a reason)",
		"ring generation 2, prepare: a, b; to come: a=2, b=3 (a reason)",
		"ring generation 3, drain: a; before: a, b (gone) (a reason)",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
