package steering_test

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

// Twice the capacity at one geo for 20 s: it stays at its target, the nearest
// geo is filled to its limit and the next takes the rest, nothing swings, and
// the end of the load is the end of shedding. The first run has evenly spaced
// requests; with the others, chance alone moves the demand of five seconds by
// 11 requests/s (one sigma).
func TestOverloadSettles(t *testing.T) {
	for seed := uint64(0); seed <= 20; seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			f := newFleet(seed, 60, 60, 60)
			chance := math.Sqrt(600 / 5.)
			if f.regular = seed == 0; f.regular {
				chance = 0
			}
			fra := f.geo("fra")
			f.run(40)
			for _, g := range f.geos {
				if slices.ContainsFunc(g.between(5, 40), func(s sample) bool { return s.shedding }) {
					t.Errorf("%s sheds before the load", g.name)
				}
			}
			fra.demand = 600
			f.run(20)
			fra.demand = 60
			f.run(10)

			first := slices.IndexFunc(fra.log, func(s sample) bool { return s.need > 0 })
			if first < 400 || first > 406 {
				t.Errorf("shedding starts %.1fs after the load, want within 0.6s", float64(first-400)/10)
			}
			for from := 42.0; from+5 <= 60; from++ {
				s := fra.between(from, from+5)
				near(t, fmt.Sprintf("requests/s executed by fra from %gs", from), mean(s, executed), 255, 15+2*chance)
			}
			checkSettled(t, f, chance > 0)
			if slices.ContainsFunc(fra.between(63, 70), func(s sample) bool { return s.shedding || s.need > 0 }) {
				t.Error("still shedding 3s after the end of the load")
			}
		})
	}
}

// checkSettled judges the last 17 s of the load as a whole.
func checkSettled(t *testing.T, f *fleet, chance bool) {
	t.Helper()
	settled := func(geo string) []sample { return f.geo(geo).between(43, 60) }
	near(t, "executed by fra", mean(settled("fra"), executed), 255, 15)
	near(t, "shed to iad", mean(settled("iad"), foreign), 186, 12)
	near(t, "shed to nrt", mean(settled("nrt"), foreign), 159, 20)
	for _, geo := range []string{"iad", "nrt"} {
		if x := mean(settled(geo), executed); x > 0.9*300 {
			t.Errorf("%s executes %.0f/s, more than its urgent limit", geo, x)
		}
	}
	near(t, "left without a taker", mean(settled("fra"), func(s sample) float64 { return s.left * simTick.Seconds() }), 0, 0.01*600)
	demand := 0.43 * 0.57 * 600 // the variance over a second of which requests go
	if chance {
		demand = 600 // and of how many come
	}
	if sd := swing(settled("fra"), demand); sd > 9 {
		t.Errorf("requests/s executed by fra swing by %.1f beyond chance", sd)
	}
}

// swing is the standard deviation of the executed requests/s over seconds, less
// what chance makes of a demand with that variance.
func swing(s []sample, demand float64) float64 {
	var sums []float64
	for chunk := range slices.Chunk(s, 10) {
		sums = append(sums, mean(chunk, executed))
	}
	m, v := 0.0, 0.0
	for _, x := range sums {
		m += x / float64(len(sums))
	}
	for _, x := range sums {
		v += (x - m) * (x - m) / float64(len(sums)-1)
	}
	return math.Sqrt(math.Max(0, v-demand))
}

// Half of the backends die under a load that all of them carried: the rest
// keeps what it can carry.
func TestCapacityLoss(t *testing.T) {
	for seed := uint64(1); seed <= 10; seed++ {
		f := newFleet(seed, 200, 60, 60)
		fra := f.geo("fra")
		f.run(30)
		fra.edge.view.Services[0].Healthy = 1
		f.run(20)
		fra.edge.view.Services[0].Healthy = 2
		f.run(10)
		for _, s := range fra.between(5, 30) {
			if s.shedding {
				t.Fatalf("seed %d: sheds at two thirds of its capacity", seed)
			}
		}
		near(t, "requests/s executed with 1 of 2 backends", mean(fra.between(33, 50), executed), 127.5, 7.5)
		for _, s := range fra.between(53, 60) {
			if s.shedding {
				t.Fatalf("seed %d: still shedding 3s after the recovery", seed)
			}
		}
	}
}

// When everybody is full nothing moves, nobody offers anything, and the doors
// refuse exactly what exceeds their limit.
func TestAllOverloaded(t *testing.T) {
	f := newFleet(3, 400, 390, 420)
	f.run(20)
	for _, g := range f.geos {
		p := &g.plan.Shed
		if p.Budget != 0 || p.BudgetUrgent != 0 || len(p.Routes) != 0 {
			t.Errorf("%s offers %.0f/s and %.0f/s and sends to %v, want nothing", g.name, p.Budget, p.BudgetUrgent, p.Routes)
		}
		near(t, g.name+" refuses", p.RefuseShare*p.Offered, p.Offered-0.99*300, 1e-6)
	}
}

// At 0.82 of its capacity, with a target of 0.85, a geo of this size sheds
// nothing but for what chance makes of 3.5 sigmas.
func TestNoShedBelowTarget(t *testing.T) {
	shed := 0
	for seed := uint64(1); seed <= 20; seed++ {
		f := newFleet(seed, 246, 60, 60)
		f.run(120)
		for _, s := range f.geo("fra").between(5, 120) {
			if s.need > 0 {
				shed++
			}
		}
	}
	if shed > 0 {
		t.Errorf("sheds in %d of %d ticks", shed, 20*1150)
	}
}
