package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"runtime"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"anyedge/bpf/cost"
	"anyedge/bpf/lb"
)

const bpfRounds = 21

// A pathCase is one program over one kind of packet.
type pathCase struct {
	prog    *ebpf.Program
	frame   []byte
	bits    int // of the number of flows
	verdict lb.Action
}

// A pathRow compares a case with another by name.
type pathRow struct {
	name, than, nothing string
	bar                 float64 // 0: none is set
}

// The programs that are measured, by what their ring says.
const (
	othersL2   = "L2"    // all flows are others', on this segment
	othersIPIP = "IPIP"  // all flows are others', behind a router
	mine       = "mine"  // all flows are this node's
	strays     = "stray" // the same, nobody has them, and another geo is asked
)

// benchBPF measures what the packet path costs. In each round every case runs
// once after the other; a figure is the median over rounds of the case less
// the same wrapper around nothing, by the median of the constant-IPIP floor,
// less the same.
func benchBPF(ctx context.Context, w io.Writer) ([]Row, error) {
	b, err := cost.Load()
	if err != nil {
		return nil, err
	}
	defer func() { _ = b.Close() }()
	programs := map[string]*lb.Program{}
	for _, what := range []string{othersL2, othersIPIP, mine, strays} {
		p, err := lb.Load()
		if err != nil {
			return nil, err
		}
		defer func() { _ = p.Close() }()
		spec, err := pathSpec(what)
		if err != nil {
			return nil, err
		}
		if err := p.Apply(spec); err != nil {
			return nil, err
		}
		programs[what] = p
	}
	cases, rows := pathCases(b, programs)
	unpin, err := pin()
	if err != nil {
		return nil, err
	}
	defer unpin()
	samples := map[string][]float64{}
	for round := range bpfRounds {
		for name, c := range cases {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			ns, err := b.Sample(c.prog, c.frame, c.bits, uint32(c.verdict))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			samples[name] = append(samples[name], ns)
		}
		fmt.Fprintf(w, "round %d of %d\n", round+1, bpfRounds)
	}
	return pathRows(rows, samples), nil
}

// pin keeps the calling goroutine on one processor.
func pin() (unpin func(), err error) {
	runtime.LockOSThread()
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return nil, err
	}
	one.Set(runtime.NumCPU() - 1)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return nil, err
	}
	return func() { _ = unix.SchedSetaffinity(0, &all); runtime.UnlockOSThread() }, nil
}

var (
	pathVIP4 = netip.MustParseAddr("192.0.2.10")
	pathVIP6 = netip.MustParseAddr("2001:db8:100::10")
)

// pathSpec has 20 other nodes; they share all flows, or have none.
func pathSpec(what string) (*lb.Spec, error) {
	mode := lb.IPIP
	if what == othersL2 {
		mode = lb.L2
	}
	s := &lb.Spec{
		Key:  [2]uint64{0x243f6a8885a308d3, 0x13198a2e03707344},
		Node: lb.Node{Name: "self", MAC: lb.MAC{2, 0, 0, 0, 0, 1}, Addr: netip.MustParseAddr("198.51.100.1")},
		VIPs: []lb.VIP{{Addr: pathVIP4}, {Addr: pathVIP6}},
	}
	var members []lb.Member
	for i := range byte(20) {
		v := lb.Server{
			Name: fmt.Sprintf("node-%d", i), Mode: mode, MAC: lb.MAC{2, 0, 0, 0, 1, i},
			Addr: netip.AddrFrom4([4]byte{198, 51, 100, 10 + i}),
		}
		s.Servers = append(s.Servers, v)
		s.Peers = append(s.Peers, lb.Peer{Addr: v.Addr, MAC: v.MAC})
		members = append(members, lb.Member{Name: v.Name, Weight: 100})
	}
	if what == mine || what == strays {
		members = []lb.Member{{Name: "self", Weight: 100}}
	}
	if what == strays {
		s.VIPs[0].Abroad, s.VIPs[1].Abroad = "node-0", "node-0"
	}
	ring, err := lb.NewRing(members)
	s.Groups = []lb.Group{{Ring: ring}}
	return s, err
}

