package bgp_test

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"anyedge/bgp"
	"anyedge/internal/testpeer"
)

// TestNoTransit has two neighbors; what one of them announces must not reach
// the other, nor come back.
func TestNoTransit(t *testing.T) {
	foreign := prefix("203.0.113.0/24")
	port := testpeer.FreePort(t, "127.0.0.2")
	left := testpeer.StartBIRD(t, birdConf("192.0.2.101",
		"protocol static { ipv4; route 203.0.113.0/24 blackhole; }", birdSession("127.0.0.2", port, "")))
	right := testpeer.StartBIRD(t, birdConf("192.0.2.102", birdSession("127.0.0.3", port, "")))
	s, _ := run(t, bgp.Setup{Node: bgp.NodeConfig{NextHop: nextHop6(), Neighbors: []bgp.NeighborConfig{both("left", "127.0.0.2", port), both("right", "127.0.0.3", port)}}})
	ours := prefix("192.0.2.0/24")
	s.Announce([]bgp.Route{{Prefix: ours}})
	testpeer.WaitFor(t, "both to have our route, and us to have heard theirs", func() bool {
		_, l := left.Routes(t, "edge")[ours]
		_, r := right.Routes(t, "edge")[ours]
		return l && r && neighbor(t, s, "left").Received == 1
	})
	// Whatever was to follow the foreign route has had a change's time to do so.
	s.Announce([]bgp.Route{{Prefix: ours}, {Prefix: prefix("198.51.100.0/24")}})
	testpeer.WaitFor(t, "right to have one more", func() bool { return len(right.Routes(t, "edge")) > 1 })
	if _, ok := right.Routes(t, "edge")[foreign]; ok {
		t.Errorf("%s went from one neighbor to the other", foreign)
	}
	for _, n := range s.Status().Neighbors {
		for _, r := range n.Sent {
			if r.Prefix == foreign {
				t.Errorf("%s was sent to %s", foreign, n.Name)
			}
		}
	}
}

// TestOneNeighborDown holds the other harmless.
func TestOneNeighborDown(t *testing.T) {
	port := testpeer.FreePort(t, "127.0.0.2")
	b := testpeer.StartBIRD(t, birdConf("192.0.2.101", birdSession("127.0.0.2", port, "")))
	s, stop := run(t, bgp.Setup{Node: bgp.NodeConfig{NextHop: nextHop6(), Neighbors: []bgp.NeighborConfig{
		both("down", "127.0.0.9", testpeer.FreePort(t, "127.0.0.9")), both("up", "127.0.0.2", port),
	}}})
	s.Announce([]bgp.Route{{Prefix: prefix("192.0.2.0/24")}})
	testpeer.WaitFor(t, "the route at the neighbor that is up", func() bool { return len(b.Routes(t, "edge")) == 1 })
	testpeer.WaitFor(t, "what was negotiated", func() bool { return neighbor(t, s, "up").Hold > 0 })
	waitError(t, s, "down", "TCP never connects (refused)", "127.0.0.9", "check its address and port")
	if m := s.Mismatch(); len(m) > 0 {
		t.Errorf("a neighbor that is down is no mismatch: %v", m)
	}
	st := neighbor(t, s, "up")
	if st.Hold != 9*time.Second || st.Keepalive != 3*time.Second || strings.Join(st.Families, " ") != "ipv4 ipv6" || st.Limit != 1000 {
		t.Errorf("negotiated: %+v", st)
	}
	begin := time.Now()
	stop()
	if d := time.Since(begin); d > 2500*time.Millisecond {
		t.Errorf("stopping took %s", d)
	}
}

