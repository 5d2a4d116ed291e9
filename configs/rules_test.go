package configs_test

import (
	"strings"
	"testing"

	"anyedge/configs"

	"github.com/google/go-cmp/cmp"
)

// Sections that several rows need.
const (
	oneGeo   = "geos: [{name: fra, number: 1, fabric: ['192.0.2.1:8443']}, {name: iad, number: 2}]\n"
	node     = "node:\n  geo: fra\n  number: 1\n  router_id: 192.0.2.1\n  fabric: {listen: '192.0.2.1:8443', cert: {file: /c}, key: {file: /k}}\n"
	toTor    = "  bgp: {neighbors: [{name: tor, address: 192.0.2.9, asn: 65001, families: [ipv4, ipv6]}], next_hop: {ipv6: '2001:db8::1'}}\n"
	fabricOK = "fabric: {trust_domain: example.net, ca: {file: /ca}, secret: {file: /s}}\n"
	bgpOK    = "bgp: {asn: 65010}\n"
	www      = "vips: [{name: www, prefixes: [203.0.113.0/24, '2001:db8:a::/48'], addresses: [203.0.113.1], drain: {wait: 1s}}]\n"
	whole    = oneGeo + node + toTor + fabricOK + bgpOK
	service  = "services: [{name: shop, hosts: ['*'], backends: [{name: a, url: 'http://127.0.0.1:3000'}]"
)

// neighbor returns a whole configuration whose neighbor has these fields.
func neighbor(fields string) string {
	return oneGeo + node + "  bgp: {neighbors: [{name: tor, address: 192.0.2.9, asn: 65001, " + fields + "}]}\n" + fabricOK + bgpOK
}

// vip returns a whole configuration with one VIP of these fields.
func vip(fields string) string {
	return whole + "vips: [{name: www, prefixes: [203.0.113.0/24, '2001:db8:a::/48'], " + fields + "}]\n"
}

// l4 returns a whole configuration with a packet path.
func l4(node, section string) string {
	n := strings.Replace(whole, "  number: 1\n", "  number: 1\n  "+strings.TrimPrefix(node, "number: 1")+"\n", 1)
	return n + www + "l4: " + section + "\n"
}

