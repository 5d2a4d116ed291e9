package bgp_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"anyedge/bgp"
	"anyedge/internal/secret"
)

// listenWithKey listens as a router whose neighbors have a TCP-MD5 key; "" is
// none.
func listenWithKey(t *testing.T, address, neighbor, key string) netip.AddrPort {
	t.Helper()
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		cerr := c.Control(func(fd uintptr) {
			if key == "" {
				return
			}
			a := netip.MustParseAddr(neighbor)
			sig := unix.TCPMD5Sig{Keylen: uint16(len(key))}
			copy(sig.Key[:], key)
			sig.Addr.Family = unix.AF_INET
			offset := 2
			if a.Is6() {
				sig.Addr.Family, offset = unix.AF_INET6, 6
			}
			copy(sig.Addr.Data[offset:], a.AsSlice())
			err = unix.SetsockoptTCPMD5Sig(int(fd), unix.IPPROTO_TCP, unix.TCP_MD5SIG, &sig)
		})
		return errors.Join(cerr, err)
	}}
	l, err := lc.Listen(t.Context(), "tcp", address)
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Skip(err) // no IPv6 here
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func TestCheckReach(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(text string) *secret.Ref {
		path := filepath.Join(dir, text)
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return &secret.Ref{File: path}
	}
	local4, local6 := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")
	closed := listenWithKey(t, "127.0.0.1:0", "", "")
	refused, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = refused.Close()
	for _, tt := range []struct {
		name     string
		router   string // listens here, with key; "" = neighbor.Port says where
		key      string
		neighbor bgp.NeighborConfig
		err      string
		hint     bool
	}{
		{"reachable", "127.0.0.1:0", "", bgp.NeighborConfig{LocalAddress: local4, GTSM: true}, "", false},
		{"reachable without a local address", "127.0.0.1:0", "", bgp.NeighborConfig{Multihop: 5}, "", false},
		{"reachable by IPv6", "[::1]:0", "", bgp.NeighborConfig{LocalAddress: local6, GTSM: true}, "", false},
		{"refused", "", "", bgp.NeighborConfig{Address: local4, Port: refused.Addr().(*net.TCPAddr).AddrPort().Port()}, "refused", true},
		{"password", "127.0.0.1:0", "sesame", bgp.NeighborConfig{LocalAddress: local4, Password: file("sesame")}, "", false},
		{"password by IPv6", "[::1]:0", "sesame", bgp.NeighborConfig{LocalAddress: local6, Password: file("sesame")}, "", false},
		{"another password", "127.0.0.1:0", "sesame", bgp.NeighborConfig{LocalAddress: local4, Password: file("simsim")}, "unanswered", true},
		{"no password", "127.0.0.1:0", "sesame", bgp.NeighborConfig{LocalAddress: local4}, "unanswered", true},
		{
			"password not there", "", "",
			bgp.NeighborConfig{Address: local4, Port: closed.Port(), Password: &secret.Ref{File: filepath.Join(dir, "none")}},
			"password: open " + filepath.Join(dir, "none") + ": no such file or directory", true,
		},
		{
			"local address of another machine", "", "",
			bgp.NeighborConfig{Address: local4, Port: closed.Port(), LocalAddress: netip.MustParseAddr("203.0.113.200")},
			"local_address 203.0.113.200 is not on this machine", true,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n := tt.neighbor
			n.Name, n.ASN = "tor1", 65001
			if tt.router != "" {
				at := listenWithKey(t, tt.router, netip.MustParseAddrPort(tt.router).Addr().String(), tt.key)
				n.Address, n.Port = at.Addr(), at.Port()
			}
			got := bgp.CheckReach(t.Context(), bgp.Config{ASN: 65010}, bgp.NodeConfig{Neighbors: []bgp.NeighborConfig{n}})
			if len(got) != 1 || got[0].Neighbor != "tor1" || got[0].Address != netip.AddrPortFrom(n.Address, n.Port) {
				t.Fatalf("%+v", got)
			}
			text := ""
			if got[0].Err != nil {
				text = got[0].Err.Error()
			}
			if text != tt.err || (got[0].Hint != "") != tt.hint {
				t.Errorf("error %q, hint %q, want %q", text, got[0].Hint, tt.err)
			}
		})
	}
}

// A password that only edged's own environment has is no fault.
func TestCheckReachSaysWhatItCannotSee(t *testing.T) {
	t.Parallel()
	n := bgp.NeighborConfig{Name: "tor1", Address: netip.MustParseAddr("127.0.0.1"), ASN: 65001, Password: &secret.Ref{Env: "NO_SUCH_VARIABLE"}}
	got := bgp.CheckReach(context.Background(), bgp.Config{ASN: 65010}, bgp.NodeConfig{Neighbors: []bgp.NeighborConfig{n}})
	if !errors.Is(got[0].Err, bgp.ErrNotPermitted) {
		t.Errorf("%+v", got[0])
	}
}