// TestWrongAS says what does not match, whoever notices.
func TestWrongAS(t *testing.T) {
	port := testpeer.FreePort(t, "127.0.0.2")
	conf := func(ours uint32) string {
		return birdConf("192.0.2.101", strings.ReplaceAll(birdSession("127.0.0.2", port, ""), fmt.Sprint(edgeASN), fmt.Sprint(ours)))
	}
	t.Run("the neighbor is another", func(t *testing.T) {
		testpeer.StartBIRD(t, conf(edgeASN))
		n := both("peer", "127.0.0.2", port)
		n.ASN = 64999
		s, _ := run(t, bgp.Setup{Node: bgp.NodeConfig{NextHop: nextHop6(), Neighbors: []bgp.NeighborConfig{n}}})
		waitError(t, s, "peer", "OPEN error: bad peer AS (2/2)", "127.0.0.2 is not AS 64999", "check this neighbor's asn")
	})
	t.Run("the neighbor expects another", func(t *testing.T) {
		testpeer.StartBIRD(t, conf(65099))
		s, _ := run(t, bgp.Setup{Node: bgp.NodeConfig{NextHop: nextHop6(), Neighbors: []bgp.NeighborConfig{both("peer", "127.0.0.2", port)}}})
		waitError(t, s, "peer", "refused our OPEN", "bad peer AS", fmt.Sprintf("another AS than our %d", edgeASN))
	})
	t.Run("FRR expects another", func(t *testing.T) {
		port := testpeer.FreePort(t, "127.0.0.3")
		testpeer.StartFRR(t, "127.0.0.3", port, strings.ReplaceAll(frrConf(""), fmt.Sprint(edgeASN), "65099"))
		s, _ := run(t, bgp.Setup{Node: bgp.NodeConfig{NextHop: nextHop6(), Neighbors: []bgp.NeighborConfig{both("peer", "127.0.0.3", port)}}})
		waitError(t, s, "peer", "refused our OPEN", "bad peer AS", fmt.Sprintf("another AS than our %d", edgeASN))
	})
}

// TestRestart kills the peer and shuts it down, and wants the routes back soon.
func TestRestart(t *testing.T) {
	port := testpeer.FreePort(t, "127.0.0.2")
	b := testpeer.StartBIRD(t, birdConf("192.0.2.101", birdSession("127.0.0.2", port, "")))
	var events []bgp.Event
	told := make(chan bgp.Event, 100)
	s, _ := run(t, bgp.Setup{
		Node:    bgp.NodeConfig{NextHop: nextHop6(), Neighbors: []bgp.NeighborConfig{both("peer", "127.0.0.2", port)}},
		OnEvent: func(e bgp.Event) { told <- e },
	})
	s.Announce([]bgp.Route{{Prefix: prefix("192.0.2.0/24"), MED: new(uint32(7))}, {Prefix: prefix("2001:db8:a::/48")}})
	there := func() bool { return len(b.Routes(t, "edge")) == 2 }
	testpeer.WaitFor(t, "routes", there)

	b.Kill()
	waitState(t, s, "peer", bgp.Idle)
	if sent := neighbor(t, s, "peer").Sent; len(sent) > 0 {
		t.Errorf("nothing is with a neighbor that is down, not %v", sent)
	}
	b.Start(t)
	testpeer.WaitFor(t, "routes after the kill", there)
	if e := neighbor(t, s, "peer").LastError; !strings.Contains(e, "without a NOTIFICATION") {
		t.Errorf("last error after the kill: %q", e)
	}

	b.Ask(t, "disable edge \"fibre works until 03:00\"")
	waitError(t, s, "peer", "cease: administrative shutdown (6/2)", `"fibre works until 03:00"`)
	b.Ask(t, "enable edge")
	testpeer.WaitFor(t, "routes after the shutdown", there)

	n := neighbor(t, s, "peer")
	if n.Flaps != 2 {
		t.Errorf("flaps: %d, want 2", n.Flaps)
	}
	for len(events) < 5 {
		select {
		case e := <-told:
			events = append(events, e)
		case <-time.After(testpeer.Patience):
			t.Fatalf("events: %v", events)
		}
	}
	for i, e := range events {
		if e.Up != (i%2 == 0) || e.Neighbor != "peer" || !e.Up && e.Text == "" {
			t.Errorf("event %d: %+v", i, e)
		}
	}
}

