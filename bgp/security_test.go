package bgp_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"anyedge/bgp"
	"anyedge/internal/secret"
	"anyedge/internal/testpeer"
)

// TestPassword signs the session's segments (RFC 2385); a wrong key is silence.
func TestPassword(t *testing.T) {
	testpeer.NeedRoot(t)
	file := func(t *testing.T, key string) *secret.Ref {
		t.Helper()
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, []byte(key+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return &secret.Ref{File: path}
	}
	start := func(t *testing.T, key string) (*testpeer.BIRD, *bgp.Speaker) {
		t.Helper()
		port := testpeer.FreePort(t, "127.0.0.2")
		b := testpeer.StartBIRD(t, birdConf("192.0.2.101", birdSession("127.0.0.2", port, `password "correct horse";`)))
		n := both("peer", "127.0.0.2", port)
		n.Password = file(t, key)
		s, _ := run(t, bgp.Setup{Node: bgp.NodeConfig{NextHop: nextHop6(), Neighbors: []bgp.NeighborConfig{n}}})
		s.Announce([]bgp.Route{{Prefix: prefix("192.0.2.0/24")}})
		return b, s
	}
	t.Run("right", func(t *testing.T) {
		b, _ := start(t, "correct horse")
		testpeer.WaitFor(t, "the route", func() bool { return len(b.Routes(t, "edge")) == 1 })
	})
	t.Run("wrong", func(t *testing.T) {
		_, s := start(t, "battery staple")
		waitError(t, s, "peer", "TCP never connects (unanswered)", "MD5 key")
	})
	t.Run("neighbor dials", func(t *testing.T) {
		port, theirs := testpeer.FreePort(t, "127.0.0.1"), testpeer.FreePort(t, "127.0.0.2")
		b := testpeer.StartBIRD(t, birdConf("192.0.2.101", fmt.Sprintf(`protocol bgp edge {
	local 127.0.0.2 port %d as 64501;
	neighbor 127.0.0.1 port %d as %d;
	multihop; strict bind yes; password "correct horse"; error wait time 1,2; connect delay time 1; connect retry time 1;
	ipv4 { import all; export none; };
}`, theirs, port, edgeASN)))
		s, _ := run(t, bgp.Setup{Node: bgp.NodeConfig{Listen: []string{fmt.Sprintf("127.0.0.1:%d", port)}, Neighbors: []bgp.NeighborConfig{
			{Name: "peer", Address: addr("127.0.0.2"), Port: testpeer.FreePort(t, "127.0.0.2"), ASN: 64501, Multihop: 1, Password: file(t, "correct horse")},
		}}})
		s.Announce([]bgp.Route{{Prefix: prefix("192.0.2.0/24")}})
		testpeer.WaitFor(t, "the route", func() bool { return len(b.Routes(t, "edge")) == 1 })
	})
}

// TestGTSM sends with TTL 255 and takes nothing less (RFC 5082).
func TestGTSM(t *testing.T) {
	port := testpeer.FreePort(t, "127.0.0.3")
	f := testpeer.StartFRR(t, "127.0.0.3", port, frrConf("neighbor 127.0.0.1 ttl-security hops 1"))
	n := both("peer", "127.0.0.3", port)
	n.Multihop, n.GTSM = 0, true
	hop := nextHop6()
	hop.IPv4 = addr("192.0.2.1")
	s, _ := run(t, bgp.Setup{Node: bgp.NodeConfig{NextHop: hop, Neighbors: []bgp.NeighborConfig{n}}})
	s.Announce([]bgp.Route{{Prefix: prefix("192.0.2.0/24")}})
	testpeer.WaitFor(t, "the route", func() bool { return len(f.Routes(t)) == 1 })
}
