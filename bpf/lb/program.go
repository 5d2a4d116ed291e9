package lb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
)

// A Program is the packet path in the kernel. Until the first Apply it passes
// everything.
type Program struct {
	objs   objects
	tables *ebpf.Memory    // both generations of all tables
	at     map[string]span // of each table in it

	mu      sync.Mutex // guards what follows and orders Apply
	active  uint32
	servers numbers[string]
	vips    numbers[netip.Addr]
	note    *ebpf.Map // nil: nothing is pinned
	noted   note
}

// A span is a table's place in the region: two generations, one behind the other.
type span struct{ start, half int64 }

// objects are what the kernel holds.
type objects struct {
	lbObjects
	Tables *ebpf.Map `ebpf:".bss"`
}

// Close gives all of them up.
func (o *objects) Close() error { return errors.Join(o.lbObjects.Close(), o.Tables.Close()) }

// Load puts the program and its maps into the kernel.
func Load() (*Program, error) { return load(nil) }

// load takes the maps that are given and makes the others.
func load(given map[string]*ebpf.Map) (*Program, error) {
	// Kernels before 5.11 count maps against this limit; later ones ignore it.
	if err := rlimit.RemoveMemlock(); err != nil && !errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("raise the limit of locked memory: %w", err)
	}
	spec, err := loadLb()
	if err != nil {
		return nil, err
	}
	p := &Program{
		at:      map[string]span{},
		servers: numbers[string]{max: MaxServers}, vips: numbers[netip.Addr]{max: MaxVIPs},
	}
	for name, v := range spec.Variables {
		p.at[name] = span{int64(v.Offset), int64(v.Size()) / 2}
	}
	if err := spec.LoadAndAssign(&p.objs, &ebpf.CollectionOptions{MapReplacements: given}); err != nil {
		return nil, explainLoad(err)
	}
	if p.tables, err = p.objs.Tables.Memory(); err != nil {
		return nil, errors.Join(fmt.Errorf("map the tables into memory: %w", err), p.objs.Close())
	}
	return p, nil
}

// explainLoad says what to do about the usual refusal.
func explainLoad(err error) error {
	if _, refused := errors.AsType[*ebpf.VerifierError](err); refused { // also comes as a lack of permission
		return fmt.Errorf("load the packet program: this kernel's verifier refuses it (it needs Linux 5.15 or newer): %w", err)
	}
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("load the packet program: no privilege: run as root or give the process CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON: %w", err)
	}
	return fmt.Errorf("load the packet program (it needs Linux 5.15 or newer): %w", err)
}

// XDP returns the kernel's program, for running single packets through it.
// It belongs to p.
func (p *Program) XDP() *ebpf.Program { return p.objs.Lb }