// TestRedialIsFast measures how soon a settled session comes back: no 5 s of
// idling.
func TestRedialIsFast(t *testing.T) {
	if testing.Short() {
		t.Skip("waits until a session has settled")
	}
	port := testpeer.FreePort(t, "127.0.0.2")
	b := testpeer.StartBIRD(t, birdConf("192.0.2.101", birdSession("127.0.0.2", port, "")))
	s, _ := run(t, bgp.Setup{Node: bgp.NodeConfig{NextHop: nextHop6(), Neighbors: []bgp.NeighborConfig{both("peer", "127.0.0.2", port)}}})
	s.Announce([]bgp.Route{{Prefix: prefix("192.0.2.0/24")}})
	testpeer.WaitFor(t, "a settled session", func() bool {
		n := neighbor(t, s, "peer")
		return n.State == bgp.Established && time.Since(n.Since) > 11*time.Second
	})
	b.Kill()
	b.Start(t)
	begin := time.Now()
	testpeer.WaitFor(t, "routes", func() bool { return len(b.Routes(t, "edge")) == 1 })
	d := time.Since(begin)
	t.Logf("routes back %s after the neighbor was", d)
	if d > 5*time.Second {
		t.Errorf("routes came back after %s, want less than the 5s that the library would idle", d)
	}
}

// TestStopWithdrawsFirst lets BIRD's log tell the order.
func TestStopWithdrawsFirst(t *testing.T) {
	port := testpeer.FreePort(t, "127.0.0.2")
	b := testpeer.StartBIRD(t, birdConf("192.0.2.101", birdSession("127.0.0.2", port, "debug all;")))
	s, stop := run(t, bgp.Setup{Node: bgp.NodeConfig{NextHop: nextHop6(), Neighbors: []bgp.NeighborConfig{both("peer", "127.0.0.2", port)}}})
	s.Announce([]bgp.Route{{Prefix: prefix("192.0.2.0/24")}, {Prefix: prefix("2001:db8:a::/48")}})
	testpeer.WaitFor(t, "routes", func() bool { return len(b.Routes(t, "edge")) == 2 })
	stop()
	testpeer.WaitFor(t, "the end of the session", func() bool { return strings.Contains(b.Log(), "Received: Peer de-configured") })
	log := b.Log()
	end := strings.Index(log, "Received: Peer de-configured")
	for _, p := range []string{"192.0.2.0/24", "2001:db8:a::/48"} {
		gone := strings.Index(log, "edge.ipv4 > removed [sole] "+p)
		if strings.Contains(p, ":") {
			gone = strings.Index(log, "edge.ipv6 > removed [sole] "+p)
		}
		if gone < 0 || gone > end {
			t.Errorf("%s was not withdrawn before the session ended (%d, %d)", p, gone, end)
		}
	}
	for _, n := range s.Status().Neighbors {
		if n.State != bgp.Idle || len(n.Sent) > 0 {
			t.Errorf("after the stop: %+v", n)
		}
	}
}

// TestIPv6Session carries both families over IPv6; IPv4 with an IPv6 next hop (RFC 8950).
func TestIPv6Session(t *testing.T) {
	port := testpeer.FreePort(t, "::1")
	b := testpeer.StartBIRD(t, birdConf("192.0.2.101", fmt.Sprintf(`protocol bgp edge {
	local ::1 port %d as 64501;
	neighbor ::1 as %d;
	multihop; strict bind yes; passive; error wait time 1,2;
	ipv4 { import all; export none; extended next hop on; };
	ipv6 { import all; export none; };
}`, port, edgeASN)))
	s, _ := run(t, bgp.Setup{Node: bgp.NodeConfig{Neighbors: []bgp.NeighborConfig{
		{Name: "peer", Address: addr("::1"), Port: port, ASN: 64501, Families: []string{"ipv4", "ipv6"}},
	}}})
	s.Announce([]bgp.Route{{Prefix: prefix("192.0.2.0/24")}, {Prefix: prefix("2001:db8:a::/48"), Prepend: 1}})
	testpeer.WaitFor(t, "both routes via ::1", func() bool {
		got := b.Routes(t, "edge")
		return got[prefix("192.0.2.0/24")].NextHop == addr("::1") && got[prefix("2001:db8:a::/48")].NextHop == addr("::1")
	})
	testpeer.WaitFor(t, "no mismatch", func() bool { return len(s.Mismatch()) == 0 })
}

