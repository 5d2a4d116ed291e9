package steering_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"anyedge/internal/steering"
	"anyedge/internal/world"
)

func TestParseWhen(t *testing.T) {
	for _, test := range []struct {
		in   string
		want steering.When
		err  string
	}{
		{"", steering.When{Kind: "any_backend"}, ""},
		{"any_backend", steering.When{Kind: "any_backend"}, ""},
		{"always", steering.When{Kind: "always"}, ""},
		{"never", steering.When{Kind: "never"}, ""},
		{"fraction(0.5)", steering.When{Kind: "fraction", Fraction: 0.5}, ""},
		{"fraction(1)", steering.When{Kind: "fraction", Fraction: 1}, ""},
		{"fraction(0)", steering.When{Kind: "any_backend"}, `"fraction(0)": a fraction is above 0 and at most 1`},
		{"fraction(1.5)", steering.When{Kind: "any_backend"}, `"fraction(1.5)": a fraction is above 0 and at most 1`},
		{"fraction(NaN)", steering.When{Kind: "any_backend"}, `"fraction(NaN)": a fraction is above 0 and at most 1`},
		{"fraction(x)", steering.When{Kind: "any_backend"}, `"fraction(x)": a fraction is above 0 and at most 1`},
		{"fraction(0.5", steering.When{Kind: "any_backend"}, `"fraction(0.5" is none of any_backend, fraction(0.5), always, never`},
		{"sometimes", steering.When{Kind: "any_backend"}, `"sometimes" is none of any_backend, fraction(0.5), always, never`},
	} {
		got, err := steering.ParseWhen(test.in)
		if got != test.want || text(err) != test.err {
			t.Errorf("%q: %v, %q; want %v, %q", test.in, got, text(err), test.want, test.err)
		}
		if again, _ := steering.ParseWhen(got.String()); again != got {
			t.Errorf("%q: written and read again is %v", test.in, again)
		}
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestValidateConfig(t *testing.T) {
	good := []steering.Config{
		{},
		{Mode: "observe", Signals: []string{"rps"}, Target: 0.85, MaxRTT: new(time.Second), NeverTo: []string{"nrt"}, ExemptServices: []string{"shop"}},
	}
	for _, c := range good {
		if err := c.Validate(); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
	bad := steering.Config{
		Mode: "maybe", Signals: []string{"rps", "cpu"}, Target: 1.2, MaxRTT: new(time.Duration(0)),
		NeverTo: []string{"nrt", "nrt"}, ExemptServices: []string{"No"},
	}
	want := []string{
		`mode: "maybe" is not act or observe`,
		`signals[1]: "cpu" is not rps`,
		`target 1.2 is not between 0.1 and 0.95`,
		"max_rtt 0s leaves no geo to send work to; `mode: observe` moves nothing",
		`never_to[1]: nrt is listed twice`,
		`exempt_services[0]: "No" is not a name: want a-z, then a-z, 0-9 or -`,
	}
	if got := text(bad.Validate()); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

func TestValidateVIP(t *testing.T) {
	good := steering.VIPConfig{
		Name: "www", Prefixes: prefixes, Addresses: []netip.Addr{netip.MustParseAddr("203.0.113.10")}, Geos: []string{"all"},
		Announce: steering.AnnounceConfig{Mode: "shadow", When: "fraction(0.5)", Communities: []string{"65001:100"}, LargeCommunities: []string{"4200000000:1:1"}, Prepend: 10},
		Drain:    steering.DrainConfig{Prepend: new(0), Wait: new(time.Duration(0))},
		Guard:    steering.GuardConfig{MinOthers: new(0), LastGeo: "keep"},
	}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	bad := steering.VIPConfig{
		Name:      "WWW",
		Prefixes:  []netip.Prefix{{}, netip.MustParsePrefix("203.0.113.9/24"), prefixes[1], prefixes[1]},
		Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::1")},
		Geos:      []string{"all", "any"},
		Announce:  steering.AnnounceConfig{Mode: "on", When: "often", Communities: []string{"65536:1", "65535:0", "1"}, LargeCommunities: []string{"1:1"}, Prepend: 11},
		Drain:     steering.DrainConfig{Prepend: new(-1), Wait: new(time.Hour)},
		Stability: steering.StabilityConfig{Rise: new(-time.Second), Fall: new(-time.Second), HoldUp: new(-time.Second), HoldDown: new(-time.Second)},
		Guard:     steering.GuardConfig{MinOthers: new(-1), LastGeo: "stay"},
	}
	want := []string{
		`name: "WWW" is not a name: want a-z, then a-z, 0-9 or -`,
		`prefixes[0]: not a prefix`,
		`prefixes[1]: 203.0.113.9/24 has bits beyond its length; want 203.0.113.0/24`,
		`prefixes[3]: 2001:db8::/32 is listed twice`,
		`addresses[0]: 192.0.2.1 is in none of the prefixes`,
		`addresses[2]: 2001:db8::1 is listed twice`,
		`geos[0]: "any" is a reserved word and nobody's name`,
		`announce.mode: "on" is not act or shadow`,
		`announce.when: "often" is none of any_backend, fraction(0.5), always, never`,
		`announce.communities[0]: "65536:1" is not ASN:VALUE, each 0-65535 (RFC 1997)`,
		`announce.communities[1]: 65535:0 is GRACEFUL_SHUTDOWN (RFC 8326); drain.gshut adds it when it is due`,
		`announce.communities[2]: "1" is not ASN:VALUE, each 0-65535 (RFC 1997)`,
		`announce.large_communities[0]: "1:1" is not ASN:A:B, each 0-4294967295 (RFC 8092)`,
		`announce.prepend 11 is not between 0 and 10`,
		`drain.prepend -1 is not between 0 and 10`,
		`stability.rise -1s is negative`,
		`stability.fall -1s is negative`,
		`stability.hold_up -1s is negative`,
		`stability.hold_down -1s is negative`,
		`guard.min_others -1 is negative`,
		`guard.last_geo: "stay" is not keep or withdraw`,
	}
	if got := text(bad.Validate()); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	if got := text(steering.VIPConfig{Name: "www"}.Validate()); got != "prefixes: at least one is required" {
		t.Errorf("no prefixes: %q", got)
	}
}

func TestVIPIn(t *testing.T) {
	groups := []world.GroupConfig{{Name: "europe", Geos: []string{"fra", "ams"}}}
	for _, test := range []struct {
		geos []string
		want bool
	}{
		{nil, true},
		{[]string{"all"}, true},
		{[]string{"nrt", "fra"}, true},
		{[]string{"europe"}, true},
		{[]string{"nrt"}, false},
		{[]string{"asia"}, false},
	} {
		c := steering.VIPConfig{Geos: test.geos}
		if got := c.In("fra", groups); got != test.want {
			t.Errorf("geos %v: %v", test.geos, got)
		}
	}
}
