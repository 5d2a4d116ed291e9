package lb_test

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anyedge/bpf/lb"
)

// compare sends one frame through the program and the model.
func compare(tb testing.TB, p *lb.Program, prog func([]byte) (lb.Action, []byte), m *lb.Model, frame []byte) lb.Verdict {
	tb.Helper()
	want := m.Run(frame)
	before, err1 := p.Counters()
	action, out := prog(frame)
	after, err2 := p.Counters()
	if err1 != nil || err2 != nil {
		tb.Fatal(err1, err2)
	}
	got := lb.Verdict{Action: action, Frame: out}
	for _, r := range lb.Reasons() {
		if after.Reasons[r].Packets != before.Reasons[r].Packets {
			got.Reasons = append(got.Reasons, r)
		}
	}
	for name, c := range after.Servers {
		if c.Packets != before.Servers[name].Packets {
			got.Server += name
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		tb.Fatalf("frame %x\nmodel against program (-model +program):\n%s", frame, diff)
	}
	return want
}

var actions = map[lb.Action]string{lb.Drop: "drop", lb.Pass: "pass", lb.Transmit: "transmit"}

// A generator draws specs and frames that lie close to what the program looks
// at, with damage here and there.
type generator struct{ *rand.Rand }

func (g generator) oneIn(n int) bool { return g.IntN(n) == 0 }

func pick[T any](g generator, of ...T) T { return of[g.IntN(len(of))] }

func (g generator) spec(rings []*lb.Ring) *lb.Spec {
	s := spec(lb.Group{Ring: pick(g, rings...)})
	s.Key = [2]uint64{g.Uint64(), g.Uint64()}
	if g.oneIn(2) {
		s.Groups[0].Other = pick(g, rings...)
	}
	s.Groups = append(s.Groups, lb.Group{Ring: pick(g, rings...), Other: pick(g, rings...)})
	if g.oneIn(3) {
		s.Groups[1].Gone = []string{pick(g, "a", "b", "c")}
	}
	s.VIPs[1].Group = 1
	if g.oneIn(2) {
		s.Servers[0], s.Servers[1] = lb.Server{Name: "b", Mode: lb.IPIP, MAC: macB, Addr: addrB, MTU: 1400}, lb.Server{Name: "c", Mode: lb.L2, MAC: lb.MAC{0x06, 1, 2, 3, 4, 5}}
		s.Peers[1].MAC = s.Servers[1].MAC
	}
	if g.oneIn(4) {
		s.Servers[1] = lb.Server{Name: "c"} // nobody knows the way
	}
	if g.oneIn(2) {
		s.VIPs[0].Abroad, s.VIPs[1].Abroad = "d", "d"
		s.Servers[2].MTU = pick(g, 0, 1400)
	}
	if g.oneIn(8) {
		s.Servers[2] = lb.Server{Name: "d"}
	}
	for i := range g.IntN(300) {
		s.VIPs = append(s.VIPs, lb.VIP{Addr: netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), Group: i % 2})
	}
	return s
}

func (g generator) address(six bool) netip.Addr {
	if six {
		return pick(g, vip6, vip6, client6, netip.MustParseAddr("2001:db8::"), netip.AddrFrom16([16]byte{8: 192, 9: 0, 10: 2, 11: 10}))
	}
	return pick(g, vip4, vip4, client4, addrA, addrB, addrC, netip.AddrFrom4([4]byte{198, 18, 0, byte(g.IntN(256))}))
}

func (g generator) packet(depth int) []byte {
	six := g.oneIn(3)
	src, dst := g.address(six), g.address(six)
	if !g.oneIn(4) {
		src, dst = client4, vip4
		if six {
			src, dst = client6, vip6
		}
	}
	if depth == 0 && !six && g.oneIn(2) {
		inner := g.packet(1)
		proto := byte(4)
		if inner[0]>>4 == 6 {
			proto = 41
		}
		if g.oneIn(20) {
			proto ^= 45
		}
		out := ip(pick(g, addrB, addrC, addrD, client4), pick(g, addrA, addrA, addrA, addrB), proto, inner)
		out[5] = byte(g.IntN(9)) // the marks, and what is none
		return out
	}
	proto := pick[byte](g, 6, 6, 6, 6, 6, 17, 17, 17, 1, 58, 4, 41, 0)
	out := ip(src, dst, proto, segment(pick(g, proto, proto, proto, 6), uint16(g.Uint32()), uint16(g.Uint32()), pick[byte](g, syn, ack, ack, syn|ack, 4), pick(g, 0, 1, 7, 100, 1359, 1440, 1460)))
	if g.oneIn(5) {
		out[7+g.IntN(2)] = byte(g.IntN(3)) // TTL, or IPv6's next header
	}
	if g.oneIn(40) && !six {
		out[0]++ // options
	}
	return out
}

func (g generator) frame() []byte {
	var tags []uint16
	for range pick(g, 0, 0, 0, 0, 1, 2, 3) {
		tags = append(tags, uint16(g.Uint32()))
	}
	from := pick(g, macRouter, macRouter, macB, lb.MAC{0x06, 1, 2, 3, 4, 5})
	from[0] ^= pick[byte](g, 0, 0, 2, 4, 6, 8)
	frame := ether(from, macA, g.packet(0), tags...)
	if g.oneIn(6) { // damage to the headers
		frame[12+g.IntN(min(len(frame)-12, 80))] = byte(g.Uint32())
	}
	if g.oneIn(8) {
		frame = frame[:14+g.IntN(len(frame)-13)]
	}
	if g.oneIn(10) { // Ethernet's padding
		frame = append(frame, make([]byte, g.IntN(20))...)
	}
	return frame
}

// TestProgramAgainstModel sends random frames under random specs through both.
func TestProgramAgainstModel(t *testing.T) {
	p := load(t)
	rings := []*lb.Ring{nil, ring(t, "a"), ring(t, "b"), ring(t, "a", "b", "c"), ring(t, "a", "b"), ring(t, "b", "c"), ring(t, "a", "c")}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	g := generator{rand.New(rand.NewPCG(seed, 1))}
	seen := map[string]int{}
	send := func(frame []byte) (lb.Action, []byte) { return run(t, p, frame) }
	const specs, frames = 50, 80
	for range specs {
		m := &lb.Model{Spec: g.spec(rings)}
		apply(t, p, m.Spec)
		for range frames {
			frame := g.frame()
			v := compare(t, p, send, m, frame)
			seen[actions[v.Action]]++
			for _, r := range v.Reasons {
				seen[r.String()]++
			}
			if !bytes.Equal(frame, v.Frame) {
				seen["changed"]++
			}
		}
	}
	for _, what := range slices.Sorted(maps.Keys(seen)) {
		t.Logf("%-12s %d", what, seen[what])
	}
	for _, r := range lb.Reasons() {
		if r != lb.NoHeadroom && seen[r.String()] == 0 {
			t.Errorf("no frame of %d met %s", specs*frames, r)
		}
	}
}

// FuzzVerdict looks for a frame on which program and model differ.
func FuzzVerdict(f *testing.F) {
	g := generator{rand.New(rand.NewPCG(1, 2))}
	for range 20 {
		f.Add(g.frame())
	}
	p := load(f)
	m := &lb.Model{Spec: spec(lb.Group{Ring: ring(f, "a", "b", "c"), Other: ring(f, "a", "c")})}
	apply(f, p, m.Spec)
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) < 14 || len(frame) > 3000 {
			t.Skip("not a frame that the kernel takes")
		}
		compare(t, p, func(frame []byte) (lb.Action, []byte) { return run(t, p, frame) }, m, frame)
	})
}
