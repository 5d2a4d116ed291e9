package lb_test

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"anyedge/bpf/lb"
)

// abroad is a frame as it leaves for server d.
func abroad(frame []byte, proto byte) []byte {
	out := encapsulated(frame, proto)
	h := out[14:34]
	h[5] = 6
	copy(h[16:], addrD.AsSlice())
	h[10], h[11] = 0, 0
	binary.BigEndian.PutUint16(h[10:], ^sum(h))
	return out
}

// TestAbroad says what goes to another geo while routes move, and what becomes
// there of what came.
func TestAbroad(t *testing.T) {
	p := load(t)
	ack4, ack6 := tcp(client4, vip4, 40000, ack), tcp(client6, vip6, 40000, ack)
	big := ether(macRouter, macA, ip(client4, vip4, 6, segment(6, 40000, 443, ack, 1460)))
	udp := ether(macRouter, macA, ip(client4, vip4, 17, segment(17, 40000, 443, 0, 10)))
	flipped := func(frame []byte, bits byte) []byte {
		out := slices.Clone(frame)
		copy(out[6:], macB[:])
		out[6] ^= bits
		return out
	}
	came := func(id byte, inner []byte) []byte {
		proto := byte(4)
		if inner[14]>>4 == 6 {
			proto = 41
		}
		out := ip(addrD, addrA, proto, inner[14:])
		out[5] = id
		return ether(macRouter, macA, out)
	}
	sibling := func(id byte, inner []byte) []byte {
		out := ip(addrC, addrA, 4, inner[14:])
		out[5] = id
		return ether(macRouter, macA, out)
	}
	toB := func(frame []byte) []byte {
		out := rewritten(frame)
		out[6] ^= 4
		return out
	}
	for _, tt := range []struct {
		name   string
		owner  string
		frame  []byte
		action lb.Action
		want   []byte // nil: unchanged
		reason lb.Reason
	}{
		{"unknown here", "a", ack4, lb.Transmit, abroad(ack4, 4), lb.ToAbroad},
		{"unknown here v6", "a", ack6, lb.Transmit, abroad(ack6, 41), lb.ToAbroad},
		{"a director's", "a", flipped(ack4, 0), lb.Transmit, abroad(ack4, 4), lb.ToAbroad},
		{"the other owner does not have it", "a", flipped(ack4, 2), lb.Transmit, abroad(ack4, 4), lb.ToAbroad},
		{"no geo has it", "a", flipped(ack4, 4), lb.Pass, nil, 0},
		{"nobody has it", "a", flipped(ack4, 6), lb.Pass, nil, 0},
		{"another's bucket", "b", ack4, lb.Transmit, rewritten(ack4), 0},
		{"opens", "a", tcp(client4, vip4, 40000, syn), lb.Pass, nil, 0},
		{"UDP", "a", udp, lb.Pass, nil, 0},
		{"too big for the way", "a", big, lb.Pass, nil, lb.TooBig},
		{"came for me", "a", came(6, ack4), lb.Pass, ack4, lb.FromAbroad},
		{"came for me v6", "a", came(6, ack6), lb.Pass, ack6, lb.FromAbroad},
		{"came for another", "b", came(6, ack4), lb.Transmit, toB(ack4), lb.FromAbroad},
		{"came without saying that it is a stray", "a", came(4, ack4), lb.Pass, ack4, lb.FromAbroad},
		{"came as if from here", "a", came(0, ack4), lb.Drop, nil, lb.Inner},
		{"came as if chained here", "a", came(1, ack4), lb.Drop, nil, lb.Inner},
		{"a sibling's, as if from abroad", "a", sibling(6, ack4), lb.Drop, nil, lb.Inner},
		{"came and opens", "a", came(6, tcp(client4, vip4, 40000, syn)), lb.Drop, nil, lb.Inner},
		{"came and is UDP", "a", came(6, udp), lb.Drop, nil, lb.Inner},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := spec(lb.Group{Ring: ring(t, tt.owner)})
			s.VIPs[0].Abroad, s.VIPs[1].Abroad = "d", "d"
			apply(t, p, s)
			before := counters(t, p)
			action, out := run(t, p, tt.frame)
			want := tt.want
			if want == nil {
				want = tt.frame
			}
			if action != tt.action || !bytes.Equal(out, want) {
				t.Errorf("action %d, want %d\n got %x\nwant %x", action, tt.action, out, want)
			}
			after := counters(t, p)
			if tt.reason != 0 && after.Reasons[tt.reason].Packets != before.Reasons[tt.reason].Packets+1 {
				t.Errorf("%s was not counted", tt.reason)
			}
		})
	}
}

