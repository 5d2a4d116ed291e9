package bpf_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"anyedge/bpf"
	"anyedge/bpf/lb"
	"anyedge/bpf/pass"
	"anyedge/internal/lab/netns"
)

var (
	key  = [2]uint64{0x9ae16a3b2f90404f, 0xc949c7defeb1bb8d}
	vip4 = netip.MustParseAddr("192.0.2.10")
	vip6 = netip.MustParseAddr("2001:db8:100::10")
)

// A site is a geo: nodes a and b on one segment, c on one of its own; a router,
// which is the client as well, is on both.
type site struct {
	t      *testing.T
	router *netns.Space
	nodes  map[string]*member
	pins   string
}

// A member is one node: a machine, its servers, and its process, if it runs.
type member struct {
	site  *site
	name  string
	space *netns.Space
	addr4 netip.Addr
	addr6 netip.Addr
	mac   lb.MAC

	mode, forward, pins string // of l4

	cmd   *exec.Cmd
	stdin io.Writer
	last  atomic.Pointer[said]
	ended chan struct{}
}

var sites atomic.Int32

func newSite(t *testing.T) *site {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("EDGE_TEST_STRICT") != "" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	s := &site{t: t, nodes: map[string]*member{}, pins: filepath.Join(bpffs(t), "edged")}
	prefix := fmt.Sprintf("l4t%d-%d-", os.Getpid(), sites.Add(1))
	sw := s.space(prefix+"sw", nil)
	s.router = s.space(prefix+"r", map[string]string{"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1"})
	s.must(sw.Bridge("br0", 1600))
	s.must(netns.Veth(s.router, "eth0", sw, "p-r", 1600))
	s.must(sw.Plug("p-r", "br0"))
	s.must(s.router.Addr("eth0", "198.51.100.1/28", "2001:db8:f1::1/64"))
	for i, name := range []string{"a", "b"} {
		m := s.machine(prefix, name, fmt.Sprintf("198.51.100.%d", 2+i), fmt.Sprintf("2001:db8:f1::%d", 2+i))
		s.must(netns.Veth(m.space, "eth0", sw, "p-"+name, 1600))
		s.must(sw.Plug("p-"+name, "br0"))
		m.finish(sw, "p-"+name, "198.51.100.1", "2001:db8:f1::1")
	}
	c := s.machine(prefix, "c", "198.51.100.18", "2001:db8:f2::2")
	s.must(netns.Veth(c.space, "eth0", s.router, "eth1", 1600))
	s.must(s.router.Addr("eth1", "198.51.100.17/28", "2001:db8:f2::1/64"))
	c.finish(s.router, "eth1", "198.51.100.17", "2001:db8:f2::1")
	return s
}

// bpffs mounts a BPF file system for the test alone.
func bpffs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) space(name string, sysctls map[string]string) *netns.Space {
	s.t.Helper()
	sp, err := netns.New(name, sysctls)
	s.must(err)
	s.t.Cleanup(func() {
		if err := sp.Close(); err != nil {
			s.t.Error(err)
		}
	})
	return sp
}

func (s *site) machine(prefix, name, addr4, addr6 string) *member {
	s.t.Helper()
	m := &member{
		site: s, name: name, space: s.space(prefix+name, map[string]string{"ipv4/conf/all/rp_filter": "0", "ipv4/conf/default/rp_filter": "0"}),
		addr4: netip.MustParseAddr(addr4), addr6: netip.MustParseAddr(addr6), pins: s.pins,
	}
	s.nodes[name] = m
	return m
}

// finish gives the node its addresses and servers; peer is the far end of its
// cable.
func (m *member) finish(peer *netns.Space, port, gateway4, gateway6 string) {
	s := m.site
	s.t.Helper()
	s.must(peer.PlainFrames(port))
	s.must(peer.Do(func() error {
		off, err := pass.Attach(port)
		if err == nil {
			s.t.Cleanup(func() { _ = off() })
		}
		return err
	}))
	s.must(m.space.Addr("eth0", m.addr4.String()+"/28", m.addr6.String()+"/64"))
	s.must(m.space.Addr("lo", vip4.String()+"/32", vip6.String()+"/128"))
	s.must(m.space.Default(gateway4, gateway6))
	s.must(m.space.Do(func() error {
		l, err := netlink.LinkByName("eth0")
		if err == nil {
			copy(m.mac[:], l.Attrs().HardwareAddr)
		}
		return err
	}))
	for _, vip := range []netip.Addr{vip4, vip6} {
		s.must(m.space.Do(func() error { return m.serve(netip.AddrPortFrom(vip, 443)) }))
	}
}

