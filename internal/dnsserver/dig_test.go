package dnsserver_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestDig asks everything that the zone knows, and what it does not.
func TestDig(t *testing.T) {
	t.Parallel()
	at := serve(t, fleet())
	soa := `internal\. 1 IN SOA 4-127-0-73-1\.internal\. hostmaster\.internal\. 1800000000 60 10 600 1`
	for _, tt := range []struct {
		name, args string
		want       []string // patterns that the output has
		not        []string
	}{
		{"A", "shop.internal A +norecurse", []string{`status: NOERROR`, `flags: qr aa;`, `ANSWER: 2,`, `shop\.internal\. 1 IN A 10\.0\.1\.11`, `shop\.internal\. 1 IN A 10\.0\.1\.12`}, []string{`10\.0\.1\.13`, `EDE`}},
		{"AAAA", "shop.internal AAAA", []string{`status: NOERROR`, `flags: qr aa rd;`, `recursion requested but not available`, `ANSWER: 1,`, `shop\.internal\. 1 IN AAAA fd00::5`}, nil},
		{"SRV", "shop.internal SRV", []string{
			`ANSWER: 3,.* ADDITIONAL: 4`,
			`shop\.internal\. 1 IN SRV 0 1 8080 4-10-0-1-11\.shop\.internal\.`,
			`shop\.internal\. 1 IN SRV 0 2 8081 4-10-0-1-12\.shop\.internal\.`,
			`shop\.internal\. 1 IN SRV 0 4 9000 6-fd00-0000-0000-0000-0000-0000-0000-0005\.shop\.internal\.`,
			`4-10-0-1-11\.shop\.internal\. 1 IN A 10\.0\.1\.11`,
			`6-fd00-0000-0000-0000-0000-0000-0000-0005\.shop\.internal\. 1 IN AAAA fd00::5`,
		}, nil},
		{"SRV of one machine's ports", "pair.internal SRV", []string{`ANSWER: 2,.* ADDITIONAL: 2`, `SRV 0 1 80 4-10-0-1-51`, `SRV 0 2 81 4-10-0-1-51`}, nil},
		{"A of one machine's ports", "pair.internal A", []string{`ANSWER: 1,`}, nil},
		{"SRV's target", "4-10-0-1-12.shop.internal A", []string{`ANSWER: 1,`, `4-10-0-1-12\.shop\.internal\. 1 IN A 10\.0\.1\.12`}, nil},
		{"target while ill", "4-10-0-1-13.shop.internal A", []string{`ANSWER: 1,`, `IN A 10\.0\.1\.13`}, nil},
		{"target, other family", "4-10-0-1-12.shop.internal AAAA", []string{`status: NOERROR`, `ANSWER: 0, AUTHORITY: 1`, soa}, nil},
		{"no such target", "4-10-0-1-99.shop.internal A", []string{`status: NXDOMAIN`, soa}, nil},
		{"case kept", "ShOp.InTeRnAl A", []string{`status: NOERROR`, `ShOp\.InTeRnAl\. 1 IN A 10\.0\.1\.11`}, nil},
		{"case kept in a denial", "nOnE.InTeRnAl A", []string{`status: NXDOMAIN`, `;nOnE\.InTeRnAl\. IN A`}, nil},
		{"over TCP", "shop.internal A +tcp", []string{`status: NOERROR`, `ANSWER: 2,`, `\(TCP\)`}, nil},
		{"without EDNS", "shop.internal A +noedns", []string{`status: NOERROR`, `ANSWER: 2, AUTHORITY: 0, ADDITIONAL: 0`}, []string{`OPT PSEUDOSECTION`}},

		{"other type", "shop.internal MX", []string{`status: NOERROR`, `flags: qr aa rd;`, `ANSWER: 0, AUTHORITY: 1`, soa}, []string{`EDE`}},
		{"unknown service", "shpo.internal A", []string{`status: NXDOMAIN`, `flags: qr aa rd;`, `ANSWER: 0, AUTHORITY: 1`, soa}, nil},
		{"no healthy backend", "old.internal A", []string{`status: NOERROR`, `ANSWER: 0, AUTHORITY: 1`, soa, `EDE: 0 \(Other\): \(no backend of old is healthy here\)`}, nil},
		{"no healthy backend, SRV", "old.internal SRV", []string{`status: NOERROR`, `ANSWER: 0, AUTHORITY: 1`}, nil},
		{"no backend at all", "empty.internal A", []string{`status: NOERROR`, `ANSWER: 0, AUTHORITY: 1`, soa}, nil},
		{"not judged yet", "young.internal A", []string{`status: SERVFAIL`, `EDE: 14 \(Not Ready\): \(the backends have not been checked yet\)`}, nil},
		{"some left out", "named.internal A", []string{`status: NOERROR`, `ANSWER: 1,`, `EDE: 0 \(Other\): \(backends of named left out, for their URLs have no IP address: 2 of 3\)`}, nil},
		{"all left out", "elsewhere.internal A", []string{`status: NOERROR`, `ANSWER: 0, AUTHORITY: 1`, `backends of elsewhere left out, for their URLs have no IP address: 1 of 1`}, nil},
		{"another geo's service", "iad.shop.internal A", []string{`status: NXDOMAIN`, soa, `no private listener here has shop: calls of it in iad by name need one`}, nil},
		{"a service in a geo", "iad.calls.internal A", []string{`status: NOERROR`, `flags: qr aa rd;`, `ANSWER: 2,`, `iad\.calls\.internal\. 1 IN A 10\.0\.1\.2`, `IN A 10\.0\.1\.3`}, nil},
		{"in this geo", "FRA.calls.internal A", []string{`ANSWER: 2,`, `FRA\.calls\.internal\. 1 IN A 10\.0\.1\.2`}, nil},
		{"in a geo that is not seen", "nrt.calls.internal AAAA", []string{`ANSWER: 1,`, `nrt\.calls\.internal\. 1 IN AAAA fd00::2`}, nil},
		{"in a geo, SRV", "iad.calls.internal SRV", []string{`ANSWER: 1,.* ADDITIONAL: 4`, `SRV 0 1 8080 iad\.calls\.internal\.`, `IN A 10\.0\.1\.3`, `IN AAAA fd00::2`}, nil},
		{"in a geo, other type", "iad.calls.internal TXT", []string{`status: NOERROR`, `ANSWER: 0, AUTHORITY: 1`, soa}, nil},
		{"in a geo, ANY", "iad.calls.internal ANY", []string{`HINFO "RFC8482"`}, nil},
		{"in no geo", "mars.calls.internal A", []string{`status: NXDOMAIN`, soa}, nil},
		{"no service in a geo", "iad.shpo.internal A", []string{`status: NXDOMAIN`, soa}, []string{`EDE`}},
		{"deeper than a geo's service", "a.iad.calls.internal A", []string{`status: NXDOMAIN`}, nil},
		{"no geo's service", "mars.shop.internal A", []string{`status: NXDOMAIN`, soa}, []string{`EDE`}},
		{"deeper", "a.b.shop.internal A", []string{`status: NXDOMAIN`}, nil},
		{"ANY", "shop.internal ANY", []string{`status: NOERROR`, `ANSWER: 1,`, `shop\.internal\. 1 IN HINFO "RFC8482" ""`}, nil},
		{"ANY of nothing", "none.internal ANY", []string{`status: NXDOMAIN`}, nil},

		{"geos", "geos.internal TXT", []string{
			`ANSWER: 5,`, `geos\.internal\. 1 IN TXT "fra up 0\.0ms"`, `TXT "iad draining 90\.3ms"`, `TXT "nrt unseen 230\.0ms"`,
			`TXT "gru shedding 200\.0ms"`, `TXT "syd unseen -"`,
		}, nil},
		{"geos, other type", "geos.internal A", []string{`status: NOERROR`, `ANSWER: 0, AUTHORITY: 1`, soa}, nil},

		{"SOA", "internal SOA", []string{`status: NOERROR`, `flags: qr aa rd;`, `ANSWER: 1,`, soa}, nil},
		{"NS", "internal NS", []string{`ANSWER: 1,.* ADDITIONAL: 2`, `internal\. 1 IN NS 4-127-0-73-1\.internal\.`, `4-127-0-73-1\.internal\. 1 IN A 127\.0\.73\.1`}, nil},
		{"the server's name", "4-127-0-73-1.internal A", []string{`ANSWER: 1,`, `IN A 127\.0\.73\.1`}, nil},
		{"apex, other type", "internal A", []string{`status: NOERROR`, `ANSWER: 0, AUTHORITY: 1`, soa}, nil},

		{"another zone", "www.example.net A", []string{`status: REFUSED`, `flags: qr rd;`, `ANSWER: 0, AUTHORITY: 0`, `EDE: 20 \(Not Authoritative\)`}, nil},
		{"a zone that ends alike", "shop.notinternal A", []string{`status: REFUSED`}, nil},
		{"a dot in a label", `shop\.internal A`, []string{`status: REFUSED`}, nil},
		{"the root", ". NS", []string{`status: REFUSED`, `flags: qr rd;`}, nil},
		{"class CH", "version.bind CH TXT", []string{`status: REFUSED`, `ANSWER: 0`}, nil},
		{"class CH in the zone", "-c CH shop.internal A", []string{`status: REFUSED`, `ANSWER: 0`}, nil},
		{"zone transfer", "internal AXFR", []string{`Transfer failed`}, nil},
		{"incremental transfer", "internal IXFR=1 +noedns", []string{`Transfer failed`}, nil},
		{"opcode NOTIFY", "+opcode=NOTIFY internal SOA", []string{`opcode: NOTIFY, status: NOTIMP`}, nil},
		{"opcode UPDATE", "+opcode=UPDATE internal SOA", []string{`opcode: UPDATE, status: NOTIMP`}, nil},
		{"opcode STATUS", "+opcode=STATUS internal A", []string{`opcode: STATUS, status: NOTIMP`}, nil},

		{"EDNS", "shop.internal A +bufsize=4096", []string{`EDNS: version: 0, flags:; udp: 1232`}, nil},
		{"DO comes back", "shop.internal A +dnssec", []string{`EDNS: version: 0, flags: do; udp: 1232`, `ANSWER: 2,`}, []string{`RRSIG`}},
		{"EDNS of the future", "shop.internal A +edns=1 +noednsnegotiation", []string{`status: BADVERS`, `EDNS: version: 0`, `ANSWER: 0`}, nil},
		{"EDNS negotiated", "shop.internal A +edns=1", []string{`status: NOERROR`, `ANSWER: 2,`}, nil},
		{"unknown EDNS option and flag", "shop.internal A +ednsopt=65001:dead +ednsflags=0x4000", []string{`status: NOERROR`, `flags:; udp`, `ANSWER: 2,`}, []string{`; OPT=`}},

		{"truncated", "wide.internal A +ignore", []string{`flags: qr aa tc rd;`}, nil},
		{"truncated, whole over TCP", "wide.internal A", []string{`Truncated, retrying in TCP mode`, `flags: qr aa rd;`, `ANSWER: 200,`}, nil},
		{"SRV whole over TCP", "wide.internal SRV", []string{`Truncated, retrying in TCP mode`, `ANSWER: 200,.* ADDITIONAL: 201`}, nil},
		{"more than a message can carry", "huge.internal SRV +tcp", []string{`status: NOERROR`, `flags: qr aa rd;`, `ANSWER: 1000,`}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out := dig(t, at, strings.Fields(tt.args)...)
			for _, p := range tt.want {
				if !regexp.MustCompile(p).MatchString(out) {
					t.Errorf("the answer lacks %s", p)
				}
			}
			for _, p := range append(tt.not, `WARNING: (Message|.*parser)`, `malformed`) {
				if regexp.MustCompile(p).MatchString(out) {
					t.Errorf("the answer has %s", p)
				}
			}
			if t.Failed() {
				t.Logf("dig %s:\n%s", tt.args, out)
			}
		})
	}
}

// TestRotation: every backend is first at times.
func TestRotation(t *testing.T) {
	t.Parallel()
	at := serve(t, fleet())
	first := map[string]bool{}
	for range 200 {
		lines := strings.Fields(dig(t, at, "shop.internal", "A", "+short"))
		if sorted := slices.Sorted(slices.Values(lines)); !cmp.Equal(sorted, []string{"10.0.1.11", "10.0.1.12"}) {
			t.Fatalf("got %q", lines)
		}
		if first[lines[0]] = true; len(first) == 2 {
			return
		}
	}
	t.Errorf("200 answers began with %v", first)
}

// TestShort: what a person types.
func TestShort(t *testing.T) {
	t.Parallel()
	at := serve(t, fleet())
	want := []string{
		"0 1 8080 4-10-0-1-11.shop.internal.", "0 2 8081 4-10-0-1-12.shop.internal.",
		"0 4 9000 6-fd00-0000-0000-0000-0000-0000-0000-0005.shop.internal.",
	}
	if d := cmp.Diff(want, short(t, at, "shop.internal", "SRV")); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}
