package admission_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"anyedge/internal/steering"
	"anyedge/proxy/admission"
)

var start = time.Date(2025, 11, 25, 2, 10, 0, 0, time.UTC)

// shedPlan is a plan that relays rates of offered requests/s, in the order
// given: d0, d1, …
func shedPlan(at time.Time, offered float64, rates ...float64) *steering.Plan {
	p := &steering.Plan{At: at, Shed: steering.ShedPlan{Shedding: true, Offered: offered}}
	for i, r := range rates {
		p.Shed.Routes = append(p.Shed.Routes, steering.Route{Geo: fmt.Sprintf("d%d", i), Rate: r, Want: 7})
		p.Shed.Need += r
	}
	return p
}

func client(n int) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], 0xc6330000|uint32(n)) // within 198.51.0.0/16
	return netip.AddrFrom4(b)
}

// crowd is clients that send Poisson traffic.
type crowd struct {
	rng     *rand.Rand
	clients int
	rate    float64 // requests/s of all
	now     time.Time
}

// run lets the crowd send for d, setting plan ten times a second.
func (c *crowd) run(d time.Duration, door *admission.Door, plan func(time.Time) *steering.Plan, each func(n int, v admission.Decision)) {
	end := c.now.Add(d)
	tick := c.now
	for c.now.Before(end) {
		if !c.now.Before(tick) {
			door.SetPlan(plan(c.now))
			tick = tick.Add(100 * time.Millisecond)
		}
		c.now = c.now.Add(time.Duration(c.rng.ExpFloat64() / c.rate * 1e9))
		n := c.rng.IntN(c.clients)
		each(n, door.Decide(c.now, "shop", client(n)))
	}
}

// Some seconds after a plan begins, the share that each destination gets is
// within 2 points of the planned one, and the clients that are relayed are
// the same ones from second to second.
func TestShareAndStickiness(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &crowd{
			rng:     rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1)),
			clients: rapid.IntRange(300, 5000).Draw(t, "clients"),
			rate:    rapid.Float64Range(300, 1000).Draw(t, "rate"),
			now:     start,
		}
		var rates []float64
		left := 0.9
		for range rapid.IntRange(1, 3).Draw(t, "destinations") {
			share := rapid.Float64Range(0.03, left/2).Draw(t, "share")
			rates = append(rates, share*c.rate)
			left -= share
		}
		door := admission.New(admission.Config{Salt: [32]byte{byte(c.clients)}})
		plan := func(at time.Time) *steering.Plan { return shedPlan(at, c.rate, rates...) }
		c.run(4*time.Second, door, plan, func(int, admission.Decision) {})

		got := map[string]int{}
		home := map[int]map[string]int{}
		total, early := 0, 0
		const steady = 8 * time.Second // over which clients are compared with themselves
		begin := c.now
		// Long enough that chance alone stays far within the 2 points.
		seconds := max(8, 12_000/c.rate)
		c.run(time.Duration(seconds*float64(time.Second)), door, plan, func(n int, d admission.Decision) {
			total++
			got[d.Geo]++
			if c.now.Sub(begin) > steady {
				return
			}
			early++
			if home[n] == nil {
				home[n] = map[string]int{}
			}
			home[n][d.Geo]++
		})
		for i, r := range rates {
			geo := fmt.Sprintf("d%d", i)
			want, have := r/c.rate, float64(got[geo])/float64(total)
			if math.Abs(want-have) > 0.02 {
				t.Errorf("%s: share %.3f, planned %.3f", geo, have, want)
			}
			if over := float64(got[geo]) - r*seconds - max(2, r/5) - 1; over > 0 {
				t.Errorf("%s: %d relayed in %.1f s, planned %.1f/s", geo, got[geo], seconds, r)
			}
		}
		astray := 0
		for _, by := range home {
			sum, most := 0, 0
			for _, n := range by {
				sum += n
				most = max(most, n)
			}
			astray += sum - most
		}
		if share := float64(astray) / float64(early); share > 0.12 {
			t.Errorf("%.1f %% of the requests did not go where their client's others went", 100*share)
		}
	})
}