func TestRules(t *testing.T) {
	for _, tt := range []struct {
		name, sections string
		want           []string
	}{
		{"least", "", nil},
		{"whole", whole + www, nil},

		{"name", strings.Replace(oneGeo, "iad", "I-D", 1) + node + fabricOK, []string{`error: geos[1].name: "I-D" is not a name: want a-z, then a-z, 0-9 or -`}},
		{"reserved name", strings.Replace(oneGeo, "iad", "all", 1) + node + fabricOK, []string{`error: geos[1].name: "all" is a reserved word and nobody's name`}},
		{"name twice", strings.Replace(oneGeo, "iad", "fra", 1) + node + fabricOK, []string{`error: geos[1].name: "fra" is already the name of geos[0]: names are unique in geos`}},
		{"group like geo", oneGeo + node + fabricOK + "groups: [{name: fra, geos: [iad]}]\n", []string{`error: groups[0].name: "fra" is already taken: names are unique in groups`}},
		{"balance by cookie", service + ", balance: 'hash(cookie:sid)'}]\n", nil},
		{
			"balance by nothing", service + ", balance: hash}]\n",
			[]string{`error: services[0].balance: got "hash", want p2c, ewma, round_robin, hash(header:NAME), hash(cookie:NAME), hash(client) or hash(path)`},
		},
		{
			"soft limit above the hard one", "services: [{name: shop, hosts: ['*'], backends: [{name: a, url: 'http://127.0.0.1:3000', limit: {soft: 2, hard: 1}}]}]\n",
			[]string{`error: services[0].backends[0].limit: soft (2) is above hard (1), so it would never matter`},
		},
		{"gRPC check over HTTP/1", service + ", health: {grpc: {}}}]\n", []string{`error: services[0].backends[0].url: "http://127.0.0.1:3000": health.grpc needs h2c://`}},
		{"two sources of backends", service + ", discover: {file: /a, dns: 'b:1'}}]\n", []string{`error: services[0].discover: want one of file, dns_srv and dns`}},
		{"queue without a wait", service + ", queue: {wait: 0s}}]\n", []string{`error: services[0].queue: wait: must be above 0; length: 0 is no queue`}},
		{
			"backend like the fleet's", "node: {backends: {shop: [{name: a, url: 'http://127.0.0.1:1'}]}}\n",
			[]string{`error: node.backends.shop[0].name: "a" is already taken: names are unique in node.backends.shop`},
		},
		{
			"backends of one name", "services: [{name: shop, hosts: ['*'], backends: [{name: a, url: 'http://127.0.0.1:1'}, {name: a, url: 'http://127.0.0.1:2'}]}]\n",
			[]string{`error: services[0].backends[1].name: "a" is already the name of services[0].backends[0]: names are unique in services[0].backends`},
		},

		{"l4", l4("interfaces: [eno1, eno2]", "{mode: native, forward: ipip, drain: 1s, pins: /sys/fs/bpf/edged}"), nil},
		{"l4 off", "l4: {mode: off}\n", nil},
		{"l4 without interfaces", l4("number: 1", "{}"), []string{`error: l4: node.interfaces is required with l4: where do packets for VIPs arrive on this machine?`}},
		{"l4 alone", "l4: {}\n", []string{`error: l4: l4 needs the section node, with interfaces and number`}},
		{
			"l4 values", l4("interfaces: [eno1, eno1, a b]", "{drain: 100ms, pins: pins}"),
			[]string{
				`error: node.interfaces[1]: eno1 is named twice`,
				`error: node.interfaces[2]: "a b" is not the name of an interface`,
				`error: l4: drain 100ms is below 1s: a change would cut connections`,
				`error: l4: pins "pins": want a path that begins with /`,
			},
		},
		{
			"l4 without addresses", strings.Replace(l4("interfaces: [eno1]", "{}"), "addresses: [203.0.113.1], ", "", 1),
			[]string{`error: l4: l4 has nothing to do: no VIP has addresses`},
		},

		{"geos without node", oneGeo, []string{`error: geos: geos are given, but no node: which of them is this machine in? Give node.geo, here or in node.yaml`}},
		{"node without geo", oneGeo + "node: {name: a}\n", []string{`error: node.geo: geo is required where geos are given`}},
		{"unknown geo", oneGeo + "node: {geo: frb}\n", []string{`error: node.geo: unknown geo "frb" (did you mean "fra"?)`}},
		{"geo without geos", "node: {geo: fra}\n", []string{`error: node.geo: unknown geo "fra": there is no geo in geos`}},
		{"node name", "node: {name: Fra_1}\n", []string{`error: node.name: "Fra_1" is not a name: want a-z, then a-z, 0-9 or -`}},
		{
			"backends of no service", "node: {backends: {shpo: [{name: b, url: 'http://127.0.0.1:1'}]}}\n",
			[]string{`error: node.backends.shpo: unknown service "shpo" (did you mean "shop"?)`},
		},
		{"node.fabric alone", oneGeo + node, []string{`error: node.fabric: node.fabric is this node's part of the section fabric, which is absent`}},
		{"node.bgp alone", oneGeo + node + toTor + fabricOK, []string{`error: node.bgp: node.bgp is this node's part of the section bgp, which is absent`}},

		{"metrics", "node: {metrics: {listen: '10.0.1.2:9101'}}\n", nil},
		{"metrics without port", "node: {metrics: {listen: 10.0.1.2}}\n", []string{`error: node.metrics: listen: "10.0.1.2" is not ADDRESS:PORT`}},
		{
			"metrics on a VIP", oneGeo + node + toTor + "  metrics: {listen: '203.0.113.1:9101'}\n" + fabricOK + bgpOK + www,
			[]string{`error: node.metrics.listen: 203.0.113.1 is inside VIP www (203.0.113.0/24): anycast would bring questions about this node to another one. Metrics need an address of this machine's own`},
		},
		{
			"metrics everywhere", oneGeo + node + toTor + "  metrics: {listen: '0.0.0.0:9101'}\n" + fabricOK + bgpOK + www,
			[]string{`error: node.metrics.listen: 0.0.0.0 is every address, those of VIPs too. Metrics need an address of this machine's own`},
		},
		{"DNS", "node: {dns: {listen: '10.0.1.2:53'}}\n", nil},
		{"DNS without address", "node: {dns: {}}\n", []string{`error: node.dns.listen: listen is required`}},
		{
			"DNS without port", "node: {dns: {listen: 10.0.1.2}}\n",
			[]string{`error: node.dns: listen: "10.0.1.2" is not ADDRESS:PORT: want one like 10.0.1.2:53 or [fd00::2]:53`},
		},
		{
			"DNS everywhere", "node: {dns: {listen: '0.0.0.0:53'}}\n",
			[]string{`error: node.dns: listen: 0.0.0.0 is every address of this machine, the public ones too: name a private one, like 10.0.1.2:53`},
		},
		{
			"DNS for strangers", "node: {dns: {listen: '198.51.100.1:53'}}\n",
			[]string{`error: node.dns: listen: 198.51.100.1 is a public address: answers are for the apps of this geo alone; want a private (10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, fc00::/7), link-local or loopback one`},
		},
		{
			"DNS on a VIP", oneGeo + node + toTor + "  dns: {listen: '203.0.113.1:53'}\n" + fabricOK + bgpOK + www,
			[]string{`error: node.dns.listen: 203.0.113.1 is inside VIP www (203.0.113.0/24). DNS needs a private unicast address: anycast would bring a geo's questions to another one`},
		},

		{"geo number twice", strings.Replace(oneGeo, "number: 2", "number: 1", 1) + node + fabricOK, []string{`error: geos[1].number: 1 is already the number of geo fra`}},
		{
			"location", strings.Replace(oneGeo, "number: 2", "number: 2, location: [200, 4]", 1) + node + fabricOK,
			[]string{`error: geos[1].location: [200, 4] is not on the globe: want [latitude -90 to 90, longitude -180 to 180]`},
		},
		{
			"location of one number", strings.Replace(oneGeo, "number: 2", "number: 2, location: [20]", 1) + node + fabricOK,
			[]string{`error: geos[1].location: got 1 item, want at least 2`},
		},
		{
			"fabric without port", strings.Replace(oneGeo, "192.0.2.1:8443", "192.0.2.1", 1) + node + fabricOK,
			[]string{`error: geos[0].fabric[0]: "192.0.2.1" is not ADDRESS:PORT: the port is missing, like 192.0.2.1:8443`},
		},
		{
			"fabric with port 0", strings.Replace(oneGeo, "192.0.2.1:8443", "192.0.2.1:0", 1) + node + fabricOK,
			[]string{`error: geos[0].fabric[0]: port 0 in "192.0.2.1:0": others must know the port`},
		},
		{
			"fabric address twice", strings.Replace(oneGeo, "number: 2", "number: 2, fabric: ['192.0.2.1:8443']", 1) + node + fabricOK,
			[]string{`error: geos[1].fabric[0]: 192.0.2.1:8443 is already a fabric address of geo fra`},
		},
		{"group of nobody", oneGeo + node + fabricOK + "groups: [{name: eu, geos: [far]}]\n", []string{`error: groups[0].geos[0]: unknown geo "far" (did you mean "fra"?)`}},

		{"fabric without geos", "node: {number: 1, fabric: {listen: '192.0.2.1:1', cert: {file: /c}, key: {file: /k}}}\n" + fabricOK, []string{`error: fabric: the fabric joins geos, and there are none: list them under geos`}},
		{"fabric without node.fabric", oneGeo + "node: {geo: fra, number: 1}\n" + fabricOK, []string{`error: fabric: with fabric, node.fabric says where this node listens and which certificate it has`}},
		{"fabric without number", oneGeo + strings.Replace(node, "  number: 1\n", "", 1) + fabricOK, []string{`error: node.number: number is required with fabric (1-65535, unique in the fleet)`}},
		{
			"fabric listens nowhere", oneGeo + strings.Replace(node, "'192.0.2.1:8443'", "':8443'", 1) + fabricOK,
			[]string{`error: node.fabric.listen: ":8443" is not ADDRESS:PORT: want "0.0.0.0:8443" (IPv4) or "[::]:8443" (both)`},
		},
		{
			"fabric on an anycast address", strings.Replace(oneGeo, "192.0.2.1:8443", "203.0.113.10:8443", 1) + node + toTor + fabricOK + bgpOK + www,
			[]string{`error: geos[0].fabric[0]: 203.0.113.10 is inside VIP www (203.0.113.0/24). The fabric needs a unicast address: anycast would bring packets for fra to another geo`},
		},
		{
			"secret of two kinds", oneGeo + node + strings.Replace(fabricOK, "{file: /s}", "{file: /s, env: S}", 1),
			[]string{`error: fabric.secret: want exactly one of {file: PATH}, {env: NAME} or {credential: NAME}`},
		},
		{
			"secret as a value", oneGeo + node + strings.Replace(fabricOK, "{file: /s}", "hunter2", 1),
			[]string{`error: fabric.secret: got text, want a section with fields`},
		},

		{"bgp without node.bgp", bgpOK, []string{`error: bgp: with bgp, node.bgp lists this node's neighbors`}},
		{"bgp without router id", strings.Replace(whole, "  router_id: 192.0.2.1\n", "", 1), []string{`error: node.router_id: router_id is required with bgp: an IPv4 address, unique per node`}},
		{"router id of IPv6", strings.Replace(whole, "router_id: 192.0.2.1", "router_id: '2001:db8::1'", 1), []string{`error: node.router_id: 2001:db8::1 is not an IPv4 address that identifies a router (RFC 6286)`}},
		{"no neighbors", oneGeo + node + "  bgp: {}\n" + fabricOK + bgpOK, []string{`warning: node.bgp: there are no neighbors: nothing is announced to anybody`}},
		{"hold", strings.Replace(whole, bgpOK, "bgp: {asn: 1, timers: {hold: 2s, keepalive: 1s}}\n", 1), []string{`error: bgp.timers.hold: hold 2s is below 3s (RFC 4271 section 4.2)`}},
		{
			"keepalive", strings.Replace(whole, bgpOK, "bgp: {asn: 1, timers: {hold: 9s, keepalive: 9s}}\n", 1),
			[]string{`error: bgp.timers.keepalive: keepalive 9s must be above 0s and below hold (9s); a third of it is usual`},
		},
		{"asn 0", strings.Replace(whole, bgpOK, "bgp: {asn: 0}\n", 1), []string{`error: bgp.asn: got 0, want a whole number between 1 and 4294967295`}},
		{"bgp listen", strings.Replace(whole, "bgp: {neighbors", "bgp: {listen: [tor], neighbors", 1), []string{`error: node.bgp.listen[0]: "tor" is not ADDRESS or ADDRESS:PORT`}},
		{"next hop", strings.Replace(whole, "ipv6: '2001:db8::1'", "ipv4: '2001:db8::1', ipv6: 192.0.2.1", 1), []string{
			`error: node.bgp.next_hop.ipv4: 2001:db8::1 is not an IPv4 address`,
			`error: node.bgp.next_hop.ipv6: 192.0.2.1 is not an IPv6 address`,
		}},
		{"gtsm and multihop", neighbor("gtsm: true, multihop: 2"), []string{`error: node.bgp.neighbors[0].gtsm: gtsm excludes multihop: it accepts only packets that crossed no router (RFC 5082)`}},
		{
			"local address", neighbor("local_address: '2001:db8::1'"),
			[]string{`error: node.bgp.neighbors[0].local_address: 2001:db8::1 and the neighbor's address 192.0.2.9 are of different families`},
		},
		{"class", neighbor("class: peer"), []string{`error: node.bgp.neighbors[0].class: got "peer", want transit, ix or route_server`}},
		{
			"zone", strings.Replace(neighbor(""), "192.0.2.9", "'fe80::1'", 1),
			[]string{`error: node.bgp.neighbors[0].address: the link-local address fe80::1 needs a zone, like fe80::1%eno1`},
		},
		{
			"neighbor twice", strings.Replace(whole, "asn: 65001,", "asn: 65001}, {name: tor2, address: 192.0.2.9, asn: 65001,", 1),
			[]string{`error: node.bgp.neighbors[1].address: 192.0.2.9 is already the address of neighbor tor`},
		},
		{"password", neighbor("password: {}"), []string{`error: node.bgp.neighbors[0].password: want exactly one of {file: PATH}, {env: NAME} or {credential: NAME}`}},
		{
			"IPv6 over IPv4", neighbor("families: [ipv6]") + www,
			[]string{
				`warning: node.bgp.neighbors: no neighbor has the family ipv4: those prefixes of VIP www are announced to nobody`,
				`error: node.bgp.neighbors[0].families: IPv6 prefixes over a session between IPv4 addresses need node.bgp.next_hop.ipv6`,
			},
		},

		{"address outside", vip("addresses: [203.0.114.1], drain: {wait: 1s}"), []string{`error: vips[0].addresses[0]: 203.0.114.1 is in none of the prefixes of VIP www`}},
		{"no prefix", whole + "vips: [{name: www, prefixes: [], drain: {wait: 1s}}]\n", []string{`error: vips[0].prefixes: VIP www has no prefix to announce`}},
		{"host bits", whole + "vips: [{name: www, prefixes: [203.0.113.10/24], drain: {wait: 1s}}]\n", []string{`error: vips[0].prefixes[0]: host bits set in 203.0.113.10/24; did you mean 203.0.113.0/24?`}},
		{"prefix without length", whole + "vips: [{name: www, prefixes: [203.0.113.10], drain: {wait: 1s}}]\n", []string{`error: vips[0].prefixes[0]: 203.0.113.10 has no length; did you mean 203.0.113.10/32?`}},
		{
			"prefix of two VIPs", strings.Replace(whole+www, "drain: {wait: 1s}}]", "drain: {wait: 1s}}, {name: api, prefixes: [203.0.112.0/22, '2001:db8:b::/48'], drain: {wait: 1s}}]", 1),
			[]string{`error: vips[1].prefixes[0]: 203.0.112.0/22 overlaps 203.0.113.0/24 of VIP www`},
		},
		{
			"prefix too long", strings.Replace(whole+www, "203.0.113.0/24", "203.0.113.0/25", 1),
			[]string{`error: vips[0].prefixes[0]: 203.0.113.0/25 is longer than /24: neighbor tor, of class transit, and those behind it drop it`},
		},
		{
			"IPv6 prefix too long", strings.Replace(whole+www, "db8:a::/48", "db8:a::/64", 1),
			[]string{`error: vips[0].prefixes[1]: 2001:db8:a::/64 is longer than /48: neighbor tor, of class transit, and those behind it drop it`},
		},
		{"long prefix to a route server", strings.Replace(strings.Replace(whole+www, "203.0.113.0/24", "203.0.113.0/25", 1), "asn: 65001,", "asn: 65001, class: route_server,", 1), nil},
		{"VIP of no geo", vip("geos: [fra, far], drain: {wait: 1s}"), []string{`error: vips[0].geos[1]: unknown geo "far" (did you mean "fra"?)`}},
		{"VIP of a group", vip("geos: [eu], drain: {wait: 1s}") + "groups: [{name: eu, geos: [fra]}]\n", nil},
		{
			"a guard that nobody can satisfy", vip("drain: {wait: 1s}, guard: {min_others: 9}"),
			[]string{`warning: vips[0].guard.min_others: VIP www is announced by 1 other geo; with min_others 9 it stays draining when it should leave`},
		},
		{"a guard of the last geo that leaves", vip("drain: {wait: 1s}, guard: {min_others: 9, last_geo: withdraw}"), nil},
		{
			"one family", whole + "vips: [{name: www, prefixes: [203.0.113.0/24], drain: {wait: 1s}}]\n",
			[]string{`warning: vips[0].prefixes: VIP www has no IPv6 prefix: clients that have only IPv6 cannot reach it`},
		},
		{"VIPs without bgp", www, []string{`warning: vips: there is no section bgp: nothing announces these VIPs`}},
		{"family without neighbor", neighbor("families: [ipv4]") + www, []string{`warning: node.bgp.neighbors: no neighbor has the family ipv6: those prefixes of VIP www are announced to nobody`}},
		{
			"when", vip("announce: {when: any_backends}, drain: {wait: 1s}"),
			[]string{`error: vips[0].announce.when: got "any_backends", want any_backend, fraction(0.5), always or never (did you mean "any_backend"?)`},
		},
		{"fraction", vip("announce: {when: fraction(2)}, drain: {wait: 1s}"), []string{`error: vips[0].announce.when: "fraction(2)": want fraction(X) with X above 0 and at most 1, like fraction(0.5)`}},
		{"communities", vip("announce: {communities: ['65001:70000', '1:2'], large_communities: ['1:2', '1:2:3']}, drain: {wait: 1s}"), []string{
			`error: vips[0].announce.communities[0]: "65001:70000" is not a community: want ASN:VALUE, both 0-65535 (RFC 1997)`,
			`error: vips[0].announce.large_communities[0]: "1:2" is not a large community: want ASN:A:B, each 0-4294967295 (RFC 8092)`,
		}},
		{
			"NO_EXPORT", vip("announce: {communities: ['65535:65281']}, drain: {wait: 1s}"),
			[]string{`warning: vips[0].announce.communities[0]: NO_EXPORT keeps transit from passing the prefix on: the Internet does not hear it`},
		},
		{
			"prepend", vip("announce: {prepend: 7}, drain: {wait: 1s}"),
			[]string{`warning: vips[0].announce.prepend: prepending 7 times rarely does more than 3 times, and some networks drop long paths`},
		},
		{
			"no drain", vip("geos: [all]"),
			[]string{`warning: vips[0]: VIP www is announced to transit and has no drain: other networks may need longer than the default wait of 20s`},
		},

		{"listener nowhere", "listeners: [{name: web}]\n", []string{`error: listeners[0]: listener web listens nowhere: give bind, or vips and port`}},
		{"listener without port", whole + www + "listeners: [{name: web, vips: [www]}]\n", []string{`error: listeners[0].port: port is required with vips`}},
		{"listener of no VIP", whole + www + "listeners: [{name: web, vips: [wwww], port: 80}]\n", []string{`error: listeners[0].vips[0]: unknown VIP "wwww" (did you mean "www"?)`}},
		{
			"VIP without address", strings.Replace(whole+www, "addresses: [203.0.113.1], ", "", 1) + "listeners: [{name: web, vips: [www], port: 80}]\n",
			[]string{`error: listeners[0].vips[0]: VIP www has no addresses to bind: give it addresses, or this listener a bind`},
		},
		{
			"bind", "listeners: [{name: web, bind: ['localhost:80']}]\n",
			[]string{`error: listeners[0].bind[0]: "localhost:80" is not ADDRESS:PORT: want one like 192.0.2.1:8443 or [2001:db8::1]:8443`},
		},
		{
			"clash", "listeners: [{name: web, bind: ['127.0.0.1:80']}, {name: wide, bind: ['[::]:80']}]\n",
			[]string{`error: listeners[1]: listener wide would bind [::]:80, and listener web binds 127.0.0.1:80`},
		},
		{
			"certificate", "listeners: [{name: web, bind: ['127.0.0.1:443'], tls: {certificates: [man]}}]\ncertificates: [{name: main, self_signed: true, domains: [a]}]\n",
			[]string{`error: listeners[0].tls.certificates[0]: unknown certificate "man" (did you mean "main"?)`},
		},
		{"no certificate", "listeners: [{name: web, bind: ['127.0.0.1:443'], tls: {certificates: []}}]\n", []string{`error: listeners[0].tls.certificates: TLS needs at least one certificate`}},
		{
			"redirect on TLS", "listeners: [{name: web, bind: ['127.0.0.1:443'], tls: {certificates: [m]}, redirect_https: true}]\ncertificates: [{name: m, self_signed: true, domains: [a]}]\n",
			[]string{`error: listeners[0].redirect_https: listener web already is https: redirect_https belongs to the plain one`},
		},
		{"h3 without TLS", "listeners: [{name: web, bind: ['127.0.0.1:443'], protocols: [h1, h3]}]\n", []string{`error: listeners[0].protocols[1]: h3 needs tls: QUIC is always encrypted (RFC 9001)`}},
		{"private", whole + www + "listeners: [{name: calls, private: true, bind: ['10.0.1.2:80', '[fd00::2]:80', '198.51.100.1:80']}]\n", nil},
		{
			"private of a VIP", whole + www + "listeners: [{name: calls, private: true, vips: [www], port: 80}]\n",
			[]string{`error: listeners[0].vips: listener calls is private, and a VIP's traffic is public: give bind in place of vips`},
		},
		{
			"private nowhere", "listeners: [{name: calls, private: true}]\n",
			[]string{`error: listeners[0]: listener calls listens nowhere: give bind, an address of this machine that apps of this geo reach, like 10.0.1.2:80`},
		},
		{"private where a VIP is", whole + www + "listeners: [{name: calls, private: true, bind: ['203.0.113.9:80', '0.0.0.0:81', '224.0.0.1:82']}]\n", []string{
			`error: listeners[0].bind[0]: 203.0.113.9 is inside VIP www. A private listener needs a unicast address: anycast would bring strangers, and the apps of another geo`,
			`error: listeners[0].bind[1]: 0.0.0.0 is every address of this machine, VIPs too: name one that apps of this geo reach, like 10.0.1.2`,
			`error: listeners[0].bind[2]: 224.0.0.1 is no unicast address`,
		}},
		{
			"private redirect", "listeners: [{name: calls, private: true, bind: ['10.0.1.2:80'], redirect_https: true}]\n",
			[]string{`error: listeners[0].redirect_https: listener calls is private: it serves apps, and redirects nobody`},
		},
		{
			"private without service", "listeners: [{name: web, bind: ['127.0.0.1:80']}, {name: calls, private: true, bind: ['10.0.1.2:80']}]\n" + service + ", listeners: [web]}]\n",
			[]string{`warning: listeners[1].private: no service is on the private listener calls: name it in their listeners, or give them none`},
		},
		{
			"hosts do not clash on a private listener", "listeners: [{name: calls, private: true, bind: ['10.0.1.2:80']}]\n" +
				service + "}, {name: two, hosts: ['*'], backends: [{name: a, url: 'http://127.0.0.1:1'}]}]\n", nil,
		},
		{"no source", "certificates: [{name: m}]\n", []string{`error: certificates[0]: certificate m comes from nowhere: give files, or self_signed: true`}},
		{"two sources", "certificates: [{name: m, self_signed: true, domains: [a], files: {cert: /c, key: /k}}]\n", []string{`error: certificates[0].self_signed: certificate m has files and is self_signed: want one of them`}},
		{"domains with files", "certificates: [{name: m, domains: [a], files: {cert: /c, key: /k}}]\n", []string{`error: certificates[0].domains: a certificate from files has its names in it`}},
		{"no domains", "certificates: [{name: m, self_signed: true}]\n", []string{`warning: certificates[0]: certificate m has no domains: no client accepts it`}},
		{"domain", "certificates: [{name: m, self_signed: true, domains: ['a.*.b']}]\n", []string{`error: certificates[0].domains[0]: "a.*.b" is not a host name: * may only stand for the whole first label, as in "*.example.net"`}},

		{"no hosts", "services: [{name: shop, hosts: [], backends: [{name: a, url: 'http://127.0.0.1:1'}]}]\n", []string{`error: services[0].hosts: service shop has no hosts: "*" takes any`}},
		{"hosts", strings.Replace(service, "'*'", "'https://a.example', 'A.example', 'a:80', 192.0.2.1, '*.b.example'", 1) + "}]\n", []string{
			`error: services[0].hosts[0]: "https://a.example" is not a host name: leave out the scheme`,
			`error: services[0].hosts[1]: "A.example" is not a host name: write it in lower case, "a.example"`,
			`error: services[0].hosts[2]: "a:80" is not a host name: leave out the port, it is the listener's`,
		}},
		{"path", service + ", paths: [api]}]\n", []string{`error: services[0].paths[0]: "api" is not a path prefix: it begins with / and has no ?, # or *`}},
		{"unknown listener", service + ", listeners: [wbe]}]\n", []string{`error: services[0].listeners[0]: unknown listener "wbe" (did you mean "web"?)`}},
		{
			"two services, one route", service + "}, {name: two, hosts: ['*'], backends: [{name: a, url: 'http://127.0.0.1:1'}]}]\n",
			[]string{`error: services[1].hosts[0]: host "*" with path "/" on listener web already belongs to service shop`},
		},
		{
			"two services, two listeners", "listeners: [{name: web, bind: ['127.0.0.1:1']}, {name: b, bind: ['127.0.0.1:2']}]\n" +
				service + ", listeners: [web]}, {name: two, hosts: ['*'], listeners: [b], backends: [{name: a, url: 'http://127.0.0.1:1'}]}]\n", nil,
		},
		{"no backend", "services: [{name: shop, hosts: ['*']}]\n", []string{`warning: services[0]: service shop has no backend here: give it backends, or this node some under node.backends`}},
		{"backend of this node", "services: [{name: shop, hosts: ['*']}]\nnode: {backends: {shop: [{name: a, url: 'h2c://[::1]:80'}]}}\n", nil},
		{"https backend", strings.Replace(service, "http:", "https:", 1) + "}]\n", []string{`error: services[0].backends[0].url: scheme "https": edged speaks plain HTTP to its backends, want http://HOST:PORT or h2c://HOST:PORT`}},
		{"backend without port", strings.Replace(service, ":3000", "", 1) + "}]\n", []string{`error: services[0].backends[0].url: "http://127.0.0.1" has no port: want http://HOST:PORT or h2c://HOST:PORT`}},
		{"backend with path", strings.Replace(service, ":3000", ":3000/api", 1) + "}]\n", []string{`error: services[0].backends[0].url: "http://127.0.0.1:3000/api" has more than host and port: want http://HOST:PORT or h2c://HOST:PORT`}},
		{"backend's port", strings.Replace(service, ":3000", ":70000", 1) + "}]\n", []string{`error: services[0].backends[0].url: port 70000 of "http://127.0.0.1:70000" is not 1-65535`}},
		{"no URL", strings.Replace(service, "http://127.0.0.1:3000", "127.0.0.1:3000", 1) + "}]\n", []string{`error: services[0].backends[0].url: "127.0.0.1:3000" is not a URL: want http://HOST:PORT or h2c://HOST:PORT`}},
		{"health", service + ", health: {http: {path: up, expect: [99], interval: 0s, timeout: 0s}}}]\n", []string{
			`error: services[0].health.http.path: "up" does not begin with /`,
			`error: services[0].health.http.expect[0]: 99 is not the status of a final answer (200-599)`,
			`error: services[0].health.http.interval: an interval of 0s would never let the backend rest`,
			`error: services[0].health.http.timeout: a timeout of 0s lets no check succeed`,
		}},
		{"replay", whole + service + ", replay: {allow: [all, iat]}}]\n", []string{`error: services[0].replay.allow[1]: unknown geo "iat" (did you mean "iad"?)`}},
		{"overload", whole + "overload: {never_to: [all], exempt_services: [shp]}\n", []string{
			`error: overload.never_to[0]: unknown geo "all"`,
			`error: overload.exempt_services[0]: unknown service "shp" (did you mean "shop"?)`,
		}},
		{"target", "overload: {target: 85}\n", []string{`error: overload.target: got 85, want a number between 0.1 and 0.95 (85% is 0.85)`}},

		{"socket", "admin: {socket: /" + strings.Repeat("x", 107) + "}\n", []string{`error: admin.socket: the path has 108 bytes; a unix socket's has at most 107`}},
		{"access log fields", "log: {access: {fields: [bytes, latency]}}\n", []string{`error: log.access: fields[1]: "latency" is no field of the access log; there are bytes, bytes_in, duration_ms, first_byte_ms, wait_ms, queue_ms, backend_ms, version, geo, entry, backend, tries, hop, replay, shed, failover, listener, peer, local, tls_version, tls_resumed, server_name, user_agent, referer`}},
		{"access log", "log: {access: {always_on_status: [6xx, 5xx, '404']}}\n", []string{`error: log.access.always_on_status[0]: "6xx" is no class of statuses: want one like 5xx or 404`}},

		{
			"no consequences of a slip", "lisseners: 1\nlisteners: [{namee: web, bind: ['127.0.0.1:80']}]\n" + service + ", listeners: [web]}]\n",
			[]string{
				`error: lisseners: unknown field "lisseners" (did you mean "listeners"?)`,
				`error: listeners[0].name: name is required`,
				`error: listeners[0].namee: unknown field "namee" (did you mean "name"?)`,
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, report := configs.Parse("x", []byte(document(tt.sections)))
			if d := cmp.Diff(tt.want, brief(report)); d != "" {
				t.Errorf("problems (-want +got):\n%s", d)
			}
		})
	}
}

// TestPackagesOwnRules: what a package refuses of its own settings is reported
// too, at the section.
func TestPackagesOwnRules(t *testing.T) {
	sections := strings.Replace(whole, bgpOK, "bgp: {asn: 1, timers: {hold: 9500ms}}\n", 1)
	_, report := configs.Parse("x", []byte(document(sections)))
	if len(report.Problems) != 1 || report.Problems[0].Path != "bgp" || !strings.Contains(report.Problems[0].Message, "whole seconds") {
		t.Errorf("got %v", brief(report))
	}
}
