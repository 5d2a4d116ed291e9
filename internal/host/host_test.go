package host_test

import (
	"errors"
	"maps"
	"net/netip"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"anyedge/internal/host"
)

// A planted machine is files with their text.
func planted(files map[string]string) host.Machine {
	root := fstest.MapFS{}
	for name, text := range files {
		root[name] = &fstest.MapFile{Data: []byte(text + "\n"), Mode: 0o644}
	}
	return host.Machine{Root: root}
}

// wantRows compares verdict, text and fix of findings.
func wantRows(t *testing.T, got []host.Finding, want ...string) {
	t.Helper()
	var rows []string
	for _, f := range got {
		row := string(f.Verdict) + " " + f.Text
		if f.Fix != "" {
			row += " | " + f.Fix
		}
		if len(f.Script) > 0 && f.Script[0] != f.Fix {
			row += " | " + f.Script[0]
		}
		if len(f.Script) == 0 && f.Fix != "" {
			row += " (by hand)"
		}
		rows = append(rows, row)
	}
	if d := cmp.Diff(want, rows); d != "" {
		t.Errorf("rows (-want +got):\n%s", d)
	}
}

const (
	release = "proc/sys/kernel/osrelease"
	jit     = "proc/sys/net/core/bpf_jit_enable"
	btf     = "sys/kernel/btf/vmlinux"
	status  = "proc/self/status"

	rootStatus = "Name:\tdoctor\nUid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff"
	userStatus = "Name:\tdoctor\nUid:\t1001\t1001\t1001\t1001\nCapEff:\t0000000000000000"
)

func TestKernel(t *testing.T) {
	t.Parallel()
	needs := []host.Need{{Capability: host.NetBindService, Why: "bind port 443"}}
	for _, tt := range []struct {
		name  string
		files map[string]string
		needs []host.Need
		want  []string
	}{
		{
			"all well",
			map[string]string{release: "6.1.0-28-amd64", jit: "1", btf: "x", status: rootStatus},
			needs,
			[]string{"ok 6.1.0-28-amd64; BPF JIT on; BTF present; CAP_BPF CAP_NET_ADMIN CAP_NET_BIND_SERVICE held"},
		},
		{
			"just new enough, JIT off, no BTF",
			map[string]string{release: "5.15.0", jit: "0", status: rootStatus},
			needs,
			[]string{
				"ok 5.15.0; CAP_BPF CAP_NET_ADMIN CAP_NET_BIND_SERVICE held",
				"warn BPF JIT is off: packet programs are interpreted | sysctl -w net.core.bpf_jit_enable=1",
				"warn BTF is missing (/sys/kernel/btf/vmlinux): packet programs cannot be fitted to this kernel | use a kernel built with CONFIG_DEBUG_INFO_BTF=y, as distributions' are (by hand)",
			},
		},
		{
			"old, and a user",
			map[string]string{release: "5.14.21-150", jit: "1", btf: "x", status: userStatus},
			needs,
			[]string{
				"ok BPF JIT on; BTF present",
				"FAIL 5.14.21-150 is older than 5.15 | install a newer kernel (by hand)",
				"warn CAP_NET_BIND_SERVICE is not held by this user, who could not bind port 443 with edged | start edged by its unit (AmbientCapabilities=CAP_NET_BIND_SERVICE), or run doctor as root to see whether root may (by hand)",
			},
		},
		{
			"a user who needs nothing",
			map[string]string{release: "10.0", jit: "1", btf: "x", status: userStatus},
			nil,
			[]string{"ok 10.0; BPF JIT on; BTF present"},
		},
		{
			"root of a container",
			map[string]string{release: "6.1", jit: "1", btf: "x", status: "Uid:\t0\t0\t0\t0\nCapEff:\t0000000000001000"},
			needs,
			[]string{
				"ok 6.1; BPF JIT on; BTF present; CAP_NET_ADMIN held",
				"FAIL CAP_NET_BIND_SERVICE is not held even by root: cannot bind port 443 | give it to the container or the unit (by hand)",
			},
		},
		{
			"nothing to be seen", nil, needs,
			[]string{
				"warn release unknown: open proc/sys/kernel/osrelease: file does not exist",
				"warn BPF JIT unknown: net.core.bpf_jit_enable cannot be read here (another network namespace, or no BPF)",
				"warn BTF is missing (/sys/kernel/btf/vmlinux): packet programs cannot be fitted to this kernel | use a kernel built with CONFIG_DEBUG_INFO_BTF=y, as distributions' are (by hand)",
				"warn capabilities unknown: open proc/self/status: file does not exist",
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) { wantRows(t, planted(tt.files).Kernel(tt.needs), tt.want...) })
	}
}