func pathCases(b *cost.Bench, programs map[string]*lb.Program) (map[string]pathCase, []pathRow) {
	const ack, syn = 0x10, 0x02
	cases := map[string]pathCase{}
	var rows []pathRow
	for _, size := range []struct {
		name     string
		bits     int
		l2, ipip float64
	}{{"4 K flows", 12, 1.0, 2.5}, {"512 K flows", 19, 1.8, 3.5}} {
		for _, vip := range []netip.Addr{pathVIP4, pathVIP6} {
			family := "v4"
			if vip.Is6() {
				family = "v6"
			}
			at := family + " %s, " + size.name
			name := func(what string) string { return fmt.Sprintf(at, what) }
			frame := pathFrame(vip, ack)
			cases[name("nothing")] = pathCase{b.Nothing(), frame, size.bits, lb.Transmit}
			cases[name("floor")] = pathCase{b.Constant(), frame, size.bits, lb.Transmit}
			for what, bar := range map[string]float64{othersL2: size.l2, othersIPIP: size.ipip} {
				p := programs[what]
				cases[name(what+" ACK")] = pathCase{p.XDP(), frame, size.bits, lb.Transmit}
				cases[name(what+" SYN")] = pathCase{p.XDP(), pathFrame(vip, syn), size.bits, lb.Transmit}
				rows = append(rows,
					pathRow{name(what + " ACK"), name("floor"), name("nothing"), bar},
					pathRow{name(what + " SYN"), name(what + " ACK"), name("nothing"), 1.5})
			}
			other := vip.Prev()
			cases[name("not a VIP")] = pathCase{programs[othersL2].XDP(), pathFrame(other, ack), size.bits, lb.Pass}
			cases[name("mine")] = pathCase{programs[mine].XDP(), frame, size.bits, lb.Pass}
			cases[name("stray")] = pathCase{programs[strays].XDP(), frame, size.bits, lb.Transmit}
			rows = append(rows,
				pathRow{name("not a VIP"), name("floor"), name("nothing"), 0.5},
				pathRow{name("mine"), name("floor"), name("nothing"), 0},
				pathRow{name("stray"), name("floor"), name("nothing"), 0})
		}
	}
	return cases, rows
}

// pathFrame is a TCP segment for the VIP; the wrapper writes its source.
func pathFrame(vip netip.Addr, flags byte) []byte {
	const payload = 12
	b := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0}
	if vip.Is4() {
		h := make([]byte, 20)
		h[0], h[3], h[8], h[9] = 0x45, 40+payload, 64, 6
		copy(h[12:], []byte{198, 18, 0, 0})
		copy(h[16:], vip.AsSlice())
		b = append(b, h...)
	} else {
		h := make([]byte, 40)
		h[0], h[5], h[6], h[7] = 0x60, 20+payload, 6, 64
		copy(h[8:], netip.MustParseAddr("2001:db8:c1::").AsSlice())
		copy(h[24:], vip.AsSlice())
		b[12], b[13] = 0x86, 0xdd
		b = append(b, h...)
	}
	t := make([]byte, 20+payload)
	binary.BigEndian.PutUint16(t[2:], 443)
	t[12], t[13] = 0x50, flags
	return append(b, t...)
}

// pathRows turns samples into ratios of net costs.
func pathRows(rows []pathRow, samples map[string][]float64) []Row {
	var out []Row
	for _, r := range rows {
		nothing := median(samples[r.nothing])
		ns, ref := median(samples[r.name])-nothing, median(samples[r.than])-nothing
		row := Row{
			Case: r.name, Figure: ns / ref, Unit: fmt.Sprintf("ratio of net ns/packet (%.1f)", ns),
			Reference: fmt.Sprintf("%s, %.1f ns", r.than, ref), Bar: fmt.Sprintf("≤ %.1f", r.bar), Result: "met",
		}
		if r.bar == 0 {
			row.Bar, row.Result = "none", ""
		}
		if r.bar > 0 && row.Figure > r.bar {
			row.Result = "missed"
		}
		out = append(out, row)
	}
	return out
}
