package host

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Names of the netdev family of generic netlink (Linux 6.3,
// Documentation/netlink/specs/netdev.yaml).
const (
	netdevFamily      = "netdev"
	netdevGet         = 1
	netdevIndex       = 1
	netdevXDPFeatures = 3
)

// Features of a driver's native XDP.
const (
	xdpBasic     = 1 << 0 // abort, drop, pass, send back
	xdpFragments = 1 << 5 // packets in several buffers
)

// roomyMTU is the largest MTU, in bytes, with which a packet and the room that
// XDP wants before and behind it fit into one page, with the drivers that want
// most.
const roomyMTU = 3498

// IPIPHeader is how much, in bytes, an IPv4 header in front of a packet adds.
const IPIPHeader = 20

// A genlHeader is command, version and two bytes that must be 0, which
// nl.Genlmsg leaves to chance.
type genlHeader [nl.SizeofGenlmsg]byte

func (genlHeader) Len() int            { return nl.SizeofGenlmsg }
func (h genlHeader) Serialize() []byte { return h[:] }

// errNoFeatures means that the kernel does not tell what drivers can do.
var errNoFeatures = errors.New("no answer about XDP features")

// xdpFeatures asks the kernel what a driver's native XDP can do; 0: there is
// none.
func xdpFeatures(index int) (uint64, error) {
	family, err := netlink.GenlFamilyGet(netdevFamily)
	if err != nil {
		return 0, fmt.Errorf("%s family: %w", netdevFamily, err)
	}
	req := nl.NewNetlinkRequest(int(family.ID), 0)
	req.AddData(genlHeader{netdevGet, 1})
	req.AddData(nl.NewRtAttr(netdevIndex, nl.Uint32Attr(uint32(index))))
	answers, err := req.Execute(unix.NETLINK_GENERIC, 0)
	if err != nil {
		return 0, fmt.Errorf("features of interface %d: %w", index, err)
	}
	for _, b := range answers {
		if len(b) < nl.SizeofGenlmsg {
			continue
		}
		attrs, err := nl.ParseRouteAttr(b[nl.SizeofGenlmsg:])
		if err != nil {
			return 0, err
		}
		for _, a := range attrs {
			if a.Attr.Type == netdevXDPFeatures && len(a.Value) >= 8 {
				return binary.NativeEndian.Uint64(a.Value), nil
			}
		}
	}
	return 0, errNoFeatures
}

// A Likelihood says how sure something is.
type Likelihood int

// Likelihoods.
const (
	No Likelihood = iota
	Maybe
	Yes
)

// A PacketPath is what a packet program is to do on an interface.
type PacketPath struct {
	Mode  string // auto, native or generic
	Whose string // what the program is that is attached now; "": not known
	Own   bool   // it is edged's
}

// native says whether the driver has native XDP, in words too.
func (n NIC) native() (Likelihood, string) {
	switch {
	case n.XDPFeatures != nil && *n.XDPFeatures&xdpBasic != 0:
		return Yes, "native XDP"
	case n.XDPFeatures != nil:
		return No, "no native XDP"
	case n.Driver == "":
		return Maybe, "native XDP unknown (the driver is not told)"
	case slices.Contains(nativeXDP, n.Driver):
		return Maybe, "native XDP likely"
	}
	return Maybe, "native XDP unknown for this driver"
}

// JudgePath says whether the packet program can run on the interface as it is.
// It is for interfaces that are to have one, in place of [NIC.Judge].
func (n NIC) JudgePath(p PacketPath) []Finding {
	out := n.judge(p)
	name := n.title()
	if p.Mode != "generic" {
		out = append(out, n.judgeNative(p.Mode)...)
		out = append(out, n.judgeQueues()...)
	}
	if n.XDP == "" || p.Own {
		return out
	}
	off := "ip link set dev " + Quote(n.Name) + " xdp off"
	if p.Whose == "" {
		return append(out, warn(AreaNIC, "%s: an XDP program is attached (%s); whose is not visible to this user", name, n.XDP).
			advise("run doctor as root to see; if it is not edged's: %s", off))
	}
	return append(out, fail(AreaNIC, "%s: another XDP program is attached (%s, %s): the packet path cannot be", name, p.Whose, n.XDP).mend(off))
}

// judgeNative says whether the mode fits what the driver can do.
func (n NIC) judgeNative(mode string) []Finding {
	var out []Finding
	if can, _ := n.native(); can == No {
		if mode == "native" {
			out = append(out, fail(AreaNIC, "%s: the driver has no native XDP, and l4.mode is native", n.title()).advise("set l4.mode: auto, or generic"))
		} else {
			out = append(out, warn(AreaNIC, "%s: the driver has no native XDP: the packet path runs in generic mode, at a fraction of the speed", n.title()).
				advise("use a network card whose driver has it, or set l4.mode: generic to expect it"))
		}
	}
	if n.MTU > roomyMTU && (n.XDPFeatures == nil || *n.XDPFeatures&xdpFragments == 0) {
		out = append(out, warn(AreaNIC, "%s: MTU %d > %d: the driver may refuse native XDP", n.title(), n.MTU, roomyMTU).
			advise("ip link set dev %s mtu %d, or l4.mode: generic", Quote(n.Name), roomyMTU))
	}
	return out
}

// judgeQueues knows the drivers that give the packets which a program sends a
// queue per CPU, from the same stock as the others.
func (n NIC) judgeQueues() []Finding {
	switch {
	case n.Driver == "ena" && n.MaxQueues > 1 && n.Queues > n.MaxQueues/2:
		return []Finding{fail(AreaNIC, "%s: %d of %d queues are in use, native XDP needs half of them", n.title(), n.Queues, n.MaxQueues).
			mend(fmt.Sprintf("ethtool -L %s combined %d", Quote(n.Name), n.MaxQueues/2))}
	case n.Driver == "virtio_net" && n.MaxQueues > 0 && n.Queues+n.CPUs > n.MaxQueues:
		return []Finding{warn(AreaNIC, "%s: no queue of its own for each CPU's XDP (%d in use, %s, at most %d): they share one behind a lock", n.title(), n.Queues, plural(n.CPUs, "CPU"), n.MaxQueues).
			advise("give the virtual machine more queue pairs: %d", n.Queues+n.CPUs)}
	}
	return nil
}

// JudgeIPIP says whether packets of the usual size fit through the interface
// with one more header. use is how likely it is that they get one.
func (n NIC) JudgeIPIP(use Likelihood) []Finding {
	const need = usualMTU + IPIPHeader
	if use == No || n.MTU >= need {
		return nil
	}
	text := fmt.Sprintf("%s %d < %d: packets above %d bytes for another node's connections are dropped (too_big)", n.Name, n.MTU, need, n.MTU-IPIPHeader)
	f := fail(AreaMTU, "%s, for l4 sends them in IPIP", text)
	if use == Maybe {
		f = warn(AreaMTU, "%s, where l4 sends them in IPIP: to nodes that are not on one segment with this one", text)
	}
	return []Finding{f.advise("ip link set dev %s mtu %d if the network between the nodes carries that; else let clients send less: ip route change default … advmss %d",
		Quote(n.Name), need, n.MTU-IPIPHeader-40)}
}
