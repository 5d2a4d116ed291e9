package netns_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"anyedge/internal/lab/netns"
)

// space makes a namespace that is gone when the test ends.
func space(t *testing.T, name string, sysctls map[string]string) *netns.Space {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("EDGE_TEST_STRICT") != "" {
			t.Fatal("network namespaces need root")
		}
		t.Skip("network namespaces need root")
	}
	s, err := netns.New(fmt.Sprintf("edged-netns-%d-%s", os.Getpid(), name), sysctls)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if left := netns.List(s.Name); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
	return s
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// echo answers every line on an address inside a namespace.
func echo(t *testing.T, s *netns.Space, address string) string {
	t.Helper()
	var l net.Listener
	must(t, s.Do(func() (err error) {
		var lc net.ListenConfig
		l, err = lc.Listen(t.Context(), "tcp", address)
		return err
	}))
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); _ = l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			stop := context.AfterFunc(ctx, func() { _ = c.Close() }) // its end may never hear of the other's
			wg.Go(func() {
				_, _ = io.Copy(c, c)
				stop()
				_ = c.Close()
			})
		}
	})
	return l.Addr().String()
}

// trip sends a line from one namespace and waits for it to come back: the
// fastest of some.
func trip(t *testing.T, s *netns.Space, address string) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := s.Dial(ctx, "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	must(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	r, best := bufio.NewReader(c), time.Hour
	for range 5 {
		begin := time.Now()
		if _, err := io.WriteString(c, "hello\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		best = min(best, time.Since(begin))
	}
	return best
}

func TestSpace(t *testing.T) {
	a := space(t, "a", map[string]string{"ipv4/ip_forward": "1", "ipv4/conf/default/arp_announce": "2"})
	if _, err := netns.New(a.Name, nil); !errors.Is(err, os.ErrExist) {
		t.Errorf("a second of that name: %v", err)
	}
	if left := netns.List(a.Name); len(left) != 1 {
		t.Fatalf("the second took the first away: %v", left)
	}
	if _, err := netns.New(a.Name+"-x", map[string]string{"ipv4/nothing": "1"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an unknown sysctl: %v", err)
	}
	if left := netns.List(a.Name); len(left) != 1 {
		t.Errorf("what could not be made is there: %v", left)
	}

	b := space(t, "b", nil)
	must(t, netns.Veth(a, "eth0", b, "eth0", 1600),
		a.Addr("eth0", "198.51.100.1/28", "2001:db8:f1::1/64"), b.Addr("eth0", "198.51.100.2/28", "2001:db8:f1::2/64"))
	must(t, a.Do(func() error {
		for path, want := range map[string]string{"net/ipv4/ip_forward": "1", "net/ipv4/conf/eth0/arp_announce": "2"} {
			if text, err := os.ReadFile("/proc/sys/" + path); err != nil || strings.TrimSpace(string(text)) != want {
				return fmt.Errorf("%s: %q, %w", path, text, err)
			}
		}
		return nil
	}))
	for _, at := range []string{"198.51.100.2:0", "[2001:db8:f1::2]:0"} {
		trip(t, a, echo(t, b, at))
	}
	if _, err := net.InterfaceByName("eth0-of-no-namespace"); err == nil {
		t.Error("an interface is outside")
	}

	must(t, b.Down("eth0"))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if c, err := a.Dial(ctx, "tcp", "198.51.100.2:1"); err == nil || !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, unix.EHOSTUNREACH) && !errors.Is(err, unix.ENETUNREACH) {
		t.Errorf("over a pulled cable: %v, %v", c, err)
	}
	for _, err := range []error{a.Up("none"), a.Down("none"), a.Addr("none", "198.51.100.9/28"), a.Addr("eth0", "nonsense"), a.Plug("none", "br0"), a.PlainFrames("none")} {
		if err == nil || !strings.Contains(err.Error(), a.Name) {
			t.Errorf("want an error that names the namespace, got %v", err)
		}
	}
}

// TestSwitch: three machines on a bridge, and what a route has for next hops.
func TestSwitch(t *testing.T) {
	sw := space(t, "sw", nil)
	must(t, sw.Bridge("br0", 1600))
	hosts := []*netns.Space{space(t, "h1", nil), space(t, "h2", nil)}
	for i, h := range hosts {
		port := fmt.Sprintf("p%d", i)
		must(t, netns.Veth(h, "eth0", sw, port, 1600), sw.Plug(port, "br0"), sw.PlainFrames(port),
			h.Addr("eth0", fmt.Sprintf("198.51.100.%d/28", i+1)), h.Default("198.51.100.14"))
	}
	trip(t, hosts[0], echo(t, hosts[1], "198.51.100.2:0"))
	for to, want := range map[string]int{"198.51.100.2": 1, "203.0.113.1": 0} { // the default route is none to it
		if n, err := hosts[0].NextHops(netip.MustParseAddr(to)); err != nil || n != want {
			t.Errorf("ways to %s: %d, %v, want %d", to, n, err, want)
		}
	}
}

func TestDelay(t *testing.T) {
	a, b := space(t, "a", nil), space(t, "b", nil)
	far := netip.MustParsePrefix("203.0.113.0/28")
	d, err := netns.NewDelay(a, "up0", b, "up0", 5*time.Millisecond, netns.Distance{Prefixes: []netip.Prefix{far}, OneWay: 40 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	must(t, a.Addr("up0", "198.51.100.1/30", "2001:db8:aa::1/64"), b.Addr("up0", "198.51.100.2/30", "2001:db8:aa::2/64", "203.0.113.1/32"),
		a.Default("198.51.100.2"))
	near, distant := echo(t, b, "198.51.100.2:0"), echo(t, b, "203.0.113.1:0")
	six := echo(t, b, "[2001:db8:aa::2]:0")
	for address, want := range map[string]time.Duration{near: 10 * time.Millisecond, distant: 80 * time.Millisecond, six: 10 * time.Millisecond} {
		if got := trip(t, a, address); got < want || got > want+20*time.Millisecond {
			t.Errorf("round trip to %s: %s, want %s", address, got, want)
		}
	}

	// What is lost between some is not lost between others.
	one := netip.MustParsePrefix("198.51.100.1/32")
	d.Lose(netns.Loss{A: []netip.Prefix{one}, B: []netip.Prefix{far}, Share: 1})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if c, err := a.Dial(ctx, "tcp", distant); err == nil {
		_ = c.Close()
		t.Error("all is lost, and arrives")
	}
	trip(t, a, near)
	d.Lose()
	trip(t, a, distant)
}

// TestLoss counts datagrams.
func TestLoss(t *testing.T) {
	a, b := space(t, "a", nil), space(t, "b", nil)
	d, err := netns.NewDelay(a, "up0", b, "up0", 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	must(t, a.Addr("up0", "198.51.100.1/30"), b.Addr("up0", "198.51.100.2/30"))
	var to *net.UDPConn
	must(t, b.Do(func() (err error) {
		to, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(198, 51, 100, 2)})
		return err
	}))
	defer func() { _ = to.Close() }()
	from, err := a.Dial(t.Context(), "udp4", to.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = from.Close() }()
	net4 := []netip.Prefix{netip.MustParsePrefix("198.51.100.0/30")}
	d.Lose(netns.Loss{A: net4, B: net4, Share: 0.5})
	const sent = 200 // all fit into the socket
	got := 0
	var buf [8]byte
	for range sent {
		if _, err := from.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	for {
		must(t, to.SetReadDeadline(time.Now().Add(2*time.Second)))
		if _, err := to.Read(buf[:]); err != nil {
			break
		}
		got++
	}
	if got < sent/2-42 || got > sent/2+42 { // 6 sigma
		t.Errorf("%d of %d arrived; half should be lost", got, sent)
	}
}

// TestDelete: nothing that runs inside outlives a namespace, whoever's child it
// is and whatever user it runs as.
func TestDelete(t *testing.T) {
	s := space(t, "a", nil)
	child := exec.Command("sleep", "600")
	must(t, s.Start(child))
	// A process that has another user loses its tie to its parent.
	other := exec.Command("sleep", "600")
	must(t, s.Do(func() error {
		other.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, Setpgid: true}
		return other.Start()
	}))
	outside := exec.Command("sleep", "600")
	must(t, outside.Start())
	defer func() { _, _ = outside.Process.Kill(), outside.Wait() }()

	must(t, netns.Delete(s.Name))
	for _, cmd := range []*exec.Cmd{child, other} {
		if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Errorf("a process inside: %v", err)
		}
	}
	if err := outside.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("a process outside: %v", err)
	}
	must(t, netns.Delete(s.Name)) // again
}
