package bpf

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"anyedge/bpf/lb"
)

// ErrNotPermitted means that this process may not see or do what the packet
// path needs; edged itself may.
var ErrNotPermitted = errors.New("not permitted")

// A Program is one that the kernel has.
type Program struct {
	Name string
	Tag  string // of its instructions
}

// CheckPins reports why programs cannot be pinned in dir, with what to do.
func CheckPins(dir string) error { return onBPF(dir) }

// CheckLoad has the kernel verify and load the packet program, and drops it
// again.
func CheckLoad() (Program, error) {
	p, err := lb.Load()
	if err != nil {
		if _, refused := errors.AsType[*ebpf.VerifierError](err); !refused && errors.Is(err, os.ErrPermission) {
			return Program{}, fmt.Errorf("%w: %w", ErrNotPermitted, err)
		}
		return Program{}, errors.New(oneLine(err))
	}
	found, err := describe(p.XDP())
	return found, errors.Join(err, p.Close())
}

// Identify returns the program that the kernel knows by an ID.
func Identify(id uint32) (Program, error) {
	p, err := ebpf.NewProgramFromID(ebpf.ProgramID(id))
	if errors.Is(err, os.ErrPermission) {
		return Program{}, fmt.Errorf("%w: program %d: %w", ErrNotPermitted, id, err)
	}
	if err != nil {
		return Program{}, fmt.Errorf("program %d: %w", id, err)
	}
	found, err := describe(p)
	return found, errors.Join(err, p.Close())
}

func describe(p *ebpf.Program) (Program, error) {
	info, err := p.Info()
	if err != nil {
		return Program{}, fmt.Errorf("describe a program: %w", err)
	}
	return Program{info.Name, info.Tag}, nil
}

// A Use says whether packets for other nodes get a header in front.
type Use int

// Uses.
const (
	Never Use = iota
	Perhaps
	Always
)

// UsesIPIP says whether packets to the nodes leave by the interface in IPIP. It
// is Perhaps when no node's address is known.
func (c *Config) UsesIPIP(iface string, nodes []netip.Addr) Use {
	switch c.Forward {
	case ForwardL2:
		return Never
	case ForwardIPIP:
		return Always
	}
	link, err := netlink.LinkByName(iface)
	if err != nil {
		return Perhaps
	}
	list, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil || len(nodes) == 0 {
		return Perhaps
	}
	near := func(a netip.Addr) bool {
		return slices.ContainsFunc(list, func(x netlink.Addr) bool { return x.IPNet != nil && x.Contains(a.AsSlice()) })
	}
	if slices.ContainsFunc(nodes, func(a netip.Addr) bool { return a.Is4() && !near(a) }) {
		return Always
	}
	if slices.ContainsFunc(nodes, netip.Addr.Is6) { // where its IPv4 address is, nobody said
		return Perhaps
	}
	return Never
}
