package main_test

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"anyedge/fabric/identity"
	"anyedge/internal/testpeer"
)

// A fleet is the files of several geos on this machine, one node each. Every
// geo has a loopback address of its own.
type fleet struct {
	keys string // folder of the fabric's keys
	geos []fleetGeo
}

type fleetGeo struct {
	name   string
	listen netip.AddrPort // clients, plain text
	fabric netip.AddrPort
}

// newFleet makes keys and addresses.
func newFleet(t *testing.T, names ...string) *fleet {
	t.Helper()
	f := &fleet{keys: t.TempDir()}
	if err := identity.Init(f.keys, "edge.example.net"); err != nil {
		t.Fatal(err)
	}
	for i, name := range names {
		ip := fmt.Sprintf("127.0.72.%d", i+1)
		f.geos = append(f.geos, fleetGeo{
			name:   name,
			listen: netip.AddrPortFrom(netip.MustParseAddr(ip), testpeer.FreePort(t, ip)),
			fabric: netip.AddrPortFrom(netip.MustParseAddr(ip), testpeer.FreePort(t, ip)),
		})
		if err := identity.IssueTo(f.keys, name, name+"-edge1"); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func (f *fleet) find(geo string) (number int, g fleetGeo) {
	for i, g := range f.geos {
		if g.name == geo {
			return i + 1, g
		}
	}
	return 0, fleetGeo{}
}

// url is where a client of the geo goes.
func (f *fleet) url(geo string) string {
	_, g := f.find(geo)
	return "http://" + g.listen.String()
}

// write puts a geo's configuration into a new folder and returns it. services
// is the section's content; the rest is the same in every geo.
func (f *fleet) write(t *testing.T, geo, services string) string {
	t.Helper()
	number, g := f.find(geo)
	var geos strings.Builder
	for i, other := range f.geos {
		fmt.Fprintf(&geos, "  - {name: %s, number: %d, fabric: [\"%s\"]}\n", other.name, i+1, other.fabric)
	}
	key := filepath.Join(f.keys, geo+"-"+geo+"-edge1")
	dir := t.TempDir()
	setUp(t, dir, fmt.Sprintf(`
node:
  geo: %[1]s
  name: %[1]s-edge1
  number: %[2]d
  router_id: 192.0.2.%[2]d
  fabric:
    listen: "%[3]s"
    cert: {file: %[4]s.crt}
    key: {file: %[4]s.key}
  bgp:
    next_hop: {ipv6: "2001:db8:ffff::%[2]d"}
    neighbors: [{name: nobody, address: 127.0.72.99, port: 9, asn: 65001, families: [ipv4, ipv6]}]
geos:
%[5]s
fabric:
  trust_domain: edge.example.net
  ca: {file: %[6]s/ca.crt}
  secret: {file: %[6]s/secret}
bgp: {asn: 65010}
vips:
  - name: www
    prefixes: [203.0.113.0/24, "2001:db8:1::/48"]
    drain: {wait: 200ms}
    stability: {rise: 100ms, fall: 300ms, hold_up: 0s, hold_down: 300ms}
listeners:
  - {name: http, vips: [www], bind: ["%[7]s"]}
services:
%[8]s
`, geo, number, g.fabric, key, &geos, f.keys, g.listen, services))
	return dir
}

// appService is the services section with one service.
func appService(addr string) string { return serviceAt("app", "/", addr) }
