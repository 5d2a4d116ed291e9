package host_test

import (
	"testing"

	"anyedge/internal/host"
)

// nic returns a card with nothing wrong with it, changed by change.
func nic(change func(*host.NIC)) host.NIC {
	n := host.NIC{Name: "eno1", MTU: 1500, Up: true, Driver: "mlx5_core", LRO: new(false), Queues: 4, MaxQueues: 16, CPUs: 4, XDPFeatures: new(uint64(0x27))}
	change(&n)
	return n
}

func TestPacketPath(t *testing.T) {
	t.Parallel()
	const good = "ok eno1 mlx5_core: native XDP, 4 queues, LRO off"
	auto := host.PacketPath{Mode: "auto"}
	for _, tt := range []struct {
		name   string
		change func(*host.NIC)
		path   host.PacketPath
		want   []string
	}{
		{"all well", func(*host.NIC) {}, auto, []string{good}},
		{"edged runs", func(n *host.NIC) { n.XDP, n.XDPProgram = "native", 7 }, host.PacketPath{Mode: "auto", Whose: "lb", Own: true}, []string{
			good + ", edged's packet program attached (native)",
		}},
		{"another's program", func(n *host.NIC) { n.XDP, n.XDPProgram = "generic", 7 }, host.PacketPath{Mode: "auto", Whose: "xdp_filter"}, []string{
			good, "FAIL eno1 mlx5_core: another XDP program is attached (xdp_filter, generic): the packet path cannot be | ip link set dev eno1 xdp off",
		}},
		{"somebody's program", func(n *host.NIC) { n.XDP = "native" }, auto, []string{
			good, "warn eno1 mlx5_core: an XDP program is attached (native); whose is not visible to this user | run doctor as root to see; if it is not edged's: ip link set dev eno1 xdp off (by hand)",
		}},
		{"down, LRO", func(n *host.NIC) { n.Up, n.LRO = false, new(true) }, auto, []string{
			"FAIL eno1 mlx5_core: LRO is on, native XDP cannot attach | ethtool -K eno1 lro off",
			"FAIL eno1 mlx5_core: the link is down | ip link set dev eno1 up",
		}},
		{"no native XDP", func(n *host.NIC) { n.Driver, n.XDPFeatures = "r8169", new(uint64(0)) }, auto, []string{
			"ok eno1 r8169: no native XDP, 4 queues, LRO off",
			"warn eno1 r8169: the driver has no native XDP: the packet path runs in generic mode, at a fraction of the speed | use a network card whose driver has it, or set l4.mode: generic to expect it (by hand)",
		}},
		{"no native XDP, which is wanted", func(n *host.NIC) { n.Driver, n.XDPFeatures = "r8169", new(uint64(0)) }, host.PacketPath{Mode: "native"}, []string{
			"ok eno1 r8169: no native XDP, 4 queues, LRO off",
			"FAIL eno1 r8169: the driver has no native XDP, and l4.mode is native | set l4.mode: auto, or generic (by hand)",
		}},
		{"generic is expected", func(n *host.NIC) { n.Driver, n.XDPFeatures, n.MTU = "r8169", new(uint64(0)), 9000 }, host.PacketPath{Mode: "generic"}, []string{
			"ok eno1 r8169: no native XDP, 4 queues, LRO off",
		}},
		{"jumbo, in several buffers", func(n *host.NIC) { n.MTU = 9000 }, auto, []string{good}},
		{"jumbo", func(n *host.NIC) { n.MTU, n.XDPFeatures = 9000, new(uint64(1)) }, auto, []string{
			good, "warn eno1 mlx5_core: MTU 9000 > 3498: the driver may refuse native XDP | ip link set dev eno1 mtu 3498, or l4.mode: generic (by hand)",
		}},
		{"ena with all queues", func(n *host.NIC) { n.Driver, n.Queues, n.MaxQueues = "ena", 8, 8 }, auto, []string{
			"ok eno1 ena: native XDP, 8 queues, LRO off",
			"FAIL eno1 ena: 8 of 8 queues are in use, native XDP needs half of them | ethtool -L eno1 combined 4",
		}},
		{"virtio with few queues", func(n *host.NIC) { n.Driver, n.Queues, n.MaxQueues = "virtio_net", 4, 4 }, auto, []string{
			"ok eno1 virtio_net: native XDP, 4 queues, LRO off",
			"warn eno1 virtio_net: no queue of its own for each CPU's XDP (4 in use, 4 CPUs, at most 4): they share one behind a lock | give the virtual machine more queue pairs: 8 (by hand)",
		}},
		{"virtio with one of each", func(n *host.NIC) { n.Driver, n.Queues, n.MaxQueues, n.CPUs = "virtio_net", 1, 1, 1 }, auto, []string{
			"ok eno1 virtio_net: native XDP, 1 queue, LRO off",
			"warn eno1 virtio_net: no queue of its own for each CPU's XDP (1 in use, 1 CPU, at most 1): they share one behind a lock | give the virtual machine more queue pairs: 2 (by hand)",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) { wantRows(t, nic(tt.change).JudgePath(tt.path), tt.want...) })
	}
}

func TestIPIP(t *testing.T) {
	t.Parallel()
	const advice = " | ip link set dev eno1 mtu 1520 if the network between the nodes carries that; else let clients send less: ip route change default … advmss 1440 (by hand)"
	at := func(mtu int) host.NIC { return nic(func(n *host.NIC) { n.MTU = mtu }) }
	wantRows(t, at(1500).JudgeIPIP(host.No))
	wantRows(t, at(1520).JudgeIPIP(host.Yes))
	wantRows(t, at(1500).JudgeIPIP(host.Maybe), "warn eno1 1500 < 1520: packets above 1480 bytes for another node's connections are dropped (too_big), where l4 sends them in IPIP: to nodes that are not on one segment with this one"+advice)
	wantRows(t, at(1519).JudgeIPIP(host.Yes), "FAIL eno1 1519 < 1520: packets above 1499 bytes for another node's connections are dropped (too_big), for l4 sends them in IPIP"+
		" | ip link set dev eno1 mtu 1520 if the network between the nodes carries that; else let clients send less: ip route change default … advmss 1459 (by hand)")
}

func TestARP(t *testing.T) {
	t.Parallel()
	const dir = "proc/sys/net/ipv4/conf/"
	files := func(allIgnore, allAnnounce, ignore, announce string) map[string]string {
		return map[string]string{
			dir + "all/arp_ignore": allIgnore, dir + "all/arp_announce": allAnnounce,
			dir + "eno1/arp_ignore": ignore, dir + "eno1/arp_announce": announce,
		}
	}
	const ok = "ok arp_ignore and arp_announce keep VIPs on lo off eno1"
	wantRows(t, planted(files("1", "2", "0", "0")).ARP([]string{"eno1"}), ok)
	wantRows(t, planted(files("0", "0", "2", "2")).ARP([]string{"eno1"}), ok)
	wantRows(t, planted(files("0", "1", "0", "1")).ARP([]string{"eno1"}),
		"warn arp_ignore < 1 on eno1: it answers ARP for VIPs on lo, and takes them from other edges on the segment | sysctl -w net.ipv4.conf.all.arp_ignore=1",
		"warn arp_announce < 2 on eno1: it asks for routers in the name of VIPs on lo, which many do not answer | sysctl -w net.ipv4.conf.all.arp_announce=2")
	wantRows(t, planted(nil).ARP([]string{"eno1"}),
		"warn net.ipv4.conf.all.arp_ignore unknown: not visible here (another network namespace)",
		"warn net.ipv4.conf.all.arp_announce unknown: not visible here (another network namespace)")
}
