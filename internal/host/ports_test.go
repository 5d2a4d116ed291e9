package host_test

import (
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"anyedge/internal/host"
)

// Tables as a little-endian kernel writes them; shortened.
const (
	tcp4 = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" +
		"   0: 010200C0:01BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1001 1 0 100 0 0 10 0\n" +
		"   1: 010200C0:0050 020200C0:D431 01 00000000:00000000 00:00000000 00000000     0        0 1002 1 0 20 4 30 10 -1\n" +
		"   2: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1003 1 0 100 0 0 10 0\n"
	tcp6 = "  sl  local_address                         remote_address                        st\n" +
		"   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1004 1 0 100 0 0 10 0\n"
	udp4 = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n" +
		"  10: 010200C0:01BB 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1005 2 0 0\n"
	udp6 = "   sl  local_address\n" +
		"   0: B80D0120000000000000000001000000:01BB 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1006 2 0 0\n"
)

// link returns a symbolic link.
func link(target string) *fstest.MapFile {
	return &fstest.MapFile{Data: []byte(target), Mode: fs.ModeSymlink | 0o777}
}

func TestPorts(t *testing.T) {
	t.Parallel()
	root := fstest.MapFS{"proc/812/fd/0": link("/dev/null"), "proc/812/fd/7": link("socket:[1001]"), "proc/813/fd/3": link("socket:[1006]")}
	for name, text := range map[string]string{
		"proc/self/net/tcp": tcp4, "proc/self/net/tcp6": tcp6, "proc/self/net/udp": udp4, "proc/self/net/udp6": udp6,
		"proc/812/comm": "caddy\n", "proc/813/comm": "edged\n", "proc/sys/net/ipv6/ip_nonlocal_bind": "1\n",
	} {
		root[name] = &fstest.MapFile{Data: []byte(text)}
	}
	m := host.Machine{Root: root}
	sockets, err := m.Sockets()
	if err != nil || len(sockets) != 5 {
		t.Fatalf("%d sockets, %v: %v", len(sockets), err, sockets)
	}
	for _, tt := range []struct {
		network, address string
		local, vip       bool
		want             string
	}{
		{"tcp", "192.0.2.1:443", true, true, "FAIL 192.0.2.1:443/tcp (listener web) is used by caddy (pid 812) | stop it, or give listener web another port (by hand)"},
		{"udp", "192.0.2.1:443", true, true, "FAIL 192.0.2.1:443/udp (listener web) is used by a process that this user may not see | run doctor as root to see which, and stop it (by hand)"},
		{"udp", "[2001:db8::1]:443", true, true, "ok [2001:db8::1]:443/udp (listener web) is used by edged (pid 813), which runs"},
		{"tcp", "[2001:db8::1]:443", true, true, "ok [2001:db8::1]:443/tcp (listener web) is free"},
		{"tcp", "192.0.2.1:80", true, true, "ok 192.0.2.1:80/tcp (listener web) is free"}, // a connection, no listener
		{"tcp", "192.0.2.9:22", true, true, "FAIL 192.0.2.9:22/tcp (listener web) is used by a process that this user may not see | run doctor as root to see which, and stop it (by hand)"},
		{"tcp", "0.0.0.0:443", true, false, "FAIL 0.0.0.0:443/tcp (listener web) is used by caddy (pid 812) | stop it, or give listener web another port (by hand)"},
		{"tcp", "[::]:443", true, false, "FAIL [::]:443/tcp (listener web) is used by caddy (pid 812) | stop it, or give listener web another port (by hand)"},
		{"tcp", "192.0.2.1:8080", true, false, "warn 192.0.2.1:8080/tcp (listener web) may be used by a process that this user may not see, which waits at [::]:8080 | see that it takes IPv6 alone, or give listener web another port (by hand)"},
		{"tcp", "192.0.2.2:443", false, true, "FAIL 192.0.2.2:443/tcp (listener web): the address is not on this machine | ip address add 192.0.2.2/32 dev lo"},
		{"tcp", "192.0.2.2:443", false, false, "FAIL 192.0.2.2:443/tcp (listener web): the address is not on this machine | correct the address of listener web, or assign it (by hand)"},
		{"tcp", "[2001:db8::2]:443", false, true, "warn [2001:db8::2]:443/tcp (listener web): the address is not on this machine; it can be bound (ip_nonlocal_bind), but nothing for it is delivered | ip address add 2001:db8::2/128 dev lo"},
	} {
		p := host.Port{Network: tt.network, Address: netip.MustParseAddrPort(tt.address), For: "listener web", VIP: tt.vip}
		wantRows(t, []host.Finding{m.Port(p, sockets, tt.local, "edged")}, tt.want)
	}
}

// The kernel's own tables have a socket of this process.
func TestOwnSocket(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Log(err) // no IPv6 here
			continue
		}
		defer l.Close()
		m := host.Here()
		sockets, err := m.Sockets()
		if err != nil {
			t.Fatal(err)
		}
		want := l.Addr().(*net.TCPAddr).AddrPort()
		found := false
		for _, s := range sockets {
			if s.Network == host.TCP && s.Local == want {
				found = true
				if p := m.Owner(s.Inode); p.PID != os.Getpid() || p.Name == "" {
					t.Errorf("the owner of %s is %v, want pid %d", want, p, os.Getpid())
				}
			}
		}
		if !found {
			t.Errorf("%s is not among the sockets", want)
		}
	}
}

func FuzzParseSockets(f *testing.F) {
	for _, table := range []string{tcp4, tcp6, udp4, udp6} {
		f.Add(table)
	}
	f.Fuzz(func(t *testing.T, table string) {
		for _, network := range []string{host.TCP, host.UDP} {
			for _, s := range host.ParseSockets(network, strings.NewReader(table)) {
				if s.Network != network || !s.Local.IsValid() {
					t.Errorf("%v", s)
				}
			}
		}
	})
}