// Apply makes s the state of the program. Everything is written to the idle
// generation of the tables, which one store then makes the active one: a
// packet sees all of the old state or all of the new.
func (p *Program) Apply(s *Spec) error {
	if err := s.Validate(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	names := []string{s.Node.Name}
	for _, v := range s.Servers {
		names = append(names, v.Name)
	}
	addrs := make([]netip.Addr, 0, len(s.VIPs))
	for _, v := range s.VIPs {
		addrs = append(addrs, v.Addr)
	}
	t, err := encode(s, p.servers.keep(names), p.vips.keep(addrs))
	if err != nil {
		return err
	}
	idle := 1 - p.active
	if err := p.write(t, idle); err != nil {
		return err
	}
	if err := p.objs.Active.Set(idle); err != nil {
		return fmt.Errorf("flip to generation %d: %w", idle, err)
	}
	p.active = idle
	return p.writeNote()
}

// write fills one generation of every table.
func (p *Program) write(t *tables, gen uint32) error {
	for _, part := range []struct {
		name string
		data any // of one generation; at most half of the table
	}{
		{lbVarRing, t.ring}, {lbVarVips, t.vips}, {lbVarServers, t.servers}, {lbVarGenerations, t.settings},
	} {
		b, err := binary.Append(nil, binary.LittleEndian, part.data)
		if err == nil {
			_, err = p.tables.WriteAt(b, p.at[part.name].start+int64(gen)*p.at[part.name].half)
		}
		if err != nil {
			return fmt.Errorf("write the %s: %w", part.name, err)
		}
	}
	if err := writeTable(p.objs.Peers, gen, t.peers); err != nil {
		return fmt.Errorf("write the peers: %w", err)
	}
	return nil
}

// writeTable writes one generation of an array map.
func writeTable[V any](m *ebpf.Map, gen uint32, values []V) error {
	keys := make([]uint32, len(values))
	for i := range keys {
		keys[i] = gen*uint32(len(values)) + uint32(i)
	}
	_, err := m.BatchUpdate(keys, values, nil)
	return err
}

// ID names the program as the kernel does ("lb/12/3f…"): name, number and tag,
// as in `bpftool prog`.
func (p *Program) ID() string {
	info, err := p.objs.Lb.Info()
	if err != nil {
		return ""
	}
	id, _ := info.ID()
	return fmt.Sprintf("%s/%d/%s", info.Name, id, info.Tag)
}

// Close takes the program out of the kernel once nothing is attached with it.
func (p *Program) Close() error { return errors.Join(p.objs.Close(), p.note.Close()) }

// A Count is a number of packets and the sum of their IP lengths.
type Count struct{ Packets, Bytes uint64 }

// Counters are what the program has counted since it was loaded.
type Counters struct {
	Reasons map[Reason]Count     // those seen
	Servers map[string]Count     // kept (under the node's own name) and sent on
	VIPs    map[netip.Addr]Count // the same packets by VIP
}

// Counters adds up what all processors have counted.
func (p *Program) Counters() (Counters, error) {
	var all []lbCounters
	if err := p.objs.Counts.Lookup(uint32(0), &all); err != nil {
		return Counters{}, fmt.Errorf("read the counters: %w", err)
	}
	out := Counters{map[Reason]Count{}, map[string]Count{}, map[netip.Addr]Count{}}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range all {
		c := &all[i]
		for r := range c.Reason {
			if n := c.Reason[r].Packets; n > 0 {
				out.Reasons[Reason(r)] = out.Reasons[Reason(r)].plus(n, c.Reason[r].Bytes)
			}
		}
		for name, n := range p.servers.of {
			out.Servers[name] = out.Servers[name].plus(c.Server[n].Packets, c.Server[n].Bytes)
		}
		for addr, n := range p.vips.of {
			out.VIPs[addr] = out.VIPs[addr].plus(c.Vip[n].Packets, c.Vip[n].Bytes)
		}
	}
	return out, nil
}

// Plus returns the sum.
func (c Count) Plus(o Count) Count { return c.plus(o.Packets, o.Bytes) }

func (c Count) plus(packets, bytes uint64) Count {
	return Count{c.Packets + packets, c.Bytes + bytes}
}

// A Reason says why a packet was not simply kept or sent on.
type Reason uint8

// The reasons, in the order of lb.c.
const (
	Malformed    Reason = iota + 1 // lengths contradict each other: passed
	Options                        // IPv4 options: passed
	Fragment                       // passed
	OtherProto                     // neither TCP nor UDP: passed
	Stranger                       // encapsulated, not by a peer: dropped
	Inner                          // a peer's, but not TCP or UDP to a VIP inside: dropped
	TooBig                         // no room for the outer header within the MTU: dropped, or passed if it would go abroad
	TTLExpired                     // dropped
	NoServer                       // the ring names nobody: passed
	NotMine                        // a peer sent it here, the ring says otherwise: passed
	Decapsulated                   // came from a peer behind an outer header
	Chained                        // sent on to the bucket's other owner
	NoHeadroom                     // the driver leaves no room for a header: dropped
	ToAbroad                       // sent to another geo, which may have the connection
	FromAbroad                     // another geo sent it here
)

var reasonNames = [...]string{
	"ok", "malformed", "options", "fragment", "other_proto", "stranger", "inner", "too_big",
	"ttl_expired", "no_server", "not_mine", "decapsulated", "chained", "no_headroom",
	"to_abroad", "from_abroad",
}

// String returns the name that metrics use.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason_%d", uint8(r))
}

// Reasons lists every reason.
func Reasons() []Reason {
	var out []Reason
	for r := Malformed; r <= FromAbroad; r++ {
		out = append(out, r)
	}
	return slices.Clip(out)
}
