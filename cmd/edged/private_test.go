package main_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"anyedge/internal/api"
	"anyedge/internal/lab"
	"anyedge/internal/testpeer"
)

// TestCallsBetweenGeos: an app of fra asks DNS for a service in iad, and gets
// there through the private listener of its own edge.
func TestCallsBetweenGeos(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "fra", "iad")
	apps := map[string]*lab.Backend{"fra": startApp(t, "fra", "fra-a"), "iad": startApp(t, "iad", "iad-a")}
	daemons, dns, calls := map[string]*daemon{}, map[string]string{}, map[string]string{}
	for _, geo := range []string{"fra", "iad"} {
		_, g := f.find(geo)
		ip := g.listen.Addr().String()
		dns[geo] = fmt.Sprintf("%s:%d", ip, testpeer.FreePort(t, ip))
		calls[geo] = fmt.Sprintf("%s:%d", ip, testpeer.FreePort(t, ip))
		dir := f.write(t, geo, appService(apps[geo].Addr.String()))
		addPrivate(t, dir, dns[geo], calls[geo])
		daemons[geo] = startIn(t, dir)
	}
	g := &twoGeos{fleet: f, apps: apps, client: browser(t, ""), fra: daemons["fra"], other: daemons["iad"]}
	g.waitTogether(t)
	to := func(t *testing.T, host string, fields ...string) reply {
		t.Helper()
		return mustAsk(t, g.client, "POST", "http://"+calls["fra"]+"/any", []byte("x"), append(fields, "Host", host)...)
	}

	t.Run("names", func(t *testing.T) {
		at := netip.MustParseAddrPort(calls["fra"])
		for _, geo := range []string{"fra", "iad"} {
			if got := digShort(t, dns["fra"], geo+".app.internal", "A"); len(got) != 1 || got[0] != at.Addr().String() {
				t.Errorf("%s: A %q, want %s", geo, got, at.Addr())
			}
			want := fmt.Sprintf("0 1 %d %s.app.internal.", at.Port(), geo)
			if got := digShort(t, dns["fra"], geo+".app.internal", "SRV"); len(got) != 1 || got[0] != want {
				t.Errorf("%s: SRV %q, want %s", geo, got, want)
			}
		}
		for _, name := range []string{"nrt.app.internal", "iad.web.internal"} {
			if out := dig(t, dns["fra"], name, "A"); !strings.Contains(out, "status: NXDOMAIN") {
				t.Errorf("%s: %s", name, out)
			}
		}
	})
	t.Run("there", func(t *testing.T) {
		a := wantServed(t, to(t, "iad.app.internal", "Edge-Hop", "shed", "Edge-Visited", "iad", "Replay-Geo-Src", "geo=iad"), "iad")
		if src := a.Via["Replay-Geo-Src"]; !strings.HasPrefix(src, "geo=fra, node=fra-edge1, t=") || a.Method != "POST" || a.Path != "/any" {
			t.Errorf("iad's app got %+v", a)
		}
	})
	t.Run("here", func(t *testing.T) {
		wantServed(t, to(t, "app.internal"), "fra")
		wantServed(t, to(t, "fra.app.internal"), "fra")
	})
	t.Run("neither", func(t *testing.T) {
		for host, status := range map[string]int{"nrt.app.internal": 404, "iad.web.internal": 404, "www.example.net": 421} {
			if got := to(t, host); got.status != status {
				t.Errorf("%s: %d %s", host, got.status, got.body)
			}
		}
		// For a client it is a host like any other.
		wantServed(t, mustAsk(t, g.client, "GET", f.url("fra")+"/", nil, "Host", "iad.app.internal"), "fra")
	})
	t.Run("it carries no VIP", func(t *testing.T) {
		down(t, apps["fra"])
		waitVIPState(t, g.fra, "withdrawn")
		if got := to(t, "app.internal"); got.status != 503 {
			t.Errorf("a call of this geo: %d %s", got.status, got.body)
		}
		wantServed(t, to(t, "iad.app.internal"), "iad")
	})
	t.Run("a geo that died", func(t *testing.T) {
		g.other.kill()
		waitGeo(t, g.fra, "iad", func(row api.Geo) bool { return row.State == "unseen" })
		if got := to(t, "iad.app.internal"); got.status != http.StatusServiceUnavailable || got.header.Get("Replay-Geo-Error") != "no-candidate" {
			t.Errorf("%d %v %s", got.status, got.header, got.body)
		}
	})
}

// addPrivate gives the configuration in dir a DNS server and a private listener.
func addPrivate(t *testing.T, dir, dns, calls string) {
	t.Helper()
	path := filepath.Join(dir, "edged.yaml")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(b), "listeners:\n", fmt.Sprintf("listeners:\n  - {name: calls, private: true, bind: [\"%s\"]}\n", calls), 1)
	text = strings.Replace(text, "  fabric:\n", fmt.Sprintf("  dns: {listen: \"%s\"}\n  fabric:\n", dns), 1)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
