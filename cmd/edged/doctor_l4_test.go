package main_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"anyedge/bpf/lb"
	"anyedge/internal/testpeer"
)

// l4Config has the packet path on v0, and another node that is not on its
// segment.
const l4Config = `
node:
  geo: fra
  name: fra-edge1
  number: 1
  interfaces: [v0]
  fabric: {listen: "192.0.2.1:8443", cert: {file: /none/crt}, key: {file: /none/key}}
geos: [{name: fra, number: 1, fabric: ["192.0.2.1:8443", "198.51.100.2:8443"]}]
fabric: {trust_domain: edge.example.net, ca: {file: /none/ca}, secret: {file: /none/secret}}
vips: [{name: www, prefixes: [203.0.113.0/24], addresses: [203.0.113.10]}]
listeners: [{name: http, vips: [www], port: 80}]
l4: {mode: native}
` + aService

// linesWith returns the lines with any of the words.
func linesWith(text string, words ...string) []string {
	var out []string
	for line := range strings.Lines(text) {
		for _, w := range words {
			if strings.Contains(line, w) {
				out = append(out, strings.TrimSuffix(line, "\n"))
				break
			}
		}
	}
	return out
}

// withLink returns a machine with v0, a link to nobody.
func withLink(t *testing.T) machine {
	t.Helper()
	m := newMachine(t)
	m.ip(t, "link add v0 type veth peer name v1")
	m.ip(t, "address add 192.0.2.1/24 dev v0")
	m.ip(t, "link set v0 up")
	m.ip(t, "link set v1 up")
	m.ip(t, "route add default via 192.0.2.254 dev v0")
	return m
}

// Faults of the packet path's surroundings are found, and the script mends what
// a command can.
func TestDoctorOfThePacketPath(t *testing.T) {
	t.Parallel()
	testpeer.Need(t, "sysctl", "sh")
	m := withLink(t)
	dir := t.TempDir()
	file := setUp(t, dir, l4Config)
	m.run(t, "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.v0.rp_filter=1", "net.ipv4.conf.all.arp_ignore=0", "net.ipv4.conf.all.arp_announce=0")
	m.ip(t, "link set dev v0 xdp obj ../../bpf/pass/pass_bpfel.o sec xdp")

	const (
		foreign  = "nic     FAIL  v0 veth: another XDP program is attached (pass, native): the packet path cannot be. Fix: ip link set dev v0 xdp off"
		mtu      = "mtu     FAIL  v0 1500 < 1520: packets above 1480 bytes for another node's connections are dropped (too_big), for l4 sends them in IPIP. Fix: ip link set dev v0 mtu 1520 if the network between the nodes carries that; else let clients send less: ip route change default … advmss 1440"
		filter   = "sysctl  FAIL  net.ipv4.conf.v0.rp_filter=1 drops packets whose way back is another interface. Fix: sysctl -w net.ipv4.conf.v0.rp_filter=2"
		ignore   = "sysctl  warn  arp_ignore < 1 on v0: it answers ARP for VIPs on lo, and takes them from other edges on the segment. Fix: sysctl -w net.ipv4.conf.all.arp_ignore=1"
		announce = "sysctl  warn  arp_announce < 2 on v0: it asks for routers in the name of VIPs on lo, which many do not answer. Fix: sysctl -w net.ipv4.conf.all.arp_announce=2"
	)
	look := func(more ...string) ran {
		return m.run(t, append([]string{edgedBinary, "doctor", "--config", file, "--only", "kernel,nic,mtu,sysctl"}, more...)...)
	}
	faults := func(text string) []string { return linesWith(text, "XDP program", "IPIP", "rp_filter=", "arp_") }
	before := look()
	if d := cmp.Diff([]string{foreign, mtu, filter, ignore, announce}, faults(before.stdout)); d != "" || before.code != 1 {
		t.Errorf("before, exit code %d (-want +got):\n%s", before.code, d)
	}
	if !strings.Contains(before.stdout, "the kernel takes the packet program") || !strings.Contains(before.stdout, "v0 veth: native XDP, ") {
		t.Errorf("before:\n%s", before.stdout)
	}
	// The whole script would change what is not a namespace's own.
	script := "#!/bin/sh\n" + strings.Join(linesWith(look("--fix-script").stdout, "dev v0 xdp off || rc", "conf.v0.rp_filter=2 || rc", "all.arp_ignore=1 || rc", "all.arp_announce=2 || rc"), "\n")
	if strings.Count(script, "|| rc=1") != 4 {
		t.Errorf("the script:\n%s", script)
	}
	mend := filepath.Join(dir, "mend.sh")
	if err := os.WriteFile(mend, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := m.run(t, "sh", "-e", mend); got.code != 0 {
		t.Errorf("the script: %+v", got)
	}
	m.ip(t, "link set v0 mtu 1520")
	after := look()
	if d := cmp.Diff([]string{"sysctl  ok    arp_ignore and arp_announce keep VIPs on lo off v0"}, linesWith(after.stdout, "XDP program", "IPIP", "rp_filter=", "arp_")); d != "" {
		t.Errorf("after the script (-want +got):\n%s", d)
	}
}

// edged's own program is no fault, whoever looks; a name that is no interface is.
func TestDoctorBesideThePacketPath(t *testing.T) {
	t.Parallel()
	m := withLink(t)
	attachIn(t, m, "v0")
	file := setUp(t, t.TempDir(), strings.Replace(l4Config, "interfaces: [v0]", "interfaces: [v0, v9]", 1))
	got := m.run(t, edgedBinary, "doctor", "--config", file, "--only", "nic")
	if !strings.Contains(got.stdout, "nic  ok    v0 veth: native XDP, 1 queue, LRO off, edged's packet program attached (native)\n") || strings.Contains(got.stdout, "another") ||
		!strings.Contains(got.stdout, "nic  FAIL  interface v9: Link not found. Fix: correct node.interfaces") {
		t.Errorf("%+v", got)
	}
	testpeer.Need(t, "setpriv")
	got = m.run(t, "setpriv", "--bounding-set=-all", "--", edgedBinary, "doctor", "--config", file, "--only", "nic,kernel")
	if !strings.Contains(got.stdout, "whose is not visible to this user. Fix: run doctor as root") || !strings.Contains(got.stdout, "CAP_BPF is not held even by root: cannot load the packet program") {
		t.Errorf("without capabilities: %+v", got)
	}
}

// attachIn keeps the packet program on an interface of the machine until the
// test ends.
func attachIn(t *testing.T, m machine, name string) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	enter := func(path string) func() {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		return func() {
			defer f.Close()
			if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
				panic(err) // this thread must not serve other tests
			}
		}
	}
	home, there := enter("/proc/thread-self/ns/net"), enter("/proc/"+m.pid+"/ns/net")
	there()
	defer home()
	p, err := lb.Load()
	if err != nil {
		t.Fatal(err)
	}
	a, err := p.Attach(name, lb.Native)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close(); _ = p.Close() })
}
