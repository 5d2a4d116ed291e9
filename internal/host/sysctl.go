package host

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// SocketBuffer is how large a UDP socket's buffers, in bytes, may be wanted by
// QUIC.
const SocketBuffer = 7_500_000

// leastBacklog is how many connections should wait for accept at most.
const leastBacklog = 4096

// strict is the value of rp_filter that drops what would be answered through
// another interface (RFC 3704 section 2.2); loose accepts it.
const (
	strict = 1
	loose  = 2
)

// Sysctl judges the kernel settings; interfaces are those that carry traffic.
func (m Machine) Sysctl(interfaces []string) []Finding {
	var good []string
	var bad []Finding
	for _, w := range []struct {
		name  string
		least int
		cost  string
	}{
		{"net.core.rmem_max", SocketBuffer, "QUIC loses packets under load"},
		{"net.core.wmem_max", SocketBuffer, "QUIC sends slower under load"},
		{"net.core.somaxconn", leastBacklog, "bursts of new connections are dropped"},
	} {
		v, err := m.number(sysctlFile(w.name))
		switch {
		case err != nil:
			bad = append(bad, warn(AreaSysctl, "%s unknown: %s", w.name, unseen(err)))
		case v < w.least:
			bad = append(bad, setSysctl(warn(AreaSysctl, "%s %d < %d: %s", w.name, v, w.least, w.cost), w.name, fmt.Sprint(w.least)))
		default:
			good = append(good, fmt.Sprintf("%s %d", w.name, v))
		}
	}
	filtered := m.rpFilter(interfaces)
	bad = append(bad, filtered...)
	if len(interfaces) > 0 && len(filtered) == 0 {
		good = append(good, "rp_filter lets asymmetric paths through on "+strings.Join(interfaces, " "))
	}
	if v, err := m.number("proc/sys/net/ipv4/ip_nonlocal_bind"); err == nil {
		good = append(good, fmt.Sprintf("net.ipv4.ip_nonlocal_bind %d", v))
	}
	if len(good) == 0 {
		return bad
	}
	return append([]Finding{ok(AreaSysctl, "%s", strings.Join(good, "; "))}, bad...)
}

// rpFilter finds interfaces that drop packets whose way back is another one.
func (m Machine) rpFilter(interfaces []string) []Finding {
	const dir = "proc/sys/net/ipv4/conf/"
	all, _ := m.number(dir + "all/rp_filter") // not there: 0
	var bad []Finding
	for _, name := range interfaces {
		v, err := m.number(dir + name + "/rp_filter")
		if errors.Is(err, fs.ErrNotExist) {
			continue // an interface without IPv4
		}
		if err != nil {
			bad = append(bad, warn(AreaSysctl, "rp_filter of %s unknown: %v", name, err))
			continue
		}
		// The kernel takes the larger of all and the interface's own.
		if max(all, v) != strict {
			continue
		}
		text := fmt.Sprintf("net.ipv4.conf.%s.rp_filter=1", name)
		if v != strict {
			text = fmt.Sprintf("net.ipv4.conf.all.rp_filter=1 holds for %s and", name)
		}
		bad = append(bad, setSysctl(fail(AreaSysctl, "%s drops packets whose way back is another interface", text),
			"net.ipv4.conf."+strings.ReplaceAll(name, ".", "/")+".rp_filter", fmt.Sprint(loose)))
	}
	return bad
}

// Values with which the kernel keeps the addresses of lo to itself on a segment:
// it answers ARP for those of the interface alone, and asks from one that fits.
const (
	arpIgnore   = 1
	arpAnnounce = 2
)

// ARP judges, for the interfaces, whether hosts behind them may hear of IPv4
// addresses on lo.
func (m Machine) ARP(interfaces []string) []Finding {
	var out []Finding
	for _, w := range []struct {
		name  string
		least int
		cost  string
	}{
		{"arp_ignore", arpIgnore, "it answers ARP for VIPs on lo, and takes them from other edges on the segment"},
		{"arp_announce", arpAnnounce, "it asks for routers in the name of VIPs on lo, which many do not answer"},
	} {
		const dir = "net.ipv4.conf."
		all, err := m.number(sysctlFile(dir + "all." + w.name))
		if err != nil {
			out = append(out, warn(AreaSysctl, "%s unknown: %s", dir+"all."+w.name, unseen(err)))
			continue
		}
		var low []string
		for _, name := range interfaces {
			// The kernel takes the larger of all and the interface's own.
			v, err := m.number("proc/sys/net/ipv4/conf/" + name + "/" + w.name)
			if err == nil && max(all, v) < w.least {
				low = append(low, name)
			}
		}
		if len(low) > 0 {
			out = append(out, setSysctl(warn(AreaSysctl, "%s < %d on %s: %s", w.name, w.least, strings.Join(low, " "), w.cost), dir+"all."+w.name, fmt.Sprint(w.least)))
		}
	}
	if len(out) == 0 && len(interfaces) > 0 {
		return []Finding{ok(AreaSysctl, "arp_ignore and arp_announce keep VIPs on lo off %s", strings.Join(interfaces, " "))}
	}
	return out
}

// TCP judges congestion control.
func (m Machine) TCP() []Finding {
	s, err := m.text("proc/sys/net/ipv4/tcp_available_congestion_control")
	switch {
	case err != nil:
		return []Finding{warn(AreaTCP, "congestion control unknown: %v", err)}
	case !slices.Contains(strings.Fields(s), "bbr"):
		return []Finding{warn(AreaTCP, "bbr not available (there are: %s); bulk transfers over lossy paths will be slow", s).mend("modprobe tcp_bbr")}
	}
	return []Finding{ok(AreaTCP, "bbr available (there are: %s)", s)}
}

// setSysctl adds the command that sets a kernel setting.
func setSysctl(f Finding, name, value string) Finding {
	return f.mend("sysctl -w " + Quote(name+"="+value))
}

// sysctlFile returns the file of a setting.
func sysctlFile(name string) string { return "proc/sys/" + strings.ReplaceAll(name, ".", "/") }

// unseen says why a setting cannot be read.
func unseen(err error) string {
	if errors.Is(err, fs.ErrNotExist) {
		return "not visible here (another network namespace)"
	}
	return err.Error()
}
