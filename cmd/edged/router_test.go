package main_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"anyedge/internal/api"
	"anyedge/internal/testpeer"
)

const (
	edgeASN = 65010
	birdASN = 65001
)

// The prefix that the tests announce.
var vipPrefix = netip.MustParsePrefix("203.0.113.0/24") //nolint:gochecknoglobals // a constant in all but the word

// startBIRD runs a BIRD that waits for the edge's session and expects it to be
// in AS expects.
func startBIRD(t *testing.T, expects int) (*testpeer.BIRD, uint16) {
	t.Helper()
	port := testpeer.FreePort(t, birdIP)
	return testpeer.StartBIRD(t, fmt.Sprintf(`log stderr all; debug protocols { states, routes, events };
router id 192.0.2.101;
protocol device {}
protocol bgp edge {
	local %s port %d as %d;
	neighbor %s as %d;
	multihop; strict bind yes; passive; error wait time 1,2;
	ipv4 { import all; export all; };
}`, birdIP, port, birdASN, edgeIP, expects)), port
}

// announced is the configuration of one geo that announces a VIP to BIRD. It is
// alone, so nothing guards its last announcement.
func announced(birdPort, neighborASN, listen int, drainWait, more, services string) string {
	return fmt.Sprintf(`
node:
  geo: fra
  name: fra-edge1
  number: 1
  router_id: 192.0.2.1
  bgp:
    neighbors:
      - {name: bird, address: %[1]s, port: %[2]d, asn: %[3]d, local_address: %[4]s, multihop: 1}
geos: [{name: fra, number: 1, fabric: ["192.0.2.1:8443"]}]
bgp: {asn: %[5]d, timers: {hold: 9s, connect_retry: 1s}}
vips:
  - name: www
    prefixes: [%[6]s]
    announce: {communities: ["65001:100"]}
    drain: {wait: %[7]s, prepend: 3}
    stability: {rise: 200ms, fall: 200ms, hold_up: 0s, hold_down: 500ms}
    guard: {min_others: 0}
listeners:
  - {name: http, vips: [www], bind: ["%[4]s:%[8]d"]}
%[9]s
services:
%[10]s`, birdIP, birdPort, neighborASN, edgeIP, edgeASN, vipPrefix, drainWait, listen, more, services)
}

// hears returns BIRD's route to the prefix.
func hears(t *testing.T, b *testpeer.BIRD) (testpeer.Route, bool) {
	t.Helper()
	r, ok := b.Routes(t, "edge")[vipPrefix]
	return r, ok
}

func plain(r testpeer.Route) bool {
	return slices.Equal(r.ASPath, []uint32{edgeASN}) && slices.Equal(r.Communities, []string{"65001:100"})
}

// disfavored tells the route of a VIP that drains: GRACEFUL_SHUTDOWN (RFC 8326)
// and three more of our AS.
func disfavored(r testpeer.Route) bool {
	return slices.Equal(r.ASPath, []uint32{edgeASN, edgeASN, edgeASN, edgeASN}) && slices.Contains(r.Communities, "65535:0")
}

// waitPlain waits until BIRD has the route as it is when all is well.
func waitPlain(t *testing.T, b *testpeer.BIRD) {
	t.Helper()
	testpeer.WaitFor(t, "the route at BIRD", func() bool { r, ok := hears(t, b); return ok && plain(r) })
}

func waitGone(t *testing.T, b *testpeer.BIRD) {
	t.Helper()
	testpeer.WaitFor(t, "the route's end at BIRD", func() bool { _, ok := hears(t, b); return !ok })
}

// waitVIP waits until the daemon says that the VIP is in the state and that
// BIRD was sent, or not sent, its prefix.
func waitVIP(t *testing.T, d *daemon, state string, advertised bool) api.VIP {
	t.Helper()
	var last api.Routes
	defer func() {
		if t.Failed() {
			t.Logf("routes: %+v", last)
		}
	}()
	testpeer.WaitFor(t, "VIP www to be "+state, func() bool {
		last = d.routes(t)
		return len(last.VIPs) == 1 && last.VIPs[0].State == state &&
			last.VIPs[0].Prefixes[0].Neighbors[0].Advertised == advertised && len(last.Mismatch) == 0
	})
	return last.VIPs[0]
}

