package admission_test

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"anyedge/internal/steering"
	"anyedge/proxy/admission"
)

func budgetPlan(at time.Time, budget, urgent float64, grants map[string]float64) *steering.Plan {
	return &steering.Plan{At: at, Shed: steering.ShedPlan{Budget: budget, BudgetUrgent: urgent, Grants: grants}}
}

func TestAccept(t *testing.T) {
	tests := []struct {
		name string
		plan *steering.Plan
		want admission.Permit
	}{
		{"before the first plan", nil, admission.Permit{Reason: admission.NoBudget}},
		{"granted", budgetPlan(start, 100, 120, map[string]float64{"fra": 40}), admission.Permit{OK: true, Grant: 40}},
		{"first request of an origin", budgetPlan(start, 100, 120, nil), admission.Permit{OK: true, Grant: 50}},
		{"granted nothing", budgetPlan(start, 100, 120, map[string]float64{"fra": 0}), admission.Permit{Reason: admission.NoBudget}},
		{"no budget", budgetPlan(start, 0, 0, nil), admission.Permit{Reason: admission.NoBudget}},
		{"a grant from the urgent budget", budgetPlan(start, 0, 20, map[string]float64{"fra": 20}), admission.Permit{OK: true, Grant: 20}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := admission.New(admission.Config{})
			d.SetPlan(test.plan)
			if diff := cmp.Diff(test.want, d.Accept("fra", start, 10, false)); diff != "" {
				t.Error(diff)
			}
			d.Accept("fra", start.Add(time.Second), 12.5, true)
			want := steering.PeerMeasured{Want: 12.5, Urgent: true, WantAt: start.Add(time.Second)}
			if diff := cmp.Diff(want, d.Measure(start).Peers["fra"]); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// However much origins send, each gets at most its grant and a tenth, all at
// most the urgent budget; one that keeps to its grant is not refused.
func TestAcceptHoldsGrants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		grants := map[string]float64{
			"greedy": rapid.Float64Range(5, 100).Draw(t, "greedy"),
			"modest": rapid.Float64Range(5, 100).Draw(t, "modest"),
		}
		budget := grants["greedy"] + grants["modest"]
		d := admission.New(admission.Config{})
		d.SetPlan(budgetPlan(start, budget, budget*1.1, grants))
		const seconds = 10
		accepted := map[string]int{}
		refusedModest, sentModest := 0, 0
		next := 0.0
		for ms := range seconds * 1000 {
			now := start.Add(time.Duration(ms) * time.Millisecond)
			if d.Accept("greedy", now, 1000, true).OK {
				accepted["greedy"]++
			}
			if float64(ms)/1000 >= next {
				next += 1 / grants["modest"]
				sentModest++
				if d.Accept("modest", now, 0, false).OK {
					accepted["modest"]++
				} else {
					refusedModest++
				}
			}
		}
		burst := max(2, 1.1*grants["greedy"]/5)
		if most := grants["greedy"]*1.1*seconds + burst + 1; float64(accepted["greedy"]) > most {
			t.Errorf("greedy got %d in %d s, its grant is %.1f/s", accepted["greedy"], seconds, grants["greedy"])
		}
		if share := float64(refusedModest) / float64(sentModest); share > 0.05 {
			t.Errorf("modest kept to its grant and %.1f %% was refused", 100*share)
		}
	})
}

// Stranded work is taken without a budget, up to the hard limit.
func TestAcceptStranded(t *testing.T) {
	d := admission.New(admission.Config{})
	p := budgetPlan(start, 0, 0, nil)
	p.Shed.Capacity = 100
	d.SetPlan(p)
	if got := d.AcceptStranded("fra"); !got.OK {
		t.Fatalf("refused on an idle geo: %+v", got)
	}
	now := start
	for range 50 { // 5 s at 120/s
		for range 12 {
			d.Executed(true)
		}
		now = now.Add(100 * time.Millisecond)
		q := *p
		q.At = now
		d.SetPlan(&q)
	}
	if got := d.AcceptStranded("fra"); got.OK || got.Reason != admission.Full {
		t.Errorf("taken above the capacity: %+v", got)
	}
}

func TestMeasure(t *testing.T) {
	d := admission.New(admission.Config{})
	d.SetPlan(shedPlan(start, 10, 10))
	d.Measure(start)
	for i := range 3 {
		d.Decide(start, "shop", client(i))
	}
	d.Executed(false)
	d.Executed(true)
	d.Heard("d0", 33.5, true, start)
	m := d.Measure(start.Add(100 * time.Millisecond))
	want := steering.Measured{
		Interval: 100 * time.Millisecond, Offered: 3, Executed: 2, Foreign: 1,
		Peers: map[string]steering.PeerMeasured{"d0": {Relayed: 2, Busy: 1, Grant: 33.5, GrantAt: start}},
	}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Error(diff)
	}
	again := d.Measure(start.Add(200 * time.Millisecond))
	if again.Offered != 0 || again.Executed != 0 || again.Peers["d0"].Relayed != 0 || again.Peers["d0"].Grant != 33.5 {
		t.Errorf("counters were not reset, or what was heard was: %+v", again)
	}
}

// A plan that changes every tick does not lose or invent tokens.
func TestBucketFollowsPlan(t *testing.T) {
	d := admission.New(admission.Config{})
	now, relayed, planned := start, 0, 0.0
	for i := range 1000 { // 10 s
		if i%10 == 0 {
			rate := 200 + 150*math.Sin(float64(i)/50)
			planned += rate / 10
			d.SetPlan(shedPlan(now, rate, rate))
		}
		for range 10 { // 1000/s, all of it inside the interval
			if d.Decide(now, "shop", client(i)).Verdict == admission.Relay {
				relayed++
			}
		}
		now = now.Add(10 * time.Millisecond)
	}
	if math.Abs(float64(relayed)-planned) > 0.05*planned {
		t.Errorf("%d relayed, %.0f planned", relayed, planned)
	}
}
