package bgp_test

import (
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"anyedge/bgp"
	"anyedge/internal/secret"
)

func TestValidate(t *testing.T) {
	good := bgp.NeighborConfig{Name: "tor-a", Address: addr("192.0.2.2"), ASN: 64501}
	with := func(change func(*bgp.NeighborConfig)) bgp.NodeConfig {
		n := good
		change(&n)
		return bgp.NodeConfig{Neighbors: []bgp.NeighborConfig{n}}
	}
	timers := func(t bgp.TimersConfig) interface{ Validate() error } { return bgp.Config{ASN: 65010, Timers: t} }
	tests := []struct {
		name   string
		config interface{ Validate() error }
		want   []string // parts of the error; none: no error
	}{
		{"least", bgp.Config{ASN: 65010}, nil},
		{"all", bgp.Config{Mode: "inprocess", ASN: edgeASN, Import: "none", Timers: bgp.TimersConfig{Hold: new(3 * time.Second), Keepalive: new(time.Second), ConnectRetry: new(time.Second)}}, nil},
		{"every problem at once", bgp.Config{Mode: "child", Import: "all"}, []string{"inprocess", "asn is required", "never learn"}},
		{"hold", timers(bgp.TimersConfig{Hold: new(2 * time.Second)}), []string{"hold 2s", "RFC 4271"}},
		{"part of a second", timers(bgp.TimersConfig{ConnectRetry: new(1500 * time.Millisecond)}), []string{"connect_retry 1.5s", "whole seconds"}},
		{"keepalive", timers(bgp.TimersConfig{Keepalive: new(9 * time.Second)}), []string{"keepalive 9s", "less than hold"}},
		{"least neighbor", with(func(*bgp.NeighborConfig) {}), nil},
		{"no neighbors", bgp.NodeConfig{}, nil},
		{"empty neighbor", bgp.NodeConfig{Neighbors: []bgp.NeighborConfig{{}}}, []string{"neighbor #1", "name is required", "address is required", "asn is required"}},
		{"gtsm and multihop", with(func(n *bgp.NeighborConfig) { n.GTSM, n.Multihop = true, 2 }), []string{"neighbor tor-a: gtsm and multihop"}},
		{"local address of the other family", with(func(n *bgp.NeighborConfig) { n.LocalAddress = addr("2001:db8::1") }), []string{"different families"}},
		{"class", with(func(n *bgp.NeighborConfig) { n.Class = "customer" }), []string{`class "customer"`}},
		{"unknown family", with(func(n *bgp.NeighborConfig) { n.Families = []string{"evpn"} }), []string{`"evpn" is neither`}},
		{"v6 without a next hop", with(func(n *bgp.NeighborConfig) { n.Families = []string{"ipv6"} }), []string{"needs next_hop.ipv6"}},
		{"password in two places", with(func(n *bgp.NeighborConfig) { n.Password = &secret.Ref{File: "/a", Env: "B"} }), []string{"password", "exactly one"}},
		{"max_prefix", with(func(n *bgp.NeighborConfig) {
			n.MaxPrefix = &bgp.MaxPrefixConfig{Action: "drop", After: new(time.Millisecond)}
		}), []string{`"drop"`, "below 1s"}},
		{"names and addresses twice", bgp.NodeConfig{Neighbors: []bgp.NeighborConfig{good, good}}, []string{"name is used twice", "another neighbor's"}},
		{"next hops", bgp.NodeConfig{NextHop: bgp.NextHopConfig{IPv4: addr("2001:db8::1"), IPv6: addr("192.0.2.1")}}, []string{"next_hop.ipv4", "next_hop.ipv6"}},
		{"listen", bgp.NodeConfig{Listen: []string{"192.0.2.1", "[2001:db8::1]:179"}}, nil},
		{"listen on two ports", bgp.NodeConfig{Listen: []string{"192.0.2.1", "192.0.2.2:1790"}}, []string{"share one port"}},
		{"listen nowhere", bgp.NodeConfig{Listen: []string{":179"}}, []string{"neither ADDRESS nor"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.config.Validate()
			if len(tt.want) == 0 && err != nil {
				t.Fatalf("unexpected: %v", err)
			}
			for _, part := range tt.want {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("error %v lacks %q", err, part)
				}
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	neighbor := bgp.NeighborConfig{Name: "tor-a", Address: addr("192.0.2.2"), ASN: 64501, Password: &secret.Ref{File: "/nonexistent"}}
	tests := []struct {
		name  string
		setup bgp.Setup
		want  string
	}{
		{"no router id", bgp.Setup{Config: bgp.Config{ASN: 65010}}, "node.router_id"},
		{"IPv6 router id", bgp.Setup{Config: bgp.Config{ASN: 65010}, RouterID: addr("2001:db8::1")}, "no IPv4 address"},
		{"no password", bgp.Setup{Config: bgp.Config{ASN: 65010}, RouterID: addr(edgeID), Node: bgp.NodeConfig{Neighbors: []bgp.NeighborConfig{neighbor}}}, "neighbor tor-a: password"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := bgp.New(tt.setup, slog.New(slog.DiscardHandler))
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want one line with %q", err, tt.want)
			}
		})
	}
}

func TestParseCommunity(t *testing.T) {
	for text, want := range map[string]bgp.Community{"0:0": 0, "65535:0": bgp.GracefulShutdown, "64500:100": 64500<<16 | 100, "65535:65281": bgp.NoExport} {
		if got, err := bgp.ParseCommunity(text); err != nil || got != want || got.String() != text {
			t.Errorf("%s: %v %v", text, got, err)
		}
	}
	for _, text := range []string{"", ":", "1", "1:2:3", "65536:1", "1:65536", "-1:2", "+1:2", "01:2", " 1:2", "a:b", "no-export"} {
		if got, err := bgp.ParseCommunity(text); err == nil {
			t.Errorf("%q was read as %s", text, got)
		}
	}
	if got, err := bgp.ParseLargeCommunity("4294967295:0:7"); err != nil || got != (bgp.LargeCommunity{ASN: 4294967295, B: 7}) {
		t.Errorf("%v %v", got, err)
	}
	for _, text := range []string{"", "1:2", "1:2:3:4", "4294967296:0:0", "1:2:03"} {
		if got, err := bgp.ParseLargeCommunity(text); err == nil {
			t.Errorf("%q was read as %s", text, got)
		}
	}
	if _, err := bgp.ParseCommunities([]string{"1:2", "x"}); err == nil || !strings.Contains(err.Error(), `"x"`) {
		t.Errorf("error %v does not name the mistake", err)
	}
}

// FuzzParseCommunity: what is read is spelled in one way, and nothing panics.
func FuzzParseCommunity(f *testing.F) {
	for _, s := range []string{"65535:0", "64500:1:2", "01:2", ":", "4294967295:4294967295:4294967295", "१:2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if c, err := bgp.ParseCommunity(s); err == nil && c.String() != s {
			t.Errorf("community %q is %q", s, c)
		}
		if c, err := bgp.ParseLargeCommunity(s); err == nil && c.String() != s {
			t.Errorf("large community %q is %q", s, c)
		}
	})
}

// TestAnnounceBeforeRun: of two routes with one prefix the last counts, and
// nothing is wrong while nobody listens.
func TestAnnounceBeforeRun(t *testing.T) {
	s := newSpeaker(t, bgp.Setup{Node: bgp.NodeConfig{Neighbors: []bgp.NeighborConfig{{Name: "tor-a", Address: addr("192.0.2.2"), ASN: 64501}}}})
	s.Announce([]bgp.Route{{Prefix: netip.MustParsePrefix("192.0.2.1/24")}, {}})
	if m := s.Mismatch(); len(m) > 0 {
		t.Errorf("mismatch %v with no session", m)
	}
	select {
	case <-s.Changed():
	default:
		t.Error("a new announcement is no change")
	}
	s.Announce([]bgp.Route{{Prefix: prefix("192.0.2.0/24")}})
	select {
	case <-s.Changed():
		t.Error("the same announcement is a change")
	default:
	}
	st := s.Status()
	if st.Impl != "gobgp" || st.ASN != edgeASN || st.Neighbors[0].State != bgp.Idle || st.Neighbors[0].Port != 179 {
		t.Errorf("status: %+v", st)
	}
}
