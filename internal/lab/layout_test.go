package lab_test

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"anyedge/configs"
	"anyedge/internal/lab"
)

// TestDescriptionHasDNS: demo.json says where each geo's edged, by its own
// configuration, answers for SERVICE.internal: a port that needs no privilege
// at a loopback address of the geo's own.
func TestDescriptionHasDNS(t *testing.T) {
	geos, err := lab.WriteLayout(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if len(geos) != 3 {
		t.Fatalf("got %+v", geos)
	}
	seen := map[netip.Addr]string{}
	for _, g := range geos {
		cfg, report := configs.Load(g.Config)
		if report.Err() != nil {
			t.Fatalf("%s: %v", g.Name, report.Problems)
		}
		if cfg.Node.DNS == nil || cfg.Node.DNS.Listen != g.DNS {
			t.Errorf("%s: node.dns is %+v, demo.json says %q", g.Name, cfg.Node.DNS, g.DNS)
		}
		private := ""
		for _, l := range cfg.Listeners {
			if l.Private {
				private = strings.Join(l.Bind, " ")
			}
		}
		if private == "" || private != g.Private {
			t.Errorf("%s: the private listener is at %q, demo.json says %q", g.Name, private, g.Private)
		}
		at, err := netip.ParseAddrPort(g.DNS)
		if err != nil || at.Port() < 1024 || !at.Addr().IsLoopback() || seen[at.Addr()] != "" {
			t.Errorf("%s: %q: %v; the address is also of %q", g.Name, g.DNS, err, seen[at.Addr()])
		}
		seen[at.Addr()] = g.Name
		text, err := json.Marshal(lab.File{Geos: geos})
		if err != nil || !strings.Contains(string(text), `"dns":"`+g.DNS+`"`) {
			t.Errorf("demo.json: %s, %v", text, err)
		}
	}
}