// TestInternal lets a route be disfavored inside the own AS by LOCAL_PREF, where
// a longer path would be a loop.
func TestInternal(t *testing.T) {
	const asn = 64501
	port := testpeer.FreePort(t, "127.0.0.2")
	b := testpeer.StartBIRD(t, birdConf("192.0.2.101", strings.ReplaceAll(birdSession("127.0.0.2", port, ""), fmt.Sprint(edgeASN), fmt.Sprint(asn))))
	n := both("peer", "127.0.0.2", port)
	n.Multihop = 0
	s, _ := run(t, bgp.Setup{Config: bgp.Config{ASN: asn}, Node: bgp.NodeConfig{NextHop: nextHop6(), Neighbors: []bgp.NeighborConfig{n}}})
	p := prefix("192.0.2.0/24")
	for _, step := range []struct {
		route bgp.Route
		pref  uint32
	}{
		{bgp.Route{Prefix: p}, 100},
		{bgp.Route{Prefix: p, Prepend: 3}, 97},
		{bgp.Route{Prefix: p, Communities: []bgp.Community{bgp.GracefulShutdown}}, 0},
	} {
		s.Announce([]bgp.Route{step.route})
		testpeer.WaitFor(t, fmt.Sprintf("LOCAL_PREF %d", step.pref), func() bool {
			r, ok := b.Routes(t, "edge")[p]
			return ok && value(r.LocalPref) == step.pref && len(r.ASPath) == 0
		})
		testpeer.WaitFor(t, "no mismatch", func() bool { return len(s.Mismatch()) == 0 })
	}
}

// TestListen lets the neighbor dial.
func TestListen(t *testing.T) {
	port, theirs := testpeer.FreePort(t, "127.0.0.1"), testpeer.FreePort(t, "127.0.0.2")
	silent := testpeer.FreePort(t, "127.0.0.2") // where we dial in vain
	b := testpeer.StartBIRD(t, birdConf("192.0.2.101", fmt.Sprintf(`protocol bgp edge {
	local 127.0.0.2 port %d as 64501;
	neighbor 127.0.0.1 port %d as %d;
	multihop; strict bind yes; error wait time 1,2; connect delay time 1; connect retry time 1;
	ipv4 { import all; export none; };
}`, theirs, port, edgeASN)))
	node := bgp.NodeConfig{Listen: []string{fmt.Sprintf("127.0.0.1:%d", port)}, Neighbors: []bgp.NeighborConfig{
		{Name: "peer", Address: addr("127.0.0.2"), Port: silent, ASN: 64501, Multihop: 1},
	}}
	s, _ := run(t, bgp.Setup{Node: node})
	s.Announce([]bgp.Route{{Prefix: prefix("192.0.2.0/24")}})
	testpeer.WaitFor(t, "the route", func() bool { return len(b.Routes(t, "edge")) == 1 })

	t.Run("address in use", func(t *testing.T) {
		err := newSpeaker(t, bgp.Setup{Node: node}).Run(t.Context(), func() { t.Error("ready without its address") })
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("listen on 127.0.0.1:%d: address in use", port)) || strings.Contains(err.Error(), "\n") {
			t.Errorf("error: %v", err)
		}
	})
}

// TestMaxPrefix closes the session with a neighbor that sends too much, and
// tries again after the time.
func TestMaxPrefix(t *testing.T) {
	port := testpeer.FreePort(t, "127.0.0.2")
	static := "protocol static { ipv4; "
	for i := range 5 {
		static += fmt.Sprintf("route %s blackhole; ", netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(i * 16)}), 28))
	}
	testpeer.StartBIRD(t, birdConf("192.0.2.101", static+"}", birdSession("127.0.0.2", port, "")))
	peer := func(action string) bgp.Setup {
		n := both("peer", "127.0.0.2", port)
		n.MaxPrefix = &bgp.MaxPrefixConfig{Limit: 3, Action: action, After: new(2 * time.Second)}
		return bgp.Setup{Node: bgp.NodeConfig{NextHop: nextHop6(), Neighbors: []bgp.NeighborConfig{n}}}
	}
	t.Run("restart", func(t *testing.T) {
		s, _ := run(t, peer("restart"))
		waitError(t, s, "peer", "more prefixes than max_prefix 3", "next try at")
		testpeer.WaitFor(t, "a second try", func() bool { return neighbor(t, s, "peer").Flaps >= 2 })
	})
	t.Run("warn", func(t *testing.T) {
		s, _ := run(t, peer("warn"))
		testpeer.WaitFor(t, "all of theirs", func() bool { return neighbor(t, s, "peer").Received == 5 })
		if st := neighbor(t, s, "peer"); st.State != bgp.Established || st.Limit != 3 {
			t.Errorf("with warn: %+v", st)
		}
	})
}

