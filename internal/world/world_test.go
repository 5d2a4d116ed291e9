package world_test

import (
	"strings"
	"testing"

	"anyedge/internal/world"
)

func TestFind(t *testing.T) {
	w := &world.World{Geo: "fra", Geos: []world.Geo{{Name: "fra", Number: 1}, {Name: "iad", Number: 2}}}
	if w.Self() != &w.Geos[0] {
		t.Error("self is not the first geo")
	}
	if g := w.Find("iad"); g != &w.Geos[1] {
		t.Errorf("iad: %v", g)
	}
	if g := w.Find("nrt"); g != nil {
		t.Errorf("nrt, which does not exist: %v", g)
	}
}

func TestUtilisation(t *testing.T) {
	for _, test := range []struct {
		load world.Load
		want float64
	}{
		{world.Load{}, 0},
		{world.Load{Offered: 10}, 0},
		{world.Load{Offered: 150, Capacity: 300}, 0.5},
		{world.Load{Offered: 600, Capacity: 300}, 2},
	} {
		if got := test.load.Utilisation(); got != test.want {
			t.Errorf("%+v: %g, want %g", test.load, got, test.want)
		}
	}
}

func TestVersionLess(t *testing.T) {
	ordered := []world.Version{{}, {Epoch: 0, Counter: 9}, {Epoch: 1, Counter: 0}, {Epoch: 1, Counter: 2}, {Epoch: 2, Counter: 1}}
	for i, a := range ordered {
		for j, b := range ordered {
			if a.Less(b) != (i < j) {
				t.Errorf("%v < %v is %v", a, b, a.Less(b))
			}
		}
	}
}

func TestAnnouncing(t *testing.T) {
	for _, test := range []struct {
		name   string
		record *world.NodeRecord
		want   bool
	}{
		{"no record", nil, false},
		{"empty record", &world.NodeRecord{}, false},
		{"announced", &world.NodeRecord{VIPs: map[string]string{"www": "announced"}}, true},
		{"draining", &world.NodeRecord{VIPs: map[string]string{"www": "draining"}}, false},
		{"shadow", &world.NodeRecord{VIPs: map[string]string{"www": "shadow"}}, false},
		{"another VIP", &world.NodeRecord{VIPs: map[string]string{"dns": "announced"}}, false},
	} {
		n := &world.Node{Record: test.record}
		if got := n.Announcing("www"); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

func TestServes(t *testing.T) {
	node := func(s world.Status, healthy int) world.Node {
		return world.Node{Status: s, Record: &world.NodeRecord{Services: map[string]world.Counts{"shop": {Healthy: healthy, Total: 2}}}}
	}
	for _, test := range []struct {
		name  string
		nodes []world.Node
		want  bool
	}{
		{"no node", nil, false},
		{"no record", []world.Node{{Status: world.Joined}}, false},
		{"healthy", []world.Node{node(world.Joined, 1)}, true},
		{"no healthy backend", []world.Node{node(world.Joined, 0)}, false},
		{"left", []world.Node{node(world.Left, 2)}, false},
		{"lost", []world.Node{node(world.Lost, 2)}, false},
		{"one of two nodes", []world.Node{node(world.Joined, 0), node(world.Joined, 1)}, true},
	} {
		g := &world.Geo{Nodes: test.nodes}
		if got := g.Serves("shop"); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
		if g.Serves("api") {
			t.Errorf("%s: serves a service that it does not have", test.name)
		}
	}
}

func TestCheckName(t *testing.T) {
	for _, name := range []string{"fra", "a", "web-1", "x9"} {
		if err := world.CheckName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for name, want := range map[string]string{
		"":      "a name is required",
		"Fra":   `"Fra" is not a name: want a-z, then a-z, 0-9 or -`,
		"1a":    `"1a" is not a name: want a-z, then a-z, 0-9 or -`,
		"a_b":   `"a_b" is not a name: want a-z, then a-z, 0-9 or -`,
		"a\n":   `"a\n" is not a name: want a-z, then a-z, 0-9 or -`,
		"all":   `"all" is a reserved word and nobody's name`,
		"self":  `"self" is a reserved word and nobody's name`,
		"owner": `"owner" is a reserved word and nobody's name`,
	} {
		if err := world.CheckName(name); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", name, err, want)
		}
	}
}

func TestGeoConfig(t *testing.T) {
	good := world.GeoConfig{Name: "fra", Number: 1, Fabric: []string{"192.0.2.1:7000", "[2001:db8::1]:7000"}}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	bad := world.GeoConfig{Name: "none", Fabric: []string{"192.0.2.1:7000", "fra.example.net:7000", "192.0.2.1"}}
	want := strings.Join([]string{
		`"none" is a reserved word and nobody's name`,
		`number is required (1-255)`,
		`fabric[1]: "fra.example.net:7000" is not ADDRESS:PORT`,
		`fabric[2]: "192.0.2.1" is not ADDRESS:PORT`,
	}, "\n")
	if err := bad.Validate(); err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}
