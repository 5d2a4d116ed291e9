//go:build !race

package metal_test

import (
	"testing"
	"time"

	"anyedge/internal/lab"
	"anyedge/internal/lab/metal"
)

// TestOverload offers fra, two edges of 150/s, more than it can serve: it keeps
// what it can and sheds the rest, nearest geo first.
func TestOverload(t *testing.T) {
	l := up(t, metal.Options{L4: "native"})
	ring(t, l)
	const offered, settle, window = 400, 8 * time.Second, 8 * time.Second
	s := l.Stream(metal.StreamConfig{Region: "eu", VIP: metal.VIPs()[0], Protocol: lab.H1, Rate: offered, Keep: true, Clients: 400})
	defer s.Stop()
	begin := time.Now()
	within(t, settle+10*time.Second, "the shed settles", func() bool { return time.Since(begin) > settle })
	m := s.Mark()
	within(t, window+10*time.Second, "a window", func() bool { return time.Since(m.At) > window })
	n := s.Since(m)
	took := time.Since(m.At).Seconds()
	rate := func(geo string) float64 { return float64(n.Served[geo]) / took }
	t.Logf("offered %.0f/s to fra (capacity %d/s, target 85 %%): fra served %.1f %% of its capacity, iad %.1f %%, nrt %.1f %%; %d of %d failed, %d late",
		float64(n.Sent)/took, metal.Capacity, 100*rate("fra")/metal.Capacity, 100*rate("iad")/metal.Capacity, 100*rate("nrt")/metal.Capacity, n.Failed, n.Sent, n.Late)
	for _, text := range n.Samples {
		t.Log(text)
	}
	if n.Failed > 0 {
		t.Errorf("%d requests failed", n.Failed)
	}
	if share := rate("fra") / metal.Capacity; n.Late == 0 && (share > 0.92 || share < 0.7) {
		t.Errorf("fra served %.1f %% of its capacity, want about 85 %%", 100*share)
	}
}
