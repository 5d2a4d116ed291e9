package lab_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"anyedge/internal/lab"
)

// A bird is a BIRD that announces what an edge would, from one address.
type bird struct {
	socket, conf string
	text         string
}

// startBIRD runs a BIRD that speaks to the router from addr.
func startBIRD(t *testing.T, addr netip.Addr, router netip.AddrPort) *bird {
	t.Helper()
	program := need(t, "bird")
	dir := t.TempDir()
	b := &bird{socket: filepath.Join(dir, "ctl"), conf: filepath.Join(dir, "bird.conf")}
	b.text = fmt.Sprintf(`
router id %[1]s;
protocol device {}
protocol static web4 { ipv4; route 192.0.2.0/24 blackhole; }
protocol static web6 { ipv6; route 2001:db8:a::/48 blackhole; }
protocol bgp up {
	local %[1]s port 1790 as 65010;
	strict bind yes;
	source address %[1]s;
	neighbor %[2]s port %[3]d as 64501;
	multihop 2;
	connect delay time 1; connect retry time 1; error wait time 1, 2;
	ipv4 { import none; next hop address 203.0.113.1; export filter { EXTRA accept; }; };
	ipv6 { import none; next hop address 2001:db8:f::1; export filter { EXTRA accept; }; };
}
`, addr, router.Addr(), router.Port())
	b.write(t, "")
	// Not tied to the test's context: the test stops it before that ends.
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program, "-f", "-c", b.conf, "-s", b.socket, "-P", filepath.Join(dir, "pid"))
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	waitFor(t, "BIRD's socket", func() bool { _, err := os.Stat(b.socket); return err == nil })
	return b
}

// write writes the configuration, with extra statements in the export filters.
func (b *bird) write(t *testing.T, extra string) {
	t.Helper()
	if err := os.WriteFile(b.conf, bytes.ReplaceAll([]byte(b.text), []byte("EXTRA"), []byte(extra)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (b *bird) do(t *testing.T, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), need(t, "birdc"), append([]string{"-s", b.socket}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("birdc %v: %v: %s", args, err, out)
	}
}

// freePort returns a port of addr that nobody uses.
func freePort(t *testing.T, addr string) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", addr+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func TestRouterFollowsTheNearestGeo(t *testing.T) {
	at := freePort(t, "127.0.40.1")
	geos := map[string]netip.Addr{
		"fra": netip.MustParseAddr("127.0.41.1"),
		"iad": netip.MustParseAddr("127.0.41.2"),
		"nrt": netip.MustParseAddr("127.0.41.3"),
	}
	cfg := lab.RouterConfig{Name: "eu", ASN: 64501, Addr: at}
	for hops, geo := range []string{"fra", "iad", "nrt"} {
		cfg.Neighbors = append(cfg.Neighbors, lab.RouterNeighbor{Geo: geo, Addr: geos[geo], ASN: 65010, Hops: hops})
	}
	r := lab.NewRouter(cfg, logger(t))
	start(t, r.Run)
	birds := make(map[string]*bird)
	for geo, addr := range geos {
		birds[geo] = startBIRD(t, addr, at)
	}

	steps := []struct {
		name string
		do   func()
		want string
		path []uint32
	}{
		{"all announce: the nearest", func() {}, "fra", []uint32{65010}},
		{"the nearest withdraws: the next", func() { birds["fra"].do(t, "disable", "web4"); birds["fra"].do(t, "disable", "web6") }, "iad", []uint32{64510, 65010}},
		{"the next dies: the last", func() { birds["iad"].do(t, "disable", "up") }, "nrt", []uint32{64510, 64510, 65010}},
		{"the nearest is back", func() { birds["fra"].do(t, "enable", "web4"); birds["fra"].do(t, "enable", "web6") }, "fra", []uint32{65010}},
		{"all are back", func() { birds["iad"].do(t, "enable", "up") }, "fra", []uint32{65010}},
		{"the nearest prepends three times", func() {
			birds["fra"].drain(t, "bgp_path.prepend(65010); bgp_path.prepend(65010); bgp_path.prepend(65010);")
		}, "iad", []uint32{64510, 65010}},
		{"the nearest takes that back", func() { birds["fra"].drain(t, "") }, "fra", []uint32{65010}},
		{"the nearest says GRACEFUL_SHUTDOWN", func() { birds["fra"].drain(t, "bgp_community.add((65535,0));") }, "iad", []uint32{64510, 65010}},
		{"all have left", func() {
			for _, b := range birds {
				b.do(t, "disable", "up")
			}
		}, "", nil},
	}
	for _, step := range steps {
		if !t.Run(step.name, func(t *testing.T) {
			step.do()
			for _, p := range []string{"192.0.2.0/24", "2001:db8:a::/48"} {
				var got lab.Route
				var ok bool
				waitFor(t, p+" by "+step.want, func() bool {
					got, ok = r.Best(netip.MustParsePrefix(p))
					return ok == (step.want != "") && got.Geo == step.want
				})
				if !slices.Equal(got.ASPath, step.path) {
					t.Errorf("%s: path %v, want %v", p, got.ASPath, step.path)
				}
			}
		}) {
			return
		}
	}
}

// drain changes what is announced with the routes.
func (b *bird) drain(t *testing.T, extra string) {
	t.Helper()
	b.write(t, extra)
	b.do(t, "configure")
}

func TestRouterTellsOfChanges(t *testing.T) {
	at := freePort(t, "127.0.40.2")
	geo := netip.MustParseAddr("127.0.41.4")
	r := lab.NewRouter(lab.RouterConfig{
		Name: "eu", ASN: 64501, Addr: at,
		Neighbors: []lab.RouterNeighbor{{Geo: "fra", Addr: geo, ASN: 65010}},
	}, logger(t))
	start(t, r.Run)
	changed := r.Changed()
	startBIRD(t, geo, at)
	deadline := time.After(patience)
	for {
		select {
		case <-changed:
		case <-deadline:
			t.Fatal("nobody told of the new route")
		}
		changed = r.Changed()
		if best, ok := r.Best(netip.MustParsePrefix("192.0.2.0/24")); ok {
			if want := netip.MustParseAddr("203.0.113.1"); best.NextHop != want {
				t.Errorf("next hop %s, want %s", best.NextHop, want)
			}
			return
		}
	}
}
