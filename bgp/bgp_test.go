package bgp_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"anyedge/bgp"
	"anyedge/internal/testpeer"
)

const (
	edgeASN = 4200065010 // needs four bytes
	edgeID  = "192.0.2.1"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// The library drains a session's queue once and forgets it; what comes
		// in just after that keeps the queue's goroutine.
		goleak.IgnoreTopFunction("github.com/eapache/channels.(*InfiniteChannel).infiniteBuffer"))
}

// run starts a speaker and stops it, with all of its goroutines, at the end.
// stop can be called before.
func run(t *testing.T, setup bgp.Setup) (s *bgp.Speaker, stop func()) {
	t.Helper()
	s = newSpeaker(t, setup)
	return s, runSpeaker(t, s)
}

func newSpeaker(t *testing.T, setup bgp.Setup) *bgp.Speaker {
	t.Helper()
	if setup.Config.ASN == 0 {
		setup.Config.ASN = edgeASN
	}
	setup.RouterID = netip.MustParseAddr(edgeID)
	level := slog.LevelInfo
	if os.Getenv("BGP_TEST_DEBUG") != "" {
		level = slog.LevelDebug
	}
	s, err := bgp.New(setup, slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: level})))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func runSpeaker(t *testing.T, s *bgp.Speaker) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- s.Run(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		cancel()
		t.Fatalf("run: %v", err)
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// neighbor returns the status of the named neighbor.
func neighbor(t *testing.T, s *bgp.Speaker, name string) bgp.NeighborStatus {
	t.Helper()
	list := s.Status().Neighbors
	i := slices.IndexFunc(list, func(n bgp.NeighborStatus) bool { return n.Name == name })
	if i < 0 {
		t.Fatalf("no neighbor %q in the status", name)
	}
	return list[i]
}

func waitState(t *testing.T, s *bgp.Speaker, name string, want bgp.State) {
	t.Helper()
	testpeer.WaitFor(t, fmt.Sprintf("%s to be %s", name, want), func() bool { return neighbor(t, s, name).State == want })
}

// waitError waits until the named neighbor's last error has all the words.
func waitError(t *testing.T, s *bgp.Speaker, name string, words ...string) {
	t.Helper()
	last := ""
	testpeer.WaitFor(t, fmt.Sprintf("last error of %s with %q", name, words), func() bool {
		if e := neighbor(t, s, name).LastError; e != last {
			last = e
			t.Logf("%s: last error: %s", name, e)
		}
		return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(last, w) })
	})
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }

// birdConf is a BIRD in AS 64501 with one session to us per body.
func birdConf(id string, protocols ...string) string {
	return "log stderr all; debug protocols { states, routes, events };\nrouter id " + id + ";\nprotocol device {}\n" + strings.Join(protocols, "\n")
}

// birdSession is a session to us that waits to be called.
func birdSession(local string, port uint16, more string) string {
	return fmt.Sprintf(`protocol bgp edge {
	local %s port %d as 64501;
	neighbor 127.0.0.1 as %d;
	multihop; strict bind yes; passive; error wait time 1,2;
	ipv4 { import all; export all; };
	ipv6 { import all; export all; };
	%s
}`, local, port, edgeASN, more)
}

// both is a neighbor that takes both families over IPv4.
func both(name, address string, port uint16) bgp.NeighborConfig {
	return bgp.NeighborConfig{
		Name: name, Address: addr(address), Port: port, LocalAddress: addr("127.0.0.1"), ASN: 64501, Multihop: 1,
		Families: []string{"ipv4", "ipv6"},
	}
}

func nextHop6() bgp.NextHopConfig { return bgp.NextHopConfig{IPv6: addr("2001:db8::1")} }