// TestAbroadAsksSockets has a connection here: its packets stay.
func TestAbroadAsksSockets(t *testing.T) {
	p := load(t)
	for _, addr := range []string{"127.0.0.2", "::1"} {
		vip := netip.MustParseAddr(addr)
		var lc net.ListenConfig
		l, err := lc.Listen(t.Context(), "tcp", netip.AddrPortFrom(vip, 0).String())
		if err != nil {
			t.Skip(err) // a machine without IPv6
		}
		var d net.Dialer
		conn, err := d.DialContext(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		here := conn.LocalAddr().(*net.TCPAddr).AddrPort()
		port := l.Addr().(*net.TCPAddr).AddrPort().Port()
		frame := func(from uint16) []byte {
			return ether(macRouter, macA, ip(here.Addr(), vip, 6, segment(6, from, port, ack, 0)))
		}
		s := spec(lb.Group{Ring: ring(t, "a")})
		s.VIPs = []lb.VIP{{Addr: vip, Abroad: "d"}}
		apply(t, p, s)
		if action, _ := run(t, p, frame(here.Port())); action != lb.Pass {
			t.Errorf("%s, established here: action %d", addr, action)
		}
		if action, _ := run(t, p, frame(here.Port()^1)); action != lb.Transmit {
			t.Errorf("%s, only the listener is here: action %d", addr, action)
		}
		_, _ = conn.Close(), l.Close()
	}
}

// TestNothingCircles lets nodes of two geos have any tables, as they never should:
// no packet may be sent on more than five times.
func TestNothingCircles(t *testing.T) {
	rings := []*lb.Ring{nil, ring(t, "a"), ring(t, "b"), ring(t, "a", "b")}
	far := []*lb.Ring{nil, ring(t, "d"), ring(t, "e"), ring(t, "d", "e")}
	type machine struct {
		mac  lb.MAC
		addr netip.Addr
	}
	machines := map[string]machine{
		"a": {macA, addrA}, "b": {macB, addrB},
		"d": {lb.MAC{0x02, 0, 0, 0, 1, 0x0d}, addrD}, "e": {lb.MAC{0x02, 0, 0, 0, 1, 0x0e}, netip.MustParseAddr("198.51.100.131")},
	}
	geos := map[string][]string{"a": {"b", "d", "e"}, "b": {"a", "d", "e"}, "d": {"e", "a", "b"}, "e": {"d", "a", "b"}}
	rapid.Check(t, func(t *rapid.T) {
		models := map[string]*lb.Model{}
		for _, name := range []string{"a", "b", "d", "e"} {
			of, others := rings, geos[name]
			if name > "c" {
				of = far
			}
			me := machines[name]
			s := &lb.Spec{Node: lb.Node{Name: name, MAC: me.mac, Addr: me.addr}}
			s.Groups = []lb.Group{{Ring: rapid.SampledFrom(of).Draw(t, "ring"), Other: rapid.SampledFrom(of).Draw(t, "other")}}
			mode := rapid.SampledFrom([]lb.Mode{lb.L2, lb.IPIP}).Draw(t, "mode")
			for i, o := range others {
				it := machines[o]
				server := lb.Server{Name: o, Mode: mode, MAC: it.mac, Addr: it.addr}
				if i > 0 {
					server.Mode, server.MAC = lb.IPIP, macRouter
				}
				s.Servers = append(s.Servers, server)
				if i > 0 {
					s.Peers = append(s.Peers, lb.Peer{Addr: it.addr, Far: true})
				} else {
					s.Peers = append(s.Peers, lb.Peer{Addr: it.addr, MAC: it.mac})
				}
			}
			s.VIPs = []lb.VIP{{Addr: vip4, Abroad: rapid.SampledFrom([]string{"", others[1], others[2]}).Draw(t, "abroad")}}
			if err := s.Validate(); err != nil {
				t.Fatal(err)
			}
			has := rapid.IntRange(0, 3).Draw(t, "socket") == 0
			models[name] = &lb.Model{Spec: s, HasSocket: func(lb.Flow) bool { return has }}
		}
		at := rapid.SampledFrom([]string{"a", "b", "d", "e"}).Draw(t, "first")
		port := rapid.Uint16().Draw(t, "port")
		frame := ether(macRouter, machines[at].mac, ip(client4, vip4, 6, segment(6, port, 443, ack, 10)))
		way := at
		for {
			v := models[at].Run(frame)
			if v.Action != lb.Transmit {
				break
			}
			way += v.Server
			if len(way) > 6 {
				t.Fatalf("circles: %s", way)
			}
			at, frame = v.Server, v.Frame
			if lb.MAC(frame[:6]) == macRouter { // which changes both MACs
				copy(frame[6:], macRouter[:])
			}
		}
	})
}
