package steering_test

import (
	"fmt"
	"testing"
	"time"

	"anyedge/internal/steering"
)

// onWire returns the geos that announce www, however reluctantly.
func (f *fleet) onWire() []string {
	var names []string
	for _, g := range f.geos {
		if s := g.plan.VIP("www").State; s == steering.Announced || s == steering.Draining {
			names = append(names, g.name)
		}
	}
	return names
}

// All backends of all geos die within a second of each other, in every order:
// the VIP stays announced somewhere, and comes back everywhere.
func TestLastGeoStays(t *testing.T) {
	for _, lag := range []int{0, 1, 3, 10} { // ticks between two deaths
		for _, wait := range []time.Duration{time.Second, 20 * time.Second} {
			t.Run(fmt.Sprintf("lag %d wait %s", lag, wait), func(t *testing.T) {
				f := newFleet(1, 10, 10, 10)
				for _, g := range f.geos {
					g.edge.view.VIPs[0].Config.Drain.Wait = new(wait)
				}
				f.run(35)
				if got := len(f.onWire()); got != 3 {
					t.Fatalf("%d geos announce after the start, want 3", got)
				}
				for tick := range 600 {
					for i, g := range f.geos {
						if tick == i*lag {
							g.edge.view.Services[0].Healthy = 0
						}
					}
					f.run(0.1)
					if len(f.onWire()) == 0 {
						t.Fatalf("%.1fs after the first death nobody announces", float64(tick)/10)
					}
				}
				for _, g := range f.geos {
					if vip := g.plan.VIP("www"); vip.State == steering.Draining && vip.Blocked != "guard" {
						t.Errorf("%s drains, kept by %q, want the guard", g.name, vip.Blocked)
					}
					g.edge.view.Services[0].Healthy = 2
				}
				f.run(71)
				if got := len(f.onWire()); got != 3 {
					t.Errorf("%d geos announce after the recovery, want 3", got)
				}
			})
		}
	}
}

// One after the other leaves while another announces; the last does not.
func TestOneByOne(t *testing.T) {
	f := newFleet(1, 10, 10, 10)
	f.run(35)
	for i, g := range f.geos {
		g.edge.view.Services[0].Healthy = 0
		f.run(60)
		if got := len(f.onWire()); got != max(1, 2-i) {
			t.Fatalf("%d geos announce after %s lost its backends, want %d", got, g.name, max(1, 2-i))
		}
	}
	last := f.geo("nrt").plan.VIP("www")
	if last.State != steering.Draining || last.Blocked != "guard" {
		t.Errorf("nrt: %s, want draining and kept by the guard", line(last))
	}
}

// A geo that hears nobody does not leave, whatever it hears last.
func TestPartitionedGeoStays(t *testing.T) {
	f := newFleet(1, 10, 10, 10)
	f.run(35)
	fra := f.geo("fra")
	for _, name := range []string{"iad", "nrt"} {
		fra.edge.geo(name).Alive = false
	}
	fra.edge.view.Services[0].Healthy = 0
	f.run(60)
	if vip := fra.plan.VIP("www"); vip.State != steering.Draining || vip.Blocked != "guard" {
		t.Errorf("fra: %s, want draining and kept by the guard", line(vip))
	}
	for _, name := range []string{"iad", "nrt"} {
		fra.edge.geo(name).Alive = true
	}
	f.run(0.2)
	if vip := fra.plan.VIP("www"); vip.State != steering.Withdrawn {
		t.Errorf("fra after the repair: %s, want withdrawn", line(vip))
	}
}
