package main_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"anyedge/internal/lab"
	"anyedge/internal/testpeer"
)

// dig asks a DNS server with the real client and returns its output.
func dig(t *testing.T, at string, words ...string) string {
	t.Helper()
	testpeer.Need(t, "dig")
	host, port, err := net.SplitHostPort(at)
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"-r", "@" + host, "-p", port, "+tries=3", "+time=10"}, words...)
	out, err := exec.CommandContext(t.Context(), "dig", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("dig %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// digShort returns the sorted lines of dig +short.
func digShort(t *testing.T, at string, words ...string) []string {
	t.Helper()
	lines := strings.FieldsFunc(dig(t, at, append(words, "+short")...), func(r rune) bool { return r == '\n' })
	slices.Sort(lines)
	return lines
}

// named runs instances of the demo's app, each at an address of its own.
func named(t *testing.T, ips ...string) []*lab.Backend {
	t.Helper()
	var out []*lab.Backend
	for i, ip := range ips {
		b := lab.NewBackend("here", fmt.Sprintf("app-%d", i), netip.AddrPortFrom(netip.MustParseAddr(ip), 0), logger(t))
		up(t, b)
		t.Cleanup(func() {
			if b.Alive() {
				_ = b.Down()
			}
		})
		out = append(out, b)
	}
	return out
}

// dnsConfig is a reverse proxy with a DNS server at at; its service app has
// these backends and one more that has no address.
func dnsConfig(t *testing.T, at string, apps []*lab.Backend) string {
	t.Helper()
	var backends strings.Builder
	for i, b := range apps {
		fmt.Fprintf(&backends, "      - {name: app-%d, url: \"http://%s\"}\n", i, b.Addr)
	}
	return fmt.Sprintf(`
node: {name: here, dns: {listen: "%s"}}
listeners:
  - {name: http, bind: ["%s:%d"]}
services:
  - name: app
    hosts: [app.localhost]
    health: {http: {path: /healthz, interval: 200ms, timeout: 1s, rise: 1, fall: 2}}
    backends:
%s  - name: far
    hosts: [far.localhost]
    backends: [{name: far-a, url: "http://localhost:1"}]
`, at, edgeIP, testpeer.FreePort(t, edgeIP), &backends)
}

// TestDNS: the daemon names the healthy backends, and those alone.
func TestDNS(t *testing.T) {
	t.Parallel()
	apps := named(t, "127.0.71.21", "127.0.71.22")
	at := fmt.Sprintf("%s:%d", edgeIP, testpeer.FreePort(t, edgeIP))
	d := start(t, dnsConfig(t, at, apps))
	both := []string{"127.0.71.21", "127.0.71.22"}
	testpeer.WaitFor(t, "both backends in DNS", func() bool { return slices.Equal(digShort(t, at, "app.internal", "A"), both) })

	t.Run("SRV", func(t *testing.T) {
		want := []string{
			fmt.Sprintf("0 1 %d 4-127-0-71-21.app.internal.", apps[0].Addr.Port()),
			fmt.Sprintf("0 1 %d 4-127-0-71-22.app.internal.", apps[1].Addr.Port()),
		}
		slices.Sort(want)
		if d := cmp.Diff(want, digShort(t, at, "app.internal", "SRV")); d != "" {
			t.Errorf("-want +got:\n%s", d)
		}
	})
	t.Run("an app's resolver", func(t *testing.T) { askAsAnApp(t, at, apps) })
	t.Run("geos", func(t *testing.T) {
		if d := cmp.Diff([]string{`"local up 0.0ms"`}, digShort(t, at, "geos.internal", "TXT")); d != "" {
			t.Errorf("-want +got:\n%s", d)
		}
	})
	t.Run("a backend without an address", func(t *testing.T) {
		if !strings.Contains(d.log.String(), "DNS leaves out backends whose URL has no IP address") {
			t.Error("the log says nothing")
		}
		if out := dig(t, at, "far.internal", "A"); !strings.Contains(out, "status: NOERROR") || !strings.Contains(out, "backends of far left out, for their URLs have no IP address: 1 of 1") {
			t.Errorf("got %s", out)
		}
	})
	t.Run("a backend dies and returns", func(t *testing.T) {
		down(t, apps[0])
		died := time.Now()
		testpeer.WaitFor(t, "the dead backend to leave DNS", func() bool { return slices.Equal(digShort(t, at, "app.internal", "A"), both[1:]) })
		t.Logf("out of the answer after %s (2 failed checks, 200 ms apart)", time.Since(died).Round(time.Millisecond))
		if got := backendHealth(t, d, "app-0"); got != "down" {
			t.Errorf("it left the answer while its health was %q", got)
		}
		down(t, apps[1])
		testpeer.WaitFor(t, "an answer without data", func() bool {
			out := dig(t, at, "app.internal", "A")
			return strings.Contains(out, "status: NOERROR") && strings.Contains(out, "ANSWER: 0, AUTHORITY: 1")
		})
		up(t, apps[0])
		up(t, apps[1])
		testpeer.WaitFor(t, "both backends in DNS again", func() bool { return slices.Equal(digShort(t, at, "app.internal", "A"), both) })
	})
}

// askAsAnApp looks names up as a program does, by Go's own resolver.
func askAsAnApp(t *testing.T, at string, apps []*lab.Backend) {
	t.Helper()
	r := &net.Resolver{PreferGo: true, StrictErrors: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, at)
	}}
	hosts, err := r.LookupHost(t.Context(), "app.internal.")
	slices.Sort(hosts)
	if d := cmp.Diff([]string{"127.0.71.21", "127.0.71.22"}, hosts); err != nil || d != "" {
		t.Errorf("%v, -want +got:\n%s", err, d)
	}
	_, records, err := r.LookupSRV(t.Context(), "", "", "app.internal.")
	if err != nil || len(records) != 2 {
		t.Fatalf("got %v, %v", records, err)
	}
	for _, rec := range records {
		ips, err := r.LookupNetIP(t.Context(), "ip4", rec.Target)
		if err != nil || len(ips) != 1 || !slices.ContainsFunc(apps, func(b *lab.Backend) bool { return b.Addr == netip.AddrPortFrom(ips[0].Unmap(), rec.Port) }) {
			t.Errorf("%+v is %v, %v", rec, ips, err)
		}
	}
}

