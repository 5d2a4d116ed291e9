package configs_test

import (
	"net/netip"
	"path/filepath"
	"testing"

	"anyedge/configs"
	"anyedge/internal/steering"
	"anyedge/proxy/upstream"

	"github.com/google/go-cmp/cmp"
)

// parse returns the configuration of sections, which has no mistake.
func parse(t *testing.T, sections string) *configs.Config {
	t.Helper()
	c, report := configs.Parse("x", []byte(document(sections)))
	if c == nil {
		t.Fatalf("%v", brief(report))
	}
	return c
}

func TestListenerAddresses(t *testing.T) {
	c := parse(t, whole+`
vips:
  - {name: www, prefixes: [203.0.113.0/24, "2001:db8:a::/48"], addresses: [203.0.113.1, "2001:db8:a::1"], drain: {wait: 1s}}
  - {name: api, prefixes: [198.51.100.0/24, "2001:db8:b::/48"], addresses: [198.51.100.1], drain: {wait: 1s}}
listeners:
  - {name: web, vips: [www, api], port: 80}
  - {name: lab, vips: [www], port: 80, bind: ["127.0.0.1:0", "[::1]:8080"]}
`)
	want := [][]string{{"203.0.113.1:80", "[2001:db8:a::1]:80", "198.51.100.1:80"}, {"127.0.0.1:0", "[::1]:8080"}}
	for i, l := range c.Listeners {
		var got []string
		for _, a := range c.ListenerAddresses(l) {
			got = append(got, a.String())
		}
		if d := cmp.Diff(want[i], got); d != "" {
			t.Errorf("%s (-want +got):\n%s", l.Name, d)
		}
	}
}

func TestServicesHere(t *testing.T) {
	c := parse(t, service+"}]\nnode: {backends: {shop: [{name: b, url: 'http://127.0.0.1:3001', weight: 3}]}}\n")
	want := []upstream.BackendConfig{{Name: "a", URL: "http://127.0.0.1:3000"}, {Name: "b", URL: "http://127.0.0.1:3001", Weight: 3}}
	if d := cmp.Diff(want, c.ServicesHere()[0].Backends); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if len(c.Services[0].Backends) != 1 {
		t.Error("the configuration itself has changed")
	}
}

func TestVIPsHere(t *testing.T) {
	c := parse(t, whole+`
groups: [{name: us, geos: [iad]}, {name: eu, geos: [fra]}]
vips:
  - {name: a, prefixes: [203.0.113.0/24]}
  - {name: b, prefixes: [198.51.100.0/24], geos: [us]}
  - {name: c, prefixes: ["2001:db8:3::/48"], geos: [eu]}
  - {name: d, prefixes: ["2001:db8:4::/48"], geos: [all]}
  - {name: e, prefixes: ["2001:db8:5::/48"], geos: [iad, fra]}
  - {name: f, prefixes: ["2001:db8:6::/48"], geos: []}
`)
	var got []string
	for _, v := range c.VIPsHere() {
		got = append(got, v.Name)
	}
	if d := cmp.Diff([]string{"a", "c", "d", "e"}, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if d := cmp.Diff([]string{"fra", "iad"}, c.ExpandGeos([]string{"us", "fra"})); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestServicesOn(t *testing.T) {
	c := parse(t, whole+www+`
listeners:
  - {name: web, vips: [www], port: 80}
  - {name: lab, bind: ["127.0.0.1:1"]}
services:
  - {name: a, hosts: [a.example.net], listeners: [web], backends: [{name: x, url: "http://127.0.0.1:1"}]}
  - {name: b, hosts: [b.example.net], listeners: [lab], backends: [{name: x, url: "http://127.0.0.1:1"}]}
  - {name: c, hosts: [c.example.net], backends: [{name: x, url: "http://127.0.0.1:1"}]}
`)
	if d := cmp.Diff([]string{"a", "c"}, c.ServicesOn("www")); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestDigest(t *testing.T) {
	digest := func(sections string) string { return parse(t, sections).Digest() }
	same := digest("log: {level: info}\n")
	for _, sections := range []string{
		"log:\n    level: info # with other words\n",
		"log: {level: info}\nnode: {name: another, backends: {shop: [{name: z, url: 'http://127.0.0.1:9'}]}}\n",
	} {
		if got := digest(sections); got != same {
			t.Errorf("digest %s, want %s:\n%s", got, same, sections)
		}
	}
	seen := map[string]string{same: "the first"}
	for _, sections := range []string{
		"", "log: {level: warn}\n", "log: {level: info, access: {sample: 0}}\n", "log: {level: info, access: {sample: 1}}\n",
		service + ", replay: {allow: []}}]\n", service + ", replay: {allow: [all]}}]\n", "shutdown: {max: 1s}\n", "shutdown: {max: 0s}\n",
		"vips: [{name: a, prefixes: [203.0.113.0/24]}]\n", "vips: [{name: a, prefixes: [198.51.100.0/24]}]\n",
	} {
		got := digest(sections)
		if other, ok := seen[got]; ok {
			t.Errorf("digest %s of both:\n%s\n%s", got, sections, other)
		}
		seen[got] = sections
	}
}

func TestDefaultPlaces(t *testing.T) {
	c := parse(t, "state: {dir: /srv/edge}\nadmin: {socket: /run/e.sock}\n")
	if c.StateDir() != "/srv/edge" || c.Socket() != "/run/e.sock" {
		t.Errorf("got %s and %s", c.StateDir(), c.Socket())
	}
	c = parse(t, "")
	if filepath.Base(c.StateDir()) != "edged" || filepath.Base(c.Socket()) != "edged.sock" || c.Socket() != configs.DefaultSocket() {
		t.Errorf("got %s and %s", c.StateDir(), c.Socket())
	}
}

func TestNodeName(t *testing.T) {
	c := parse(t, "node: {name: fra-edge1}\n")
	if name, err := c.NodeName(); name != "fra-edge1" || err != nil {
		t.Errorf("got %q, %v", name, err)
	}
}

func TestDecodedValues(t *testing.T) {
	c := parse(t, whole+"vips: [{name: www, prefixes: ['2001:db8:a::/48'], announce: {med: 0}, drain: {gshut: false, wait: 1m30s}, guard: {min_others: 0}}]\n")
	v := c.VIPs[0]
	off, med, others := false, uint32(0), 0
	want := steering.VIPConfig{
		Name: "www", Prefixes: []netip.Prefix{netip.MustParsePrefix("2001:db8:a::/48")},
		Announce: steering.AnnounceConfig{MED: &med},
		Drain:    steering.DrainConfig{GShut: &off, Wait: v.Drain.Wait},
		Guard:    steering.GuardConfig{MinOthers: &others},
	}
	if d := cmp.Diff(want, v, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if v.Drain.Wait == nil || v.Drain.Wait.Seconds() != 90 {
		t.Errorf("wait %v, want 90s", v.Drain.Wait)
	}
}
