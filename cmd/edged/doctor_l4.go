package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"anyedge/bpf"
	"anyedge/internal/host"
)

// l4Interfaces returns the interfaces that are to have the packet path.
func (d *doctor) l4Interfaces() []string {
	if d.cfg == nil || !d.cfg.L4.On() || d.cfg.Node == nil {
		return nil
	}
	return d.cfg.Node.Interfaces
}

// kernel judges the kernel, and has it load the packet program if there is to
// be one.
func (d *doctor) kernel() []host.Finding {
	out := d.machine.Kernel(d.needs())
	if len(d.l4Interfaces()) == 0 {
		return out
	}
	if err := bpf.CheckPins(d.cfg.L4.PinDir()); err != nil {
		f := finding(host.AreaKernel, host.Warn, "mount -t bpf bpf /sys/fs/bpf", "%s: the packet path ends with edged's process", strings.SplitN(err.Error(), ";", 2)[0])
		f.Script = []string{f.Fix}
		out = append(out, f)
	}
	switch _, err := d.program(); {
	case errors.Is(err, bpf.ErrNotPermitted):
		return append(out, finding(host.AreaKernel, host.Warn, "run doctor as root", "the packet program was not tried: %v", bpf.ErrNotPermitted))
	case err != nil:
		return append(out, finding(host.AreaKernel, host.Fail, "use a kernel that edged is made for, or set l4.mode: off", "the kernel does not take the packet program: %v", err))
	}
	return append(out, finding(host.AreaKernel, host.OK, "", "the kernel takes the packet program"))
}

// unread says what it means that an interface cannot be looked at.
func (d *doctor) unread(area, name string, err error) host.Finding {
	if area == host.AreaNIC && slices.Contains(d.l4Interfaces(), name) {
		return finding(area, host.Fail, "correct node.interfaces; `ip link` lists what there is", "%v", err)
	}
	return finding(area, host.Warn, "", "%s unknown: %v", name, err)
}

func (d *doctor) nics() []host.Finding {
	return d.eachNIC(host.AreaNIC, func(n host.NIC) []host.Finding {
		if !slices.Contains(d.l4Interfaces(), n.Name) {
			return n.Judge()
		}
		return n.JudgePath(d.pathOn(n))
	})
}

// pathOn finds out whose the packet program on an interface is.
func (d *doctor) pathOn(n host.NIC) host.PacketPath {
	p := host.PacketPath{Mode: cmp.Or(d.cfg.L4.Mode, "auto")}
	if n.XDPProgram == 0 {
		return p
	}
	there, err := bpf.Identify(n.XDPProgram)
	if err != nil {
		return p
	}
	p.Whose = cmp.Or(there.Name, "without a name")
	ours, err := d.program()
	p.Own = err == nil && ours == there
	return p
}

func (d *doctor) mtu() []host.Finding {
	return d.eachNIC(host.AreaMTU, func(n host.NIC) []host.Finding {
		out := []host.Finding{n.JudgeMTU()}
		if slices.Contains(d.l4Interfaces(), n.Name) {
			likely := map[bpf.Use]host.Likelihood{bpf.Never: host.No, bpf.Perhaps: host.Maybe, bpf.Always: host.Yes}
			out = append(out, n.JudgeIPIP(likely[d.cfg.L4.UsesIPIP(n.Name, d.siblings())])...)
		}
		return out
	})
}

// siblings returns where the other nodes of this geo have their fabric: the
// packet path reaches them there, or near there.
func (d *doctor) siblings() []netip.Addr {
	var out []netip.Addr
	for _, g := range d.cfg.Geos {
		if g.Name != d.cfg.Geo() {
			continue
		}
		for _, text := range g.Fabric {
			a, err := netip.ParseAddrPort(text)
			if err != nil {
				continue
			}
			if local, err := host.IsLocal(a.Addr()); err == nil && !local {
				out = append(out, a.Addr().Unmap())
			}
		}
	}
	return out
}

func (d *doctor) sysctl() []host.Finding {
	names, _ := d.interfaces()
	out := d.machine.Sysctl(names)
	if d.cfg != nil && slices.ContainsFunc(vipAddresses(d.cfg), func(v vipAddress) bool { return v.Address.Is4() }) {
		out = append(out, d.machine.ARP(names)...)
	}
	return out
}

// adds reports whether edged, with the privileges that this process has, would
// add an address to lo.
func (d *doctor) adds(a netip.Addr) bool {
	may, err := d.machine.Holds(host.NetAdmin)
	return err == nil && may && slices.ContainsFunc(vipAddresses(d.cfg), func(v vipAddress) bool { return v.Address == a })
}

// foreign asks the hosts on connected segments for the VIPs' addresses, and
// returns those that one of them has.
func (d *doctor) foreign(ctx context.Context) ([]host.Finding, []netip.Addr) {
	all := vipAddresses(d.cfg)
	owners, errs := make([]*host.Owner, len(all)), make([]error, len(all))
	var wg sync.WaitGroup
	for i, v := range all {
		wg.Go(func() { owners[i], errs[i] = host.FindOwner(ctx, v.Address) })
	}
	wg.Wait()
	var out []host.Finding
	var theirs []netip.Addr
	for i, v := range all {
		switch {
		case owners[i] != nil:
			theirs = append(theirs, v.Address)
			out = append(out, finding(host.AreaPorts, host.Fail, owners[i].Advice(), "VIP %s: another host, %s, answers for %s", v.VIP, owners[i], v.Address))
		case errs[i] != nil:
			out = append(out, finding(host.AreaPorts, host.Warn, "run doctor as root", "VIP %s: not known whether another host has %s: %v", v.VIP, v.Address, errs[i]))
		}
	}
	return out, theirs
}

// needs returns the capabilities that the configuration asks for.
func (d *doctor) needs() []host.Need {
	if d.cfg == nil {
		return nil
	}
	var out []host.Need
	free := d.machine.UnprivilegedPort()
	var low []string
	for _, p := range d.wanted() {
		if port := fmt.Sprint(p.Address.Port()); p.Address.Port() < free && p.Address.Port() > 0 && !slices.Contains(low, port) {
			low = append(low, port)
		}
	}
	if len(low) > 0 {
		out = append(out, host.Need{Capability: host.NetBindService, Why: "bind port " + strings.Join(low, " and ")})
	}
	if len(d.l4Interfaces()) > 0 {
		out = append(out,
			host.Need{Capability: host.BPF, Why: "load the packet program"},
			host.Need{Capability: host.PerfMon, Why: "load the packet program"},
			host.Need{Capability: host.NetAdmin, Why: "attach the packet program"})
	}
	for _, v := range vipAddresses(d.cfg) {
		if local, err := host.IsLocal(v.Address); err == nil && !local {
			return append(out, host.Need{Capability: host.NetAdmin, Why: fmt.Sprintf("add %s to lo", v.Address)})
		}
	}
	return out
}
