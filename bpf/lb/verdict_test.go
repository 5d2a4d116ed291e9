package lb_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anyedge/bpf/lb"
)

// TestVerdicts says for each class of packet what comes out, without the model.
func TestVerdicts(t *testing.T) {
	p := load(t)
	other := netip.MustParseAddr("192.0.2.11")
	ack4, ack6 := tcp(client4, vip4, 40000, ack), tcp(client6, vip6, 40000, ack)
	echo := ether(macRouter, macA, ip(client4, vip4, 1, []byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0}))
	tooBig := ether(macRouter, macA, ip(client4, vip4, 1, append([]byte{3, 4, 0, 0, 0, 0, 5, 0}, ip(vip4, client4, 6, segment(6, 443, 9, ack, 0))...)))
	echo6 := ether(macRouter, macA, ip(client6, vip6, 58, []byte{128, 0, 0, 0, 0, 0, 0, 0}))
	big := ether(macRouter, macA, ip(client4, vip4, 6, segment(6, 40000, 443, ack, 1460)))
	fits := ether(macRouter, macA, ip(client4, vip4, 6, segment(6, 40000, 443, ack, 1440)))
	fragment, options := slices.Clone(ack4), slices.Clone(ack4)
	fragment[20] |= 0x20
	options[14] = 0x46
	dying := slices.Clone(ack4)
	dying[22] = 1
	extension := ether(macRouter, macA, ip(client6, vip6, 0, append([]byte{6, 0, 1, 4, 0, 0, 0, 0}, segment(6, 9, 443, ack, 0)...)))
	arp := append(slices.Concat(macA[:], macRouter[:]), 0x08, 0x06, 0, 1, 8, 0)
	tunnel := func(src, dst netip.Addr, inner []byte) []byte {
		proto := byte(4)
		if inner[0]>>4 == 6 {
			proto = 41
		}
		return ether(macRouter, macA, ip(src, dst, proto, inner))
	}
	inner := func(frame []byte) []byte { return frame[14:] }
	for _, tt := range []struct {
		name   string
		owner  string
		frame  []byte
		action lb.Action
		want   []byte // nil: unchanged
		reason lb.Reason
	}{
		{"not IP", "b", arp, lb.Pass, nil, 0},
		{"not a VIP", "b", tcp(client4, other, 40000, ack), lb.Pass, nil, 0},
		{"echo request", "b", echo, lb.Pass, nil, lb.OtherProto},
		{"packet too big", "b", tooBig, lb.Pass, nil, lb.OtherProto},
		{"echo request v6", "b", echo6, lb.Pass, nil, lb.OtherProto},
		{"fragment", "b", fragment, lb.Pass, nil, lb.Fragment},
		{"options", "b", options, lb.Pass, nil, lb.Options},
		{"extension header", "b", extension, lb.Pass, nil, lb.OtherProto},
		{"mine", "a", ack4, lb.Pass, nil, 0},
		{"mine v6", "a", ack6, lb.Pass, nil, 0},
		{"rewritten", "b", ack4, lb.Transmit, rewritten(ack4), 0},
		{"rewritten v6", "b", ack6, lb.Transmit, rewritten(ack6), 0},
		{"last hop", "b", dying, lb.Drop, nil, lb.TTLExpired},
		{"encapsulated", "c", ack4, lb.Transmit, encapsulated(ack4, 4), 0},
		{"encapsulated v6", "c", ack6, lb.Transmit, encapsulated(ack6, 41), 0},
		{"just fits", "c", fits, lb.Transmit, encapsulated(fits, 4), 0},
		{"does not fit", "c", big, lb.Drop, nil, lb.TooBig},
		{"from a peer", "a", tunnel(addrC, addrA, inner(ack4)), lb.Pass, ether(macRouter, macA, inner(ack4)), lb.Decapsulated},
		{"from a peer v6", "a", tunnel(addrC, addrA, inner(ack6)), lb.Pass, ether(macRouter, macA, inner(ack6)), lb.Decapsulated},
		{"from a stranger", "a", tunnel(client4, addrA, inner(ack4)), lb.Drop, nil, lb.Stranger},
		{"a tunnel that is not ours", "a", tunnel(addrC, addrB, inner(ack4)), lb.Pass, nil, lb.OtherProto},
		{"a peer's, not for a VIP", "a", tunnel(addrC, addrA, ip(client4, other, 6, segment(6, 1, 2, ack, 0))), lb.Drop, nil, lb.Inner},
		{"a peer's echo", "a", tunnel(addrC, addrA, inner(echo)), lb.Drop, nil, lb.Inner},
		{"a peer that errs", "b", tunnel(addrC, addrA, inner(ack4)), lb.Pass, ether(macRouter, macA, inner(ack4)), lb.NotMine},
	} {
		t.Run(tt.name, func(t *testing.T) {
			apply(t, p, spec(lb.Group{Ring: ring(t, tt.owner)}))
			before := counters(t, p)
			action, out := run(t, p, tt.frame)
			want := tt.want
			if want == nil {
				want = tt.frame
			}
			if action != tt.action {
				t.Errorf("action %d, want %d", action, tt.action)
			}
			if diff := cmp.Diff(want, out); diff != "" {
				t.Errorf("frame (-want +got):\n%s", diff)
			}
			after := counters(t, p)
			if tt.reason != 0 && after.Reasons[tt.reason].Packets != before.Reasons[tt.reason].Packets+1 {
				t.Errorf("%s was not counted", tt.reason)
			}
		})
	}
}