// TestRoutes is the story that `edgectl routes` tells: announced, withdrawn
// when no backend is left, announced again; each with its reason, and BIRD
// hears the same.
func TestRoutes(t *testing.T) {
	t.Parallel()
	bird, port := startBIRD(t, edgeASN)
	a, b := startApp(t, "fra", "app-a"), startApp(t, "fra", "app-b")
	services := fmt.Sprintf(`  - name: app
    hosts: ["*"]
    backends: [{name: app-a, url: "http://%s"}, {name: app-b, url: "http://%s"}]
    health: {http: {path: /healthz, interval: 100ms, timeout: 2s, rise: 2, fall: 2}}
`, a.Addr, b.Addr)
	d := start(t, announced(int(port), birdASN, int(testpeer.FreePort(t, edgeIP)), "300ms", "", services))

	waitReason := func(state, reason string, advertised bool) {
		t.Helper()
		testpeer.WaitFor(t, state+" because of "+reason, func() bool {
			v := waitVIP(t, d, state, advertised)
			return v.Cause.Reason == reason && v.Want == state
		})
	}
	waitReason("announced", "any_backend: 2 of 2 backends up", true)
	waitPlain(t, bird)
	sent := d.routes(t).VIPs[0].Prefixes[0]
	if n := sent.Neighbors[0]; sent.Prefix != vipPrefix.String() || n.Neighbor != "bird" || n.NextHop != edgeIP ||
		!slices.Equal(n.ASPath, []uint32{edgeASN}) || !slices.Equal(n.Communities, []string{"65001:100"}) {
		t.Errorf("sent: %+v", sent)
	}

	down(t, a)
	testpeer.WaitFor(t, "app-a to be down", func() bool {
		s, err := d.admin.Services(t.Context())
		return err == nil && s.Services[0].Healthy == 1
	})
	if v := waitVIP(t, d, "announced", true); v.Want != "announced" {
		t.Errorf("with one backend left: %+v", v)
	}
	down(t, b)
	waitReason("withdrawn", "any_backend: 0 of 2 backends up", false)
	waitGone(t, bird)

	up(t, b)
	waitReason("announced", "any_backend: 1 of 2 backends up", true)
	waitPlain(t, bird)
	wantHistory(t, d)
}

// wantHistory checks the transitions and the events of TestRoutes.
func wantHistory(t *testing.T, d *daemon) {
	t.Helper()
	const none = "any_backend: 0 of 2 backends up"
	want := []string{
		"idle -> announced: any_backend: 2 of 2 backends up", "announced -> draining: " + none,
		"draining -> withdrawn: " + none, "withdrawn -> announced: any_backend: 1 of 2 backends up",
	}
	var got []string
	for _, h := range d.routes(t).VIPs[0].History {
		got = append(got, fmt.Sprintf("%s -> %s: %s", h.From, h.To, h.Cause.Reason))
	}
	if !slices.Equal(got, want) {
		t.Errorf("history:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	events := eventTexts(t, d)
	for _, e := range []string{
		"vip/www: announced -> draining (" + none + ")", "vip/www: draining -> withdrawn (" + none + ")",
		"backend/app/app-b: down", "backend/app/app-b: up", "neighbor/bird: established",
	} {
		if !strings.Contains(events, e) {
			t.Errorf("no event %q in:\n%s", e, events)
		}
	}
}

// A neighbor that refuses, or that we refuse, is shown with the NOTIFICATION's
// meaning and with what to look at.
func TestNeighborRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name         string
		expects, asn int // what BIRD expects us to be, what we expect it to be
		want         []string
	}{
		{"it expects another AS", 65099, birdASN, []string{"refused our OPEN with a NOTIFICATION", "bad peer AS", "another AS than our 65010"}},
		{"it is in another AS", edgeASN, 65098, []string{"OPEN error: bad peer AS (2/2)", "127.0.71.3 is not AS 65098", "check this neighbor's asn"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, port := startBIRD(t, tt.expects)
			app := startApp(t, "fra", "app-a")
			d := start(t, announced(int(port), tt.asn, int(testpeer.FreePort(t, edgeIP)), "0s", "", appService(app.Addr.String())))
			last := ""
			testpeer.WaitFor(t, fmt.Sprintf("a last error with %q", tt.want), func() bool {
				n := d.routes(t).Neighbors[0]
				if n.LastError != last {
					last = n.LastError
					t.Log(last)
				}
				return n.State != "established" && !slices.ContainsFunc(tt.want, func(w string) bool { return !strings.Contains(last, w) })
			})
			s, err := d.admin.Status(t.Context())
			if err != nil || s.Health != api.Bad || s.Parts[0].Name != "BGP" || s.Parts[0].Health != api.Bad {
				t.Errorf("status: %+v, %v", s, err)
			}
			v := waitVIP(t, d, "announced", false)
			if v.Want != "announced" {
				t.Errorf("%+v", v)
			}
		})
	}
}

// eventTexts returns the daemon's events, one a line.
func eventTexts(t *testing.T, d *daemon) string {
	t.Helper()
	events, err := d.admin.Events(t.Context(), 0, d.startedAt(t), 0)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, e := range events.Events {
		fmt.Fprintf(&b, "%s: %s\n", e.What, e.Text)
	}
	return b.String()
}