// TestTurnedAway has neighbors that are no BGP speakers, or want none.
func TestTurnedAway(t *testing.T) {
	// Marker, length 21, NOTIFICATION, cease: connection rejected.
	rejected := append(bytes.Repeat([]byte{0xff}, 16), 0, 21, 3, 6, 5)
	for _, tt := range []struct {
		name   string
		answer []byte
		want   []string
	}{
		{"hangs up", nil, []string{"closes the connection before it sends an OPEN", "neighbor statement"}},
		{"sends a NOTIFICATION first", rejected, []string{"refused our OPEN with a NOTIFICATION"}},
		{"speaks something else", []byte("220 mail.example ESMTP ready\r\n"), []string{"message header error", "connection not synchronized (1/1)"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.2:0")
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			t.Cleanup(func() { ln.Close(); <-done })
			go func() {
				defer close(done)
				for {
					conn, err := ln.Accept()
					if err != nil {
						return
					}
					conn.Read(make([]byte, 1024)) // its OPEN, so that closing sends no RST
					conn.Write(tt.answer)
					conn.Close()
				}
			}()
			s, _ := run(t, bgp.Setup{Node: bgp.NodeConfig{NextHop: nextHop6(), Neighbors: []bgp.NeighborConfig{both("peer", "127.0.0.2", netip.MustParseAddrPort(ln.Addr().String()).Port())}}})
			waitError(t, s, "peer", tt.want...)
		})
	}
}

// TestFamilyRefused: what a neighbor does not take is a mismatch that says so.
func TestFamilyRefused(t *testing.T) {
	port := testpeer.FreePort(t, "127.0.0.2")
	testpeer.StartBIRD(t, birdConf("192.0.2.101", strings.Replace(birdSession("127.0.0.2", port, ""), "ipv6 { import all; export all; };", "", 1)))
	s, _ := run(t, bgp.Setup{Node: bgp.NodeConfig{NextHop: nextHop6(), Neighbors: []bgp.NeighborConfig{both("peer", "127.0.0.2", port)}}})
	p := prefix("2001:db8:a::/48")
	s.Announce([]bgp.Route{{Prefix: prefix("192.0.2.0/24")}, {Prefix: p}})
	testpeer.WaitFor(t, "the mismatch", func() bool {
		m := s.Mismatch()
		return len(m) == 1 && m[0] == bgp.Mismatch{Neighbor: "peer", Prefix: p, Text: "not sent: the neighbor does not take ipv6"}
	})
}

// TestFrozenNeighbor: a neighbor that answers nothing any more costs the hold
// time, and does not keep us from stopping.
func TestFrozenNeighbor(t *testing.T) {
	port := testpeer.FreePort(t, "127.0.0.2")
	b := testpeer.StartBIRD(t, birdConf("192.0.2.101", birdSession("127.0.0.2", port, "")))
	setup := bgp.Setup{
		Config: bgp.Config{Timers: bgp.TimersConfig{Hold: new(3 * time.Second)}},
		Node:   bgp.NodeConfig{NextHop: nextHop6(), Neighbors: []bgp.NeighborConfig{both("peer", "127.0.0.2", port)}},
	}
	up := func(t *testing.T) (*bgp.Speaker, func()) {
		t.Helper()
		s, stop := run(t, setup)
		s.Announce([]bgp.Route{{Prefix: prefix("192.0.2.0/24")}})
		testpeer.WaitFor(t, "routes", func() bool { return len(b.Routes(t, "edge")) == 1 })
		b.Freeze()
		t.Cleanup(b.Thaw)
		return s, stop
	}
	t.Run("hold timer", func(t *testing.T) {
		s, _ := up(t)
		waitError(t, s, "peer", "we closed the session: hold timer expired (4/0)", "nothing was heard")
	})
	t.Run("stop", func(t *testing.T) {
		_, stop := up(t)
		begin := time.Now()
		stop()
		if d := time.Since(begin); d > 5*time.Second {
			t.Errorf("stopping took %s", d)
		}
	})
}
