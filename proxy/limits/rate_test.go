package limits_test

import (
	"net/netip"
	"testing"
	"time"

	"anyedge/proxy/limits"
)

func TestRate(t *testing.T) {
	r := limits.NewRate(10, 3)
	start := time.Now()
	for _, tt := range []struct {
		at   time.Duration
		who  string
		want time.Duration
	}{
		{0, "192.0.2.1", 0},
		{0, "192.0.2.1", 0},
		{0, "192.0.2.1", 0},
		{0, "192.0.2.1", 100 * time.Millisecond},
		{0, "192.0.2.2", 0},
		{40 * time.Millisecond, "192.0.2.1", 60 * time.Millisecond},
		{100 * time.Millisecond, "192.0.2.1", 0},
		{100 * time.Millisecond, "192.0.2.1", 100 * time.Millisecond},
		{time.Minute, "192.0.2.1", 0},
		{time.Minute, "192.0.2.1", 0},
		{time.Minute, "192.0.2.1", 0},
		{time.Minute, "192.0.2.1", 100 * time.Millisecond},
		{0, "192.0.2.1", time.Minute + 100*time.Millisecond}, // of a request that was read before
	} {
		if got := r.Allow(start.Add(tt.at), client(tt.who)); got != tt.want {
			t.Errorf("%s at %s: wait %s, want %s", tt.who, tt.at, got, tt.want)
		}
	}
}

// A rate below one each second.
func TestRateSlow(t *testing.T) {
	r := limits.NewRate(0.25, 0)
	now := time.Now()
	if a, b := r.Allow(now, client("192.0.2.1")), r.Allow(now, client("192.0.2.1")); a != 0 || b != 4*time.Second {
		t.Errorf("waits %s and %s, want 0 and 4s", a, b)
	}
}

// Many addresses take no memory, and do not wash out what is known of a client
// that does too much.
func TestRateManyClients(t *testing.T) {
	r := limits.NewRate(1, 5)
	now := time.Now()
	busy := client("192.0.2.1")
	for range 5 {
		r.Allow(now, busy)
	}
	a := netip.MustParseAddr("10.0.0.0")
	var refused int
	allocs := testing.AllocsPerRun(1, func() {
		for range 500_000 {
			a = a.Next()
			r.Allow(now, limits.ClientOf(a))
		}
		for range 10 {
			if r.Allow(now, busy) > 0 {
				refused++
			}
		}
	})
	if refused != 20 || allocs > 0 {
		t.Errorf("%d of 20 were refused; %.0f allocations, want none", refused, allocs)
	}
}

func BenchmarkRate(b *testing.B) {
	r := limits.NewRate(100, 100)
	now := time.Now()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		one := client("192.0.2.1")
		for pb.Next() {
			r.Allow(now, one)
		}
	})
}
