package lb_test

import (
	"net/netip"
	"testing"

	"anyedge/bpf/lb"
)

// TestTrace: a trace tells what the program does with a packet of the flow.
func TestTrace(t *testing.T) {
	p := load(t)
	s := spec(lb.Group{Ring: ring(t, "a", "b", "c"), Other: ring(t, "a", "b")})
	s.Servers[1].MTU = 1600
	apply(t, p, s)
	seen := map[string]int{}
	for port := range uint16(200) {
		src, dst := client4, vip4
		if port%2 == 1 {
			src, dst = client6, vip6
		}
		f := lb.Flow{Src: netip.AddrPortFrom(src, 1000+port), Dst: netip.AddrPortFrom(dst, 443), Proto: 6}
		got, err := p.Trace(f)
		if err != nil {
			t.Fatal(err)
		}
		owner, other := s.Groups[0].Owners(f.Bucket(s.Key))
		want := lb.Route{VIP: true, Bucket: f.Bucket(s.Key), Owner: owner, Other: other}
		for _, v := range s.Servers {
			if v.Name == owner {
				want.Server = v
			}
		}
		if got != want {
			t.Errorf("%v: %+v, want %+v", f, got, want)
		}
		action, _ := run(t, p, tcp(src, dst, 1000+port, syn))
		if kept := action == lb.Pass; kept != (got.Server.Name == "") {
			t.Errorf("%v: action %d, traced to %q", f, action, got.Owner)
		}
		seen[owner]++
	}
	if len(seen) != 3 {
		t.Errorf("flows go to %v, want three nodes", seen)
	}
	got, err := p.Trace(lb.Flow{Src: netip.AddrPortFrom(client4, 1), Dst: netip.AddrPortFrom(addrB, 443), Proto: 6})
	if err != nil || got.VIP {
		t.Errorf("no VIP: %+v, %v", got, err)
	}
	apply(t, p, spec(lb.Group{}))
	got, err = p.Trace(lb.Flow{Src: netip.AddrPortFrom(client4, 1), Dst: netip.AddrPortFrom(vip4, 443), Proto: 6})
	if err != nil || !got.VIP || got.Owner != "" {
		t.Errorf("no ring: %+v, %v", got, err)
	}
}