func TestSysctl(t *testing.T) {
	t.Parallel()
	const (
		rmem     = "proc/sys/net/core/rmem_max"
		wmem     = "proc/sys/net/core/wmem_max"
		backlog  = "proc/sys/net/core/somaxconn"
		all      = "proc/sys/net/ipv4/conf/all/rp_filter"
		eno1     = "proc/sys/net/ipv4/conf/eno1/rp_filter"
		vlan     = "proc/sys/net/ipv4/conf/eno1.7/rp_filter"
		nonlocal = "proc/sys/net/ipv4/ip_nonlocal_bind"
	)
	good := func(changed map[string]string) map[string]string {
		files := map[string]string{rmem: "7500000", wmem: "16777216", backlog: "4096", all: "0", eno1: "2", vlan: "0", nonlocal: "0"}
		maps.Copy(files, changed)
		return files
	}
	const buffers = "ok net.core.rmem_max 7500000; net.core.wmem_max 16777216; net.core.somaxconn 4096"
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{"all well", good(nil), []string{buffers + "; rp_filter lets asymmetric paths through on eno1 eno1.7; net.ipv4.ip_nonlocal_bind 0"}},
		{"small buffers", good(map[string]string{rmem: "212992", wmem: "7499999", backlog: "128"}), []string{
			"ok rp_filter lets asymmetric paths through on eno1 eno1.7; net.ipv4.ip_nonlocal_bind 0",
			"warn net.core.rmem_max 212992 < 7500000: QUIC loses packets under load | sysctl -w net.core.rmem_max=7500000",
			"warn net.core.wmem_max 7499999 < 7500000: QUIC sends slower under load | sysctl -w net.core.wmem_max=7500000",
			"warn net.core.somaxconn 128 < 4096: bursts of new connections are dropped | sysctl -w net.core.somaxconn=4096",
		}},
		{"strict on one", good(map[string]string{eno1: "1"}), []string{
			buffers + "; net.ipv4.ip_nonlocal_bind 0",
			"FAIL net.ipv4.conf.eno1.rp_filter=1 drops packets whose way back is another interface | sysctl -w net.ipv4.conf.eno1.rp_filter=2",
		}},
		{"strict on one with a dot", good(map[string]string{vlan: "1"}), []string{
			buffers + "; net.ipv4.ip_nonlocal_bind 0",
			"FAIL net.ipv4.conf.eno1.7.rp_filter=1 drops packets whose way back is another interface | sysctl -w net.ipv4.conf.eno1/7.rp_filter=2",
		}},
		{"strict on all", good(map[string]string{all: "1"}), []string{ // eno1's 2 is larger: it is loose
			buffers + "; net.ipv4.ip_nonlocal_bind 0",
			"FAIL net.ipv4.conf.all.rp_filter=1 holds for eno1.7 and drops packets whose way back is another interface | sysctl -w net.ipv4.conf.eno1/7.rp_filter=2",
		}},
		{"loose on all", good(map[string]string{all: "2", eno1: "1"}), []string{buffers + "; rp_filter lets asymmetric paths through on eno1 eno1.7; net.ipv4.ip_nonlocal_bind 0"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wantRows(t, planted(tt.files).Sysctl([]string{"eno1", "eno1.7"}), tt.want...)
		})
	}
	unseen := planted(map[string]string{backlog: "4096"}).Sysctl(nil)
	wantRows(t, unseen, "ok net.core.somaxconn 4096",
		"warn net.core.rmem_max unknown: not visible here (another network namespace)",
		"warn net.core.wmem_max unknown: not visible here (another network namespace)")
}

func TestTCP(t *testing.T) {
	t.Parallel()
	const file = "proc/sys/net/ipv4/tcp_available_congestion_control"
	wantRows(t, planted(map[string]string{file: "reno bbr cubic"}).TCP(), "ok bbr available (there are: reno bbr cubic)")
	wantRows(t, planted(map[string]string{file: "reno cubic bbr2"}).TCP(),
		"warn bbr not available (there are: reno cubic bbr2); bulk transfers over lossy paths will be slow | modprobe tcp_bbr")
}