// serve answers every line over TCP and every packet over UDP with the node's name.
func (m *member) serve(at netip.AddrPort) error {
	ln, err := (&net.ListenConfig{}).Listen(m.site.t.Context(), "tcp", at.String())
	if err != nil {
		return err
	}
	pc, err := (&net.ListenConfig{}).ListenPacket(m.site.t.Context(), "udp", at.String())
	if err != nil {
		return err
	}
	m.site.t.Cleanup(func() { _, _ = ln.Close(), pc.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			m.site.t.Cleanup(func() { _ = c.Close() })
			go func() {
				for lines := bufio.NewScanner(c); lines.Scan(); {
					if _, err := fmt.Fprintln(c, m.name, lines.Text()); err != nil {
						return
					}
				}
			}()
		}
	}()
	go func() {
		for buf := make([]byte, 64); ; {
			_, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = pc.WriteTo([]byte(m.name), from) // who is lost misses it
		}
	}()
	return nil
}

// start starts the node's process.
func (m *member) start() {
	t := m.site.t
	t.Helper()
	text, err := json.Marshal(bpf.Setup{
		Config: bpf.Config{Mode: m.mode, Forward: m.forward, Pins: m.pins}, Interfaces: []string{"eth0"}, Node: m.name, Key: key, VIPs: []netip.Addr{vip4, vip6},
	})
	m.site.must(err)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), nodeEnv+"="+string(text))
	cmd.Stderr = t.Output()
	stdin, err := cmd.StdinPipe()
	m.site.must(err)
	stdout, err := cmd.StdoutPipe()
	m.site.must(err)
	m.site.must(m.space.Start(cmd))
	ended := make(chan struct{})
	m.cmd, m.stdin, m.ended = cmd, stdin, ended
	m.last.Store(nil)
	go func() {
		defer close(ended)
		for lines := json.NewDecoder(stdout); ; {
			var s said
			if lines.Decode(&s) != nil {
				break
			}
			m.last.Store(&s)
		}
		_ = cmd.Wait() // it was killed
	}()
	t.Cleanup(m.kill)
}

func (m *member) kill() { m.end(syscall.SIGKILL) }
func (m *member) stop() { m.end(syscall.SIGTERM) }

func (m *member) end(sig syscall.Signal) {
	_ = m.cmd.Process.Signal(sig) // it may have ended
	<-m.ended
}

// is waits until the node says what ok wants to hear; it has looked at its
// interface then.
func (m *member) is(what string, ok func(said) bool) said {
	t := m.site.t
	t.Helper()
	m.last.Store(nil) // what it said before does not count
	waitFor(t, m.name+" "+what, func() bool {
		s := m.last.Load()
		return s != nil && len(s.Status.Interfaces) > 0 && ok(*s)
	})
	return *m.last.Load()
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(20 * time.Second); ; {
		if ok() {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("not in time: %s", what)
		}
	}
}

// tell gives all nodes that run a state, and waits until they follow it.
func (s *site) tell(st bpf.State) {
	s.t.Helper()
	st.Nodes = s.everybody()
	for _, m := range s.nodes {
		if m.cmd == nil {
			continue
		}
		select {
		case <-m.ended:
			continue
		default:
		}
		m.follow(st)
		m.is(fmt.Sprintf("follows generation %d", st.Generation), func(x said) bool {
			return x.Self.Up && x.Self.Applied == st.Generation && ways(x) == 2
		})
	}
}

// follow gives the node a state.
func (m *member) follow(st bpf.State) {
	m.site.t.Helper()
	m.site.must(json.NewEncoder(m.stdin).Encode(st))
}

// everybody is what the nodes say of themselves.
func (s *site) everybody() []bpf.Node {
	var out []bpf.Node
	for _, name := range []string{"a", "b", "c"} {
		m := s.nodes[name]
		out = append(out, bpf.Node{Name: name, Addr: m.addr4, MAC: m.mac})
	}
	return out
}

// ways counts the nodes that can be reached.
func ways(x said) int {
	n := 0
	for _, w := range x.Status.Interfaces[0].Ways {
		if w.Mode != "" {
			n++
		}
	}
	return n
}

// by makes the router give all packets for the VIPs to one node.
func (s *site) by(name string) {
	s.t.Helper()
	m := s.nodes[name]
	s.must(s.router.Do(func() error {
		for _, hop := range [][2]netip.Addr{{vip4, m.addr4}, {vip6, m.addr6}} {
			dst := &net.IPNet{IP: hop[0].AsSlice(), Mask: net.CIDRMask(hop[0].BitLen(), hop[0].BitLen())}
			if err := netlink.RouteReplace(&netlink.Route{Dst: dst, Gw: hop[1].AsSlice()}); err != nil {
				return err
			}
		}
		return nil
	}))
}

func members(names ...string) []bpf.Member {
	var out []bpf.Member
	for _, n := range names {
		out = append(out, bpf.Member{Name: n, Weight: 1})
	}
	return out
}
