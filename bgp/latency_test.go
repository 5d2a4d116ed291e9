package bgp_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"anyedge/bgp"
	"anyedge/internal/testpeer"
)

// TestLatency measures, by BIRD's own clock, how long a call of Announce takes
// to show in BIRD's table.
func TestLatency(t *testing.T) {
	const rounds = 20
	port := testpeer.FreePort(t, "127.0.0.2")
	conf := "timeformat log \"%s %6f\";\n" + birdConf("192.0.2.101", birdSession("127.0.0.2", port, "debug all;"))
	b := testpeer.StartBIRD(t, conf)
	s, _ := run(t, bgp.Setup{Node: bgp.NodeConfig{NextHop: nextHop6(), Neighbors: []bgp.NeighborConfig{both("peer", "127.0.0.2", port)}}})
	waitState(t, s, "peer", bgp.Established)

	var announce, withdraw []time.Duration
	for i := range rounds {
		p := prefix(fmt.Sprintf("198.51.100.%d/32", i))
		begin := time.Now()
		s.Announce([]bgp.Route{{Prefix: p}})
		announce = append(announce, logged(t, b, "> added [best] "+p.String()).Sub(begin))
		begin = time.Now()
		s.Announce(nil)
		withdraw = append(withdraw, logged(t, b, "> removed [sole] "+p.String()).Sub(begin))
	}
	for name, list := range map[string][]time.Duration{"announce": announce, "withdraw": withdraw} {
		slices.Sort(list)
		t.Logf("%s to BIRD's table: median %s, max %s", name, list[rounds/2], list[rounds-1])
		if list[rounds/2] > 100*time.Millisecond {
			t.Errorf("%s takes too long: %v", name, list)
		}
	}
}

// logged waits for a line of BIRD's log and returns its time.
func logged(t *testing.T, b *testpeer.BIRD, text string) time.Time {
	t.Helper()
	var at time.Time
	testpeer.WaitFor(t, "log line "+text, func() bool {
		for line := range strings.Lines(b.Log()) {
			if !strings.Contains(line, text) {
				continue
			}
			var sec, usec int64
			if _, err := fmt.Sscanf(line, "%d %d", &sec, &usec); err != nil {
				t.Fatalf("no time in %q: %v", line, err)
			}
			at = time.Unix(sec, usec*1000)
			return true
		}
		return false
	})
	return at
}