func backendHealth(t *testing.T, d *daemon, name string) string {
	t.Helper()
	all, err := d.admin.Backends(t.Context(), "app")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range all.Backends {
		if b.Name == name {
			return b.Health
		}
	}
	t.Fatalf("no backend %s in %+v", name, all)
	return ""
}

// TestDNSPortTaken: the daemon says what is wrong and ends.
func TestDNSPortTaken(t *testing.T) {
	t.Parallel()
	taken, err := net.ListenPacket("udp4", edgeIP+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	path := setUp(t, dir, dnsConfig(t, taken.LocalAddr().String(), named(t, "127.0.71.23")))
	ctx, cancel := context.WithTimeout(t.Context(), testpeer.Patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, edgedBinary, "--config", filepath.Clean(path)).CombinedOutput()
	if err == nil || ctx.Err() != nil || !strings.Contains(string(out), "choose another address or port in node.dns.listen") {
		t.Errorf("%v:\n%s", err, out)
	}
}

// askDemoDNS asks every geo of a demo for the app: its own two instances come.
// The app of another geo is where the edge's own private listener is, which
// leads there.
func askDemoDNS(t *testing.T, d *demo) {
	t.Helper()
	for _, g := range d.file.Geos {
		own, _, _ := net.SplitHostPort(g.DNS)
		testpeer.WaitFor(t, "both instances of "+g.Name, func() bool { return len(digShort(t, g.DNS, "app.internal", "SRV")) == 2 })
		if got := digShort(t, g.DNS, "app.internal", "A"); !slices.Equal(got, []string{own}) {
			t.Errorf("%s: A %q, want %s", g.Name, got, own)
		}
		if got := digShort(t, g.DNS, "geos.internal", "TXT"); len(got) != 3 || !slices.Contains(got, `"`+g.Name+` up 0.0ms"`) {
			t.Errorf("%s: TXT %q", g.Name, got)
		}
		host, port, _ := net.SplitHostPort(g.Private)
		if got := digShort(t, g.DNS, "nrt.app.internal", "SRV"); !slices.Equal(got, []string{"0 1 " + port + " nrt.app.internal."}) {
			t.Errorf("%s: SRV of nrt's app %q, want port %s", g.Name, got, port)
		}
		if got := digShort(t, g.DNS, "nrt.app.internal", "A"); !slices.Equal(got, []string{host}) {
			t.Errorf("%s: A of nrt's app %q, want %s", g.Name, got, host)
		}
		url := "http://nrt.app.internal:" + port + "/"
		if _, got := curl(t, nil, "--resolve", "nrt.app.internal:"+port+":"+host, url); got.status != 200 || appSaid(t, got.body).Geo != "nrt" {
			t.Errorf("%s: nrt's app: %d %s", g.Name, got.status, got.body)
		}
	}
}
