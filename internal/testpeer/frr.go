package testpeer

import (
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// An FRR is FRR's bgpd, without zebra.
type FRR struct {
	process
	vty string
}

// StartFRR runs bgpd with the configuration, listening on addr and port. It
// installs no route. Sessions on loopback need "neighbor … passive" and
// "neighbor … disable-connected-check".
func StartFRR(tb testing.TB, addr string, port uint16, conf string) *FRR {
	tb.Helper()
	Need(tb, "bgpd", "vtysh")
	NeedRoot(tb) // bgpd insists on changing its user
	dir := tb.TempDir()
	f := &FRR{vty: filepath.Join(dir, "vty")}
	if err := os.Mkdir(f.vty, 0o755); err != nil { //nolint:gosec // bgpd drops its privileges and writes here
		tb.Fatal(err)
	}
	write(tb, filepath.Join(dir, "bgpd.conf"), conf)
	f.process = process{name: "bgpd", args: []string{
		"-f", filepath.Join(dir, "bgpd.conf"), "-n", "-Z", "-S", "-P", "0", "-p", strconv.Itoa(int(port)), "-l", addr,
		"-i", filepath.Join(dir, "bgpd.pid"), "--vty_socket", f.vty, "--log", "stdout",
	}}
	f.Start(tb)
	return f
}

// Start runs bgpd again after Kill, and waits until it answers.
func (f *FRR) Start(tb testing.TB) {
	tb.Helper()
	f.start(tb)
	WaitFor(tb, "bgpd to answer", func() bool {
		if !f.running() {
			tb.Fatalf("bgpd ended by itself:\n%s", f.output)
		}
		return strings.Contains(f.Ask(tb, "show version"), "FRRouting")
	})
}

// Ask returns vtysh's answer to a command.
func (f *FRR) Ask(tb testing.TB, command string) string {
	tb.Helper()
	out, err := exec.CommandContext(tb.Context(), find("vtysh"), "--vty_socket", f.vty, "-d", "bgpd", "-c", command).CombinedOutput()
	if err != nil {
		return ""
	}
	return string(out)
}

// frrRoute is one route of "show bgp … json detail".
type frrRoute struct {
	Paths []struct {
		ASPath struct {
			Segments []struct{ List []uint32 }
		}
		Metric         *uint32
		LocPrf         *uint32
		Community      struct{ List []string }
		LargeCommunity struct{ List []string }
		Nexthops       []struct {
			IP    netip.Addr
			Scope string
		}
	}
}

// Routes returns the IPv4 and IPv6 routes that bgpd knows, by prefix.
func (f *FRR) Routes(tb testing.TB) map[netip.Prefix]Route {
	tb.Helper()
	routes := make(map[netip.Prefix]Route)
	for _, family := range []string{"ipv4", "ipv6"} {
		var table struct {
			Routes map[netip.Prefix]json.RawMessage
		}
		if json.Unmarshal([]byte(f.Ask(tb, "show bgp "+family+" unicast json")), &table) != nil {
			continue
		}
		for prefix := range table.Routes {
			var r frrRoute
			answer := f.Ask(tb, "show bgp "+family+" unicast "+prefix.String()+" json")
			if json.Unmarshal([]byte(answer), &r) == nil && len(r.Paths) > 0 {
				routes[prefix] = r.route(prefix)
			}
		}
	}
	return routes
}

func (f frrRoute) route(prefix netip.Prefix) Route {
	p := f.Paths[0]
	r := Route{Prefix: prefix, MED: p.Metric, LocalPref: p.LocPrf, LargeCommunities: p.LargeCommunity.List}
	for _, s := range p.ASPath.Segments {
		r.ASPath = append(r.ASPath, s.List...)
	}
	for _, n := range p.Nexthops {
		if !r.NextHop.IsValid() || n.Scope == "global" {
			r.NextHop = n.IP
		}
	}
	for _, c := range p.Community.List {
		if c == "gracefulShutdown" {
			c = "65535:0"
		}
		r.Communities = append(r.Communities, c)
	}
	slices.Sort(r.Communities)
	slices.Sort(r.LargeCommunities)
	return r
}
