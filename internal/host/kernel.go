package host

import (
	"bufio"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// The oldest kernel that edged is made for.
const (
	minMajor = 5
	minMinor = 15
)

// A Capability is one bit of what a process may do; capabilities(7).
type Capability uint

// Capabilities that edged may need.
const (
	NetBindService Capability = 10
	NetAdmin       Capability = 12
	NetRaw         Capability = 13
	PerfMon        Capability = 38
	BPF            Capability = 39
)

func (c Capability) String() string {
	switch c {
	case NetBindService:
		return "CAP_NET_BIND_SERVICE"
	case NetAdmin:
		return "CAP_NET_ADMIN"
	case NetRaw:
		return "CAP_NET_RAW"
	case PerfMon:
		return "CAP_PERFMON"
	case BPF:
		return "CAP_BPF"
	}
	return "capability " + strconv.FormatUint(uint64(c), 10)
}

// A Need is a capability that the configuration asks for.
type Need struct {
	Capability Capability
	Why        string // what is impossible without it: "bind port 443"
}

// Kernel judges release, BPF and capabilities: one line for what is well, and
// one for each fault.
func (m Machine) Kernel(needs []Need) []Finding {
	var good []string
	var bad []Finding
	release, err := m.text("proc/sys/kernel/osrelease")
	switch {
	case err != nil:
		bad = append(bad, warn(AreaKernel, "release unknown: %v", err))
	case olderThan(release, minMajor, minMinor):
		bad = append(bad, fail(AreaKernel, "%s is older than %d.%d", release, minMajor, minMinor).advise("install a newer kernel"))
	default:
		good = append(good, release)
	}
	for _, check := range []func() (string, *Finding){m.jit, m.btf} {
		if text, f := check(); f != nil {
			bad = append(bad, *f)
		} else {
			good = append(good, text)
		}
	}
	held, missing := m.capabilities(needs)
	if held != "" {
		good = append(good, held)
	}
	bad = append(bad, missing...)
	if len(good) == 0 {
		return bad
	}
	return append([]Finding{ok(AreaKernel, "%s", strings.Join(good, "; "))}, bad...)
}

// jit judges whether BPF programs are compiled.
func (m Machine) jit() (string, *Finding) {
	const name = "net.core.bpf_jit_enable"
	v, err := m.number("proc/sys/net/core/bpf_jit_enable")
	if err != nil {
		f := warn(AreaKernel, "BPF JIT unknown: %s cannot be read here (another network namespace, or no BPF)", name)
		return "", &f
	}
	if v == 0 {
		f := setSysctl(warn(AreaKernel, "BPF JIT is off: packet programs are interpreted"), name, "1")
		return "", &f
	}
	return "BPF JIT on", nil
}

// btf judges whether the kernel describes its types.
func (m Machine) btf() (string, *Finding) {
	if _, err := fs.Stat(m.Root, "sys/kernel/btf/vmlinux"); err != nil {
		f := warn(AreaKernel, "BTF is missing (/sys/kernel/btf/vmlinux): packet programs cannot be fitted to this kernel").
			advise("use a kernel built with CONFIG_DEBUG_INFO_BTF=y, as distributions' are")
		return "", &f
	}
	return "BTF present", nil
}

// capabilities compares what this process holds with what is needed.
func (m Machine) capabilities(needs []Need) (string, []Finding) {
	set, root, err := m.effective()
	if err != nil {
		return "", []Finding{warn(AreaKernel, "capabilities unknown: %v", err)}
	}
	var held []string
	for _, c := range []Capability{BPF, NetAdmin, NetBindService} {
		if set&(1<<c) != 0 {
			held = append(held, c.String())
		}
	}
	var bad []Finding
	for _, n := range needs {
		if set&(1<<n.Capability) != 0 {
			continue
		}
		f := fail(AreaKernel, "%s is not held even by root: cannot %s", n.Capability, n.Why).advise("give it to the container or the unit")
		if !root {
			f = warn(AreaKernel, "%s is not held by this user, who could not %s with edged", n.Capability, n.Why).
				advise("start edged by its unit (AmbientCapabilities=%s), or run doctor as root to see whether root may", n.Capability)
		}
		bad = append(bad, f)
	}
	if len(held) == 0 {
		return "", bad
	}
	return strings.Join(held, " ") + " held", bad
}

// Holds reports whether this process has a capability now.
func (m Machine) Holds(c Capability) (bool, error) {
	set, _, err := m.effective()
	return set&(1<<c) != 0, err
}

// effective returns this process's effective capabilities, and whether it runs
// as root.
func (m Machine) effective() (set uint64, root bool, err error) {
	status, err := m.text("proc/self/status")
	if err != nil {
		return 0, false, err
	}
	found := false
	for s := bufio.NewScanner(strings.NewReader(status)); s.Scan(); {
		name, value, _ := strings.Cut(s.Text(), ":")
		fields := strings.Fields(value)
		switch {
		case name == "Uid" && len(fields) >= 2:
			root = fields[1] == "0"
		case name == "CapEff" && len(fields) == 1:
			if set, err = strconv.ParseUint(fields[0], 16, 64); err != nil {
				return 0, false, fmt.Errorf("proc/self/status: CapEff: %w", err)
			}
			found = true
		}
	}
	if !found {
		return 0, false, fmt.Errorf("proc/self/status: no CapEff")
	}
	return set, root, nil
}

// UnprivilegedPort returns the lowest port that needs no capability.
func (m Machine) UnprivilegedPort() uint16 {
	const usual = 1024
	if v, err := m.number("proc/sys/net/ipv4/ip_unprivileged_port_start"); err == nil && v >= 0 && v < 1<<16 {
		return uint16(v)
	}
	return usual
}

// olderThan reports whether a release like 6.1.0-28-amd64 is below
// major.minor. One that cannot be read is not.
func olderThan(release string, major, minor int) bool {
	var a, b int
	if n, err := fmt.Sscanf(release, "%d.%d", &a, &b); n != 2 || err != nil {
		return false
	}
	return a < major || a == major && b < minor
}
