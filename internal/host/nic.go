package host

import (
	"fmt"
	"runtime"
	"strings"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
)

// minMTU is the smallest MTU, in bytes, through which QUIC's first packets of
// 1200 bytes pass with IPv6 and UDP headers (RFC 9000 section 14).
const minMTU = 1248

// usualMTU is what the rest of the Internet expects of a link, in bytes.
const usualMTU = 1500

// A NIC is what is known of one interface.
type NIC struct {
	Name   string
	MTU    int    // bytes
	Up     bool   // can carry packets
	XDP    string // of a program that is attached: "native", "generic", "offloaded"; "": none
	Driver string // "": not known
	LRO    *bool  // large receive offload; nil: not known
	Queues int    // that receive; 0: not known

	MaxQueues   int     // that there could be; 0: not known
	CPUs        int     // of the machine
	XDPProgram  uint32  // ID of the program that is attached; 0: none, or not known
	XDPFeatures *uint64 // of the driver's native XDP; nil: not known
}

// ReadNIC asks the kernel about an interface. What the driver does not tell
// stays unknown.
func ReadNIC(name string) (NIC, error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return NIC{}, fmt.Errorf("interface %s: %w", name, err)
	}
	a := link.Attrs()
	n := NIC{Name: name, MTU: a.MTU, CPUs: runtime.NumCPU(), Up: a.OperState == netlink.OperUp || a.OperState == netlink.OperUnknown}
	if a.Xdp != nil && a.Xdp.Attached {
		n.XDP = map[uint32]string{1: "native", 2: "generic", 3: "offloaded"}[a.Xdp.AttachMode] // XDP_ATTACHED_*
		if n.XDP == "" {
			n.XDP = "several modes"
		}
		n.XDPProgram = a.Xdp.ProgId
	}
	if features, err := xdpFeatures(a.Index); err == nil {
		n.XDPFeatures = &features
	}
	tool, err := ethtool.NewEthtool()
	if err != nil {
		return n, nil // the rest stays unknown, which the judge says
	}
	defer tool.Close()
	if driver, err := tool.DriverName(name); err == nil {
		n.Driver = strings.Trim(driver, "\x00")
	}
	if features, err := tool.Features(name); err == nil {
		if on, known := features["rx-lro"]; known {
			n.LRO = &on
		}
	}
	if c, err := tool.GetChannels(name); err == nil {
		n.Queues, n.MaxQueues = int(c.CombinedCount+c.RxCount), int(c.MaxCombined+c.MaxRx)
	}
	return n, nil
}

// nativeXDP are drivers that have native XDP in the kernels that edged is made
// for.
var nativeXDP = []string{
	"atlantic", "bnxt_en", "bonding", "dpaa2-eth", "ena", "enetc", "fec", "fsl_dpa", "fsl_dpaa2_eth", "fsl_enetc", "gve",
	"hv_netvsc", "i40e", "iavf", "ice", "igb", "igc", "ixgbe", "ixgbevf", "lan966x-switch", "mana", "mlx4_en", "mlx5_core", "mtk_soc_eth",
	"mvneta", "mvpp2", "nfp", "nicvf", "qede", "rvu-nicpf", "rvu-nicvf", "sfc", "st_gmac", "stmmaceth", "tun", "veth", "virtio_net", "xen_netfront",
}

// title is how findings name the interface.
func (n NIC) title() string { return strings.TrimSpace(n.Name + " " + n.Driver) }

// Judge says whether packet programs could run on the interface.
func (n NIC) Judge() []Finding {
	out := n.judge(PacketPath{})
	if n.XDP != "" {
		out = append(out, warn(AreaNIC, "%s: an XDP program is attached (%s)", n.title(), n.XDP).
			advise("if it is not edged's: ip link set dev %s xdp off", Quote(n.Name)))
	}
	return out
}

// judge says what every interface should have.
func (n NIC) judge(p PacketPath) []Finding {
	_, native := n.native()
	facts := []string{native}
	if n.Queues > 0 {
		facts = append(facts, plural(n.Queues, "queue"))
	} else {
		facts = append(facts, "queues unknown")
	}
	if n.LRO == nil {
		facts = append(facts, "LRO unknown")
	} else if !*n.LRO {
		facts = append(facts, "LRO off")
	}
	if p.Own {
		facts = append(facts, "edged's packet program attached ("+n.XDP+")")
	}
	name := n.title()
	var out []Finding
	if n.LRO != nil && *n.LRO {
		out = append(out, fail(AreaNIC, "%s: LRO is on, native XDP cannot attach", name).mend("ethtool -K "+Quote(n.Name)+" lro off"))
	} else {
		out = append(out, ok(AreaNIC, "%s: %s", name, strings.Join(facts, ", ")))
	}
	if !n.Up {
		down := warn(AreaNIC, "%s: the link is down", name)
		if p.Mode != "" {
			down.Verdict = Fail
		}
		out = append(out, down.mend("ip link set dev "+Quote(n.Name)+" up"))
	}
	return out
}

// JudgeMTU says whether packets of the usual size fit through the interface.
func (n NIC) JudgeMTU() Finding {
	// No script: what lies behind the interface may carry no more.
	advice := fmt.Sprintf("if the network behind it carries that: ip link set dev %s mtu %d", Quote(n.Name), usualMTU)
	switch {
	case n.MTU < minMTU:
		return fail(AreaMTU, "%s %d < %d: QUIC cannot begin a connection over IPv6", n.Name, n.MTU, minMTU).advise("%s", advice)
	case n.MTU < usualMTU:
		return warn(AreaMTU, "%s %d < %d: larger packets depend on path MTU discovery", n.Name, n.MTU, usualMTU).
			advise("%s", advice)
	}
	return ok(AreaMTU, "%s %d", n.Name, n.MTU)
}

// plural counts things in words.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