func TestNIC(t *testing.T) {
	t.Parallel()
	on, off := new(true), new(false)
	for _, tt := range []struct {
		name string
		nic  host.NIC
		want []string
	}{
		{"well", host.NIC{Name: "eno1", MTU: 1500, Up: true, Driver: "mlx5_core", LRO: off, Queues: 16}, []string{"ok eno1 mlx5_core: native XDP likely, 16 queues, LRO off", "ok eno1 1500"}},
		{"LRO", host.NIC{Name: "eno2", MTU: 9000, Up: true, Driver: "ixgbe", LRO: on, Queues: 1}, []string{"FAIL eno2 ixgbe: LRO is on, native XDP cannot attach | ethtool -K eno2 lro off", "ok eno2 9000"}},
		{"nothing known", host.NIC{Name: "usb0", MTU: 1500, Up: true}, []string{"ok usb0: native XDP unknown (the driver is not told), queues unknown, LRO unknown", "ok usb0 1500"}},
		{"another driver, in use, down", host.NIC{Name: "e;x", MTU: 1280, Driver: "r8169", XDP: "generic", LRO: off, Queues: 2}, []string{
			"ok e;x r8169: native XDP unknown for this driver, 2 queues, LRO off",
			"warn e;x r8169: the link is down | ip link set dev 'e;x' up",
			"warn e;x r8169: an XDP program is attached (generic) | if it is not edged's: ip link set dev 'e;x' xdp off (by hand)",
			"warn e;x 1280 < 1500: larger packets depend on path MTU discovery | if the network behind it carries that: ip link set dev 'e;x' mtu 1500 (by hand)",
		}},
		{"too small", host.NIC{Name: "ppp0", MTU: 1247, Up: true, Queues: 1, LRO: off}, []string{
			"ok ppp0: native XDP unknown (the driver is not told), 1 queue, LRO off",
			"FAIL ppp0 1247 < 1248: QUIC cannot begin a connection over IPv6 | if the network behind it carries that: ip link set dev ppp0 mtu 1500 (by hand)",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) { wantRows(t, append(tt.nic.Judge(), tt.nic.JudgeMTU()), tt.want...) })
	}
}

func TestClock(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		clock host.Clock
		err   error
		want  string
	}{
		{host.Clock{Synchronised: true, Offset: 400 * time.Microsecond, MaxError: 12 * time.Millisecond}, nil, "ok synchronised, offset 0.4 ms, error at most 12.0 ms"},
		{host.Clock{Synchronised: true, MaxError: 16 * time.Second}, nil, "warn the clock may be off by 16000.0 ms | look at chronyc tracking or timedatectl timesync-status (by hand)"},
		{host.Clock{MaxError: time.Millisecond}, nil, "warn the clock is not synchronised: certificates may seem out of their time | run chrony or systemd-timesyncd (timedatectl set-ntp true) (by hand)"},
		{host.Clock{}, errors.New("adjtimex: operation not permitted"), "warn clock unknown: adjtimex: operation not permitted"},
	} {
		wantRows(t, []host.Finding{host.JudgeClock(tt.clock, tt.err)}, tt.want)
	}
	if _, err := host.ReadClock(); err != nil {
		t.Error(err) // anybody may read it
	}
}

func TestFiles(t *testing.T) {
	t.Parallel()
	wantRows(t, []host.Finding{host.JudgeFiles(1<<20, nil), host.JudgeFiles(1024, nil)}, "ok nofile 1048576",
		"warn nofile 1024: each connection needs one or two; want 1048576 | LimitNOFILE=1048576 in the unit, or ulimit -Hn 1048576 as root before edged is started (by hand)")
	if n, err := host.ReadFiles(); err != nil || n == 0 {
		t.Error(n, err)
	}
}

func TestQuote(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{"eth0.7": "eth0.7", "": "''", "a b": "'a b'", "it's": `'it'\''s'`, "$(x)": "'$(x)'", "/etc/é": "'/etc/é'"} {
		if got := host.Quote(s); got != want {
			t.Errorf("Quote(%q) = %s, want %s", s, got, want)
		}
	}
}

func TestLocalAddresses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{"127.0.0.1": true, "127.9.8.7": true, "::": true, "203.0.113.200": false, "2001:db8:ffff::1": false} {
		if got, err := host.IsLocal(netip.MustParseAddr(text)); err != nil || got != want {
			t.Errorf("IsLocal(%s) = %t, %v, want %t", text, got, err, want)
		}
	}
}