// rewritten is what server b has to get.
func rewritten(frame []byte) []byte {
	out := slices.Clone(frame)
	copy(out, macB[:])
	copy(out[6:], macA[:])
	if out[12] == 0x86 {
		out[21]--
		return out
	}
	out[22]--
	out[24], out[25] = 0, 0
	binary.BigEndian.PutUint16(out[24:], ^sum(out[14:34]))
	return out
}

// encapsulated is what server c's router has to get.
func encapsulated(frame []byte, proto byte) []byte {
	h := make([]byte, 20)
	h[0], h[1], h[6], h[8], h[9] = 0x45, 0xb8, 0x40, 64, proto
	binary.BigEndian.PutUint16(h[2:], uint16(len(frame)-14+20))
	copy(h[12:], addrA.AsSlice())
	copy(h[16:], addrC.AsSlice())
	binary.BigEndian.PutUint16(h[10:], ^sum(h))
	return slices.Concat(macRouter[:], macA[:], []byte{8, 0}, h, frame[14:])
}

func counters(tb testing.TB, p *lb.Program) lb.Counters {
	tb.Helper()
	c, err := p.Counters()
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func TestVLANTagsStay(t *testing.T) {
	p := load(t)
	packet := tcp(client4, vip4, 40000, ack)[14:]
	for _, tags := range [][]uint16{{100}, {100, 0x2007}, {1, 2, 3}} {
		frame := ether(macRouter, macA, packet, tags...)
		for _, owner := range []string{"b", "c"} {
			apply(t, p, spec(lb.Group{Ring: ring(t, owner)}))
			action, out := run(t, p, frame)
			if len(tags) > 2 {
				if action != lb.Pass || !bytes.Equal(out, frame) {
					t.Errorf("three tags: action %d", action)
				}
				continue
			}
			n := 4 * len(tags)
			plain := slices.Concat(out[:12], out[12+n:])
			want := encapsulated(ether(macRouter, macA, packet), 4)
			if owner == "b" {
				want = rewritten(ether(macRouter, macA, packet))
			}
			if action != lb.Transmit || !bytes.Equal(plain, want) || !bytes.Equal(out[12:12+n], frame[12:12+n]) {
				t.Errorf("tags %v to %s: action %d\n got %x\nwant %x", tags, owner, action, plain, want)
			}
		}
		apply(t, p, spec(lb.Group{Ring: ring(t, "a")}))
		action, out := run(t, p, ether(macRouter, macA, ip(addrC, addrA, 4, packet), tags...))
		if len(tags) <= 2 && (action != lb.Pass || !bytes.Equal(out, frame)) {
			t.Errorf("tags %v decapsulated: action %d\n got %x\nwant %x", tags, action, out, frame)
		}
	}
}

// TestTruncated cuts frames at every byte: nothing cut may be sent on.
func TestTruncated(t *testing.T) {
	p := load(t)
	apply(t, p, spec(lb.Group{Ring: ring(t, "b", "c")}))
	inner := tcp(client4, vip4, 40000, ack)
	for name, frame := range map[string][]byte{
		"v4":        inner,
		"v6":        tcp(client6, vip6, 40000, ack),
		"UDP":       ether(macRouter, macA, ip(client4, vip4, 17, segment(17, 40000, 443, 0, 5))),
		"VLAN":      ether(macRouter, macA, inner[14:], 1, 2),
		"IPIP":      ether(macRouter, macA, ip(addrC, addrA, 4, inner[14:])),
		"v6 inside": ether(macRouter, macA, ip(addrC, addrA, 41, tcp(client6, vip6, 40000, ack)[14:])),
	} {
		for n := 14; n < len(frame); n++ {
			if action, out := run(t, p, frame[:n]); action != lb.Pass || !bytes.Equal(out, frame[:n]) {
				t.Errorf("%s cut to %d bytes: action %d, %x", name, n, action, out)
			}
		}
	}
}

// TestSameFlowSameServer sends a flow's packets of all kinds after another and
// checks that the flows spread.
func TestSameFlowSameServer(t *testing.T) {
	p := load(t)
	apply(t, p, spec(lb.Group{Ring: ring(t, "a", "b", "c")}))
	seen := map[string]int{}
	for port := uint16(20000); port < 23000; port++ {
		var first lb.Counters
		for i, flags := range []byte{syn, ack, ack | 8, 4} {
			before := counters(t, p)
			run(t, p, tcp(client4, vip4, port, flags))
			after := counters(t, p)
			var server string
			for name, c := range after.Servers {
				if c.Packets != before.Servers[name].Packets {
					server = name
				}
			}
			if i == 0 {
				first = before
				seen[server]++
				continue
			}
			if after.Servers[server].Packets != first.Servers[server].Packets+uint64(i)+1 {
				t.Fatalf("port %d: packet %d went to %s, not to the first one's server", port, i, server)
			}
		}
	}
	for _, name := range []string{"a", "b", "c"} {
		if seen[name] < 850 || seen[name] > 1150 {
			t.Errorf("%d of 3000 flows went to %s", seen[name], name)
		}
	}
}

// TestMark checks what tells a packet that was sent on from a director's.
func TestMark(t *testing.T) {
	p := load(t)
	frame := tcp(client4, vip4, 40000, ack)
	a := ring(t, "a")
	apply(t, p, spec(lb.Group{Ring: a, Other: ring(t, "b")}))
	want := rewritten(frame)
	want[6] ^= 2
	if action, out := run(t, p, frame); action != lb.Transmit || !bytes.Equal(out, want) {
		t.Errorf("L2: action %d\n got %x\nwant %x", action, out, want)
	}
	apply(t, p, spec(lb.Group{Ring: a, Other: ring(t, "c")}))
	want = encapsulated(frame, 4)
	want[19], want[24], want[25] = 1, 0, 0
	binary.BigEndian.PutUint16(want[24:], ^sum(want[14:34]))
	if action, out := run(t, p, frame); action != lb.Transmit || !bytes.Equal(out, want) {
		t.Errorf("IPIP: action %d\n got %x\nwant %x", action, out, want)
	}
}
