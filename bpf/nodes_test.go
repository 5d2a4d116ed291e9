package bpf_test

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"anyedge/bpf"
	"anyedge/bpf/lb"
	"anyedge/bpf/pass"
)

// A conn is one connection of a client.
type conn struct {
	c     net.Conn
	lines *bufio.Reader
	owner string // who should have it, and does
}

const patience = 5 * time.Second

// open opens connections to both VIPs, and sees that each reaches the node that
// the ring says.
func (s *site) open(n int, r *lb.Ring) []*conn {
	s.t.Helper()
	var out []*conn
	for i := range n {
		at := netip.AddrPortFrom([]netip.Addr{vip4, vip6}[i%2], 443)
		c, err := s.router.Dial(s.t.Context(), "tcp", at.String())
		s.must(err)
		s.t.Cleanup(func() { _ = c.Close() })
		from, err := netip.ParseAddrPort(c.LocalAddr().String())
		s.must(err)
		x := &conn{c: c, lines: bufio.NewReader(c), owner: r.Owner(lb.Flow{Src: from, Dst: at, Proto: 6}.Bucket(key))}
		if got, err := x.ask(); err != nil || got != x.owner {
			s.t.Errorf("a new connection from %s: answered by %q (%v), want %s", from, got, err, x.owner)
		}
		out = append(out, x)
	}
	return out
}

// ask returns who answers.
func (c *conn) ask() (string, error) {
	if err := c.c.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintln(c.c, "who"); err != nil {
		return "", err
	}
	line, err := c.lines.ReadString('\n')
	if err != nil {
		return "", err
	}
	name, _, _ := strings.Cut(line, " ")
	return name, nil
}

// alive sees that all connections work, whichever node gets their packets.
func (s *site) alive(when string, cs []*conn, nodes ...string) {
	s.t.Helper()
	for _, name := range nodes {
		s.by(name)
		for _, c := range cs {
			if got, err := c.ask(); err != nil || got != c.owner {
				s.t.Errorf("%s, packets by %s: a connection of %s: answered by %q: %v", when, name, c.owner, got, err)
			}
		}
	}
}

func owners(cs []*conn) map[string]int {
	out := map[string]int{}
	for _, c := range cs {
		out[c.owner]++
	}
	return out
}

func newRing(t *testing.T, ms []bpf.Member) *lb.Ring {
	t.Helper()
	r, err := lb.NewRing(ms)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// startAll starts all nodes with a first ring.
func (s *site) startAll() {
	s.t.Helper()
	for _, m := range s.nodes {
		m.start()
	}
	s.tell(bpf.State{Generation: 1, Members: members("a", "b", "c")})
}

func TestChanges(t *testing.T) {
	s := newSite(t)
	s.startAll()
	all, two := members("a", "b", "c"), members("a", "b")
	s.by("a")
	conns := s.open(60, newRing(t, all))
	if n := owners(conns); len(n) != 3 {
		t.Errorf("the connections are on %v, want all three nodes", n)
	}
	s.alive("at rest", conns, "b", "c", "a")

	s.tell(bpf.State{Generation: 2, Members: all, Other: two})
	s.alive("c prepares to leave", conns, "a", "c")
	s.tell(bpf.State{Generation: 3, Members: two, Other: all})
	s.alive("c leaves", conns, "b", "c", "a")
	fresh := s.open(20, newRing(t, two))
	if n := owners(fresh); n["c"] != 0 {
		t.Errorf("new connections are on %v, none should be on c", n)
	}
	conns = append(conns, fresh...)
	s.tell(bpf.State{Generation: 4, Members: all, Other: two})
	s.alive("c is back", conns, "c", "a", "b")

	s.nodes["c"].kill()
	s.must(s.nodes["c"].space.Down("eth0"))
	s.tell(bpf.State{Generation: 5, Members: two, Other: all, Gone: []string{"c"}})
	left := conns[:0:0]
	for _, c := range conns {
		if c.owner != "c" {
			left = append(left, c)
		}
	}
	s.alive("c is dead", left, "a", "b")
	s.open(20, newRing(t, two))
}

func TestStranger(t *testing.T) {
	s := newSite(t)
	s.startAll()
	s.must(s.router.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 4)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		for range 3 {
			if err := unix.Sendto(fd, make([]byte, 40), 0, &unix.SockaddrInet4{Addr: s.nodes["a"].addr4.As4()}); err != nil {
				return err
			}
		}
		return nil
	}))
	s.nodes["a"].is("counts the stranger's packets", func(x said) bool {
		return x.Status.Interfaces[0].Counters.Reasons[lb.Stranger].Packets == 3
	})
}

func TestForeignProgram(t *testing.T) {
	s := newSite(t)
	a := s.nodes["a"]
	var off func() error
	s.must(a.space.Do(func() (err error) {
		off, err = pass.Attach("eth0")
		return err
	}))
	a.start()
	got := a.is("says why it has no program", func(x said) bool { return x.Status.Interfaces[0].Error != "" })
	if text := got.Status.Interfaces[0].Error; got.Self.Up || !strings.Contains(text, "ip link set dev eth0 xdp off") {
		t.Errorf("up %v, error %q", got.Self.Up, text)
	}
	s.must(off())
	a.is("has the program once it can", func(x said) bool { return x.Self.Up && x.Status.Interfaces[0].Error == "" })
}