// A small change of the rates moves few clients.
func TestSmallChangeMovesFew(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.Float64Range(10, 400).Draw(t, "a")
		b := rapid.Float64Range(10, 400).Draw(t, "b")
		da := rapid.Float64Range(-9, 9).Draw(t, "da")
		before := admission.New(admission.Config{})
		after := admission.New(admission.Config{})
		// Rates so high that no bucket empties in the one instant of this test.
		before.SetPlan(shedPlan(start, 1e7, a*1e4, b*1e4))
		after.SetPlan(shedPlan(start, 1e7, (a+da)*1e4, b*1e4))
		moved := 0
		const clients = 20000
		for n := range clients {
			if before.Decide(start, "shop", client(n)).Geo != after.Decide(start, "shop", client(n)).Geo {
				moved++
			}
		}
		// Both borders move by |da|/1000, and 20 000 samples scatter.
		if want := 2*math.Abs(da)/1000 + 0.01; float64(moved)/clients > want {
			t.Errorf("%d of %d clients moved, want at most %.1f %%", moved, clients, 100*want)
		}
	})
}

func TestDecide(t *testing.T) {
	all := shedPlan(start, 100, 100)
	observed := shedPlan(start, 100, 100)
	observed.Shed.Observe, observed.Shed.RefuseShare = true, 1
	refuse := &steering.Plan{At: start, Shed: steering.ShedPlan{Offered: 100, RefuseShare: 1}}
	tests := []struct {
		name    string
		cfg     admission.Config
		plan    *steering.Plan
		service string
		want    admission.Verdict
	}{
		{"no plan", admission.Config{}, nil, "shop", admission.Here},
		{"everything is shed", admission.Config{}, all, "shop", admission.Relay},
		{"exempt", admission.Config{Exempt: []string{"shop"}}, all, "shop", admission.Here},
		{"observe", admission.Config{}, observed, "shop", admission.Here},
		{"refused", admission.Config{}, refuse, "shop", admission.Refuse},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := admission.New(test.cfg)
			d.SetPlan(test.plan)
			got := d.Decide(start, test.service, client(1))
			if got.Verdict != test.want {
				t.Errorf("got %s, want %s", got.Verdict, test.want)
			}
			if got.Verdict == admission.Relay && (got.Geo != "d0" || got.Want != 7) {
				t.Errorf("got %+v", got)
			}
			if m := d.Measure(start); m.Offered != 1 {
				t.Errorf("offered %d, want 1", m.Offered)
			}
		})
	}
}

// A fixed request is never relayed; refusals hit the planned share.
func TestFixedAndRefuseShare(t *testing.T) {
	d := admission.New(admission.Config{})
	p := shedPlan(start, 100, 40)
	p.Shed.RefuseShare = 0.3
	d.SetPlan(p)
	refused := 0
	const n = 3000
	for range n {
		switch v := d.Fixed(start, "shop").Verdict; v {
		case admission.Relay:
			t.Fatal("a fixed request was relayed")
		case admission.Refuse:
			refused++
		case admission.Here:
		}
	}
	// 40 % would have gone away, so that half of the remaining 60 % is 30 %.
	if share := float64(refused) / n; math.Abs(share-0.5) > 0.01 {
		t.Errorf("refused %.3f of what stays, want 0.5", share)
	}
}

// Background work is relayed, to the farthest, and refused before interactive.
func TestBackgroundGoesFirst(t *testing.T) {
	d := admission.New(admission.Config{Background: []string{"batch"}})
	now, rng := start, rand.New(rand.NewPCG(1, 2))
	count := map[string]map[string]int{"batch": {}, "shop": {}}
	step := func(record bool) {
		now = now.Add(2 * time.Millisecond)
		n := rng.IntN(4000)
		for _, s := range []string{"batch", "shop"} {
			v := d.Decide(now, s, client(n))
			if record {
				count[s][v.Verdict.String()+v.Geo]++
			}
		}
	}
	for i := range 9000 { // 1000 requests/s in all, half of them background
		if i%50 == 0 {
			p := shedPlan(now, 1000, 100, 200)
			p.Shed.RefuseShare = 0.1
			d.SetPlan(p)
		}
		step(i >= 4000)
	}
	shop, batch := count["shop"], count["batch"]
	if shop["relayd0"]+shop["relayd1"]+shop["refuse"] > 50 {
		t.Errorf("interactive work suffered before background: %v", shop)
	}
	share := func(key string) float64 { return float64(batch[key]) / 5000 }
	if math.Abs(share("relayd1")-0.4) > 0.04 || math.Abs(share("relayd0")-0.2) > 0.04 || math.Abs(share("refuse")-0.2) > 0.04 {
		t.Errorf("background: %v of 5000", batch)
	}
}

func TestAnother(t *testing.T) {
	d := admission.New(admission.Config{})
	d.SetPlan(shedPlan(start, 100, 50, 10))
	if got := d.Another(start, "shop", "d0"); got.Verdict != admission.Relay || got.Geo != "d1" {
		t.Errorf("got %+v, want d1", got)
	}
	for range 5 {
		d.Another(start, "shop", "d0")
	}
	if got := d.Another(start, "shop", "d0"); got.Verdict != admission.Here {
		t.Errorf("got %+v although d1 has no credit left", got)
	}
}

// A geo that has a route but cannot serve the service is not asked.
func TestOnlyWhoServesIsAsked(t *testing.T) {
	p := shedPlan(start, 100, 50, 10)
	p.Services = map[string]steering.ServicePlan{"shop": {Elsewhere: []string{"d1"}}, "api": {}}
	d := admission.New(admission.Config{})
	d.SetPlan(p)
	seen := map[string]map[string]bool{"shop": {}, "api": {}}
	for service, geos := range seen {
		for i := range 2000 {
			now := start.Add(time.Duration(i) * 10 * time.Millisecond)
			geos[d.Decide(now, service, client(i)).Geo] = true
			geos[d.Another(now, service, "").Geo] = true
		}
	}
	want := map[string]map[string]bool{"shop": {"": true, "d1": true}, "api": {"": true}}
	if d := cmp.Diff(want, seen); d != "" {
		t.Error(d)
	}
}

// An IPv6 client is its /64; IPv4 in IPv6 is IPv4.
func TestClientIsANetwork(t *testing.T) {
	d := admission.New(admission.Config{})
	d.SetPlan(shedPlan(start, 1e5, 5e4))
	here := func(s string) string {
		return d.Decide(start, "shop", netip.MustParseAddr(s)).Geo
	}
	different := 0
	for i := range 64 {
		a := fmt.Sprintf("2001:db8:0:%x::1", i)
		b := fmt.Sprintf("2001:db8:0:%x:ffff::2", i)
		if here(a) != here(b) {
			t.Errorf("%s and %s are one client", a, b)
		}
		v4 := fmt.Sprintf("192.0.2.%d", i)
		if here(v4) != here("::ffff:"+v4) {
			t.Errorf("%s differs from its mapped form", v4)
		}
		if here(a) != here("2001:db8:0:0::1") {
			different++
		}
	}
	if different == 0 {
		t.Error("64 networks all have the same place")
	}
}

func TestConcurrentUse(t *testing.T) {
	d := admission.New(admission.Config{})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			now := start
			for i := range 5000 {
				now = now.Add(time.Millisecond)
				d.Decide(now, "shop", client(i+g*1000))
				d.Executed(i%3 == 0)
				d.Accept("fra", now, 10, false)
				d.Heard("d0", 5, i%7 == 0, now)
				if i%100 == 0 {
					d.SetPlan(shedPlan(now, 4000, 300, float64(i)))
					d.Measure(now)
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkDecide(b *testing.B) {
	d := admission.New(admission.Config{})
	d.SetPlan(shedPlan(start, 1e6, 2e5, 1e5))
	clients := make([]netip.Addr, 1024)
	for i := range clients {
		clients[i] = client(i)
	}
	now := start
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		now = now.Add(time.Microsecond)
		d.Decide(now, "shop", clients[i%len(clients)])
	}
}
