package metal_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"anyedge/internal/lab"
	"anyedge/internal/lab/metal"
)

// app is an app's address of a geo.
func app(geo string) string {
	return map[string]string{"fra": "198.51.100.10:8080", "iad": "198.51.100.26:8080", "nrt": "198.51.100.42:8080"}[geo]
}

// handshake returns how long it takes to open a TCP connection from a machine:
// one round trip. It is the fastest of several, for the machine may be busy.
func handshake(t *testing.T, l *metal.Lab, machine, to string) time.Duration {
	t.Helper()
	best := time.Hour
	for range 5 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		begin := time.Now()
		c, err := l.Space(machine).Dial(ctx, "tcp", to)
		took := time.Since(begin)
		cancel()
		if err != nil {
			t.Fatalf("%s to %s: %v", machine, to, err)
		}
		_ = c.Close()
		best = min(best, took)
	}
	return best
}

// TestNetwork checks what the lab's network promises: distances, every protocol
// over both families, and ECMP by five-tuple.
func TestNetwork(t *testing.T) {
	l := up(t, metal.Options{Unlimited: true})
	t.Run("distances", func(t *testing.T) { distances(t, l) })
	t.Run("protocols", func(t *testing.T) { protocols(t, l) })
	within(t, 20*time.Second, "both edges of fra are next hops", func() bool { return paths(t, l) == 2 })
	for _, vip := range metal.VIPs() {
		t.Run("spread "+vip.String(), func(t *testing.T) { spread(t, l, vip) })
		t.Run("same flow "+vip.String(), func(t *testing.T) { sameFlow(t, l, vip) })
	}
}

func distances(t *testing.T, l *metal.Lab) {
	t.Helper()
	const slack = 15 * time.Millisecond
	vip4, vip6 := netip.AddrPortFrom(metal.VIPs()[0], 443).String(), netip.AddrPortFrom(metal.VIPs()[1], 443).String()
	for _, tt := range []struct {
		from, to string
		ms       int
	}{
		{"fra-edge1", app("iad"), 90},
		{"iad-edge1", app("nrt"), 150},
		{"fra-edge2", app("nrt"), 230},
		{"nrt-edge1", app("fra"), 230},
		{"fra-edge1", app("fra"), 0},
		{"client-eu", vip4, 10},
		{"client-eu", vip6, 10},
		{"client-asia", vip4, 10},
		{"client-asia", vip6, 10},
	} {
		want := time.Duration(tt.ms) * time.Millisecond
		if got := handshake(t, l, tt.from, tt.to); got < want || got > want+slack {
			t.Errorf("%s to %s: %s, want %s", tt.from, tt.to, got, want)
		}
	}
}

func protocols(t *testing.T, l *metal.Lab) {
	t.Helper()
	for _, r := range metal.Regions() {
		for _, vip := range metal.VIPs() {
			for _, p := range []lab.Protocol{lab.H1, lab.H2, lab.H3} {
				c := l.Client(r.Name, vip, p)
				answer := c.Get(t.Context(), "/")
				c.Close()
				if answer.Err != nil || answer.Entered() != r.Nearest[0] {
					t.Errorf("%s %s %s: entered %q, %v; want %s", r.Name, vip, p, answer.Entered(), answer.Err, r.Nearest[0])
				}
			}
		}
	}
}

// takes tells which edge of fra has the connection of a client.
func takes(t *testing.T, l *metal.Lab, client netip.AddrPort) string {
	t.Helper()
	var found string
	within(t, 10*time.Second, "an edge has the connection", func() bool {
		for _, name := range []string{"fra-edge1", "fra-edge2"} {
			if has(t, l, name, client) {
				found = name
				return true
			}
		}
		return false
	})
	return found
}

// has reports whether a machine has an established connection with a client.
func has(t *testing.T, l *metal.Lab, machine string, client netip.AddrPort) bool {
	t.Helper()
	file, remote := "tcp", kernelAddr(client)
	if client.Addr().Is6() {
		file = "tcp6"
	}
	var text []byte
	err := l.Space(machine).Do(func() (err error) {
		text, err = os.ReadFile("/proc/thread-self/net/" + file)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 3 && f[2] == remote && f[3] == "01" {
			return true
		}
	}
	return false
}

// kernelAddr writes an address as /proc/net/tcp does: words of four bytes, each
// the other way round.
func kernelAddr(a netip.AddrPort) string {
	var b strings.Builder
	raw := a.Addr().AsSlice()
	for i := 0; i < len(raw); i += 4 {
		fmt.Fprintf(&b, "%02X%02X%02X%02X", raw[i+3], raw[i+2], raw[i+1], raw[i])
	}
	fmt.Fprintf(&b, ":%04X", a.Port())
	return b.String()
}

// dial opens a connection from a port of a client in eu, 0 for any.
func dial(t *testing.T, l *metal.Lab, vip netip.Addr, port int) *net.TCPConn {
	t.Helper()
	source := "198.18.0.2"
	if vip.Is6() {
		source = "2001:db8:c1::2"
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var c net.Conn
	err := l.Space("client-eu").Do(func() (err error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source), Port: port}}
		c, err = d.DialContext(ctx, "tcp", netip.AddrPortFrom(vip, 443).String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	tcp := c.(*net.TCPConn)
	if err := tcp.SetLinger(0); err != nil { // its port is free at once
		t.Fatal(err)
	}
	return tcp
}

func localOf(c net.Conn) netip.AddrPort { return c.LocalAddr().(*net.TCPAddr).AddrPort() }

// spread: the router gives each edge its share of connections.
func spread(t *testing.T, l *metal.Lab, vip netip.Addr) {
	t.Helper()
	const flows = 100
	count := map[string]int{}
	for range flows {
		c := dial(t, l, vip, 0)
		count[takes(t, l, localOf(c))]++
		_ = c.Close()
	}
	t.Logf("of %d connections: %v", flows, count)
	for _, name := range []string{"fra-edge1", "fra-edge2"} {
		if count[name] < flows/5 { // 6 sigma
			t.Errorf("%s got %d of %d connections", name, count[name], flows)
		}
	}
}

// sameFlow: the same five-tuple goes to the same edge every time.
func sameFlow(t *testing.T, l *metal.Lab, vip netip.Addr) {
	t.Helper()
	for port := 20000; port < 20006; port++ {
		first := ""
		for range 4 {
			c := dial(t, l, vip, port)
			edge := takes(t, l, localOf(c))
			_ = c.Close()
			if first == "" {
				first = edge
			}
			if edge != first {
				t.Errorf("port %d went to %s, then to %s", port, first, edge)
			}
			within(t, 10*time.Second, "the connection is gone", func() bool {
				return !has(t, l, edge, netip.AddrPortFrom(localOf(c).Addr(), uint16(port)))
			})
		}
	}
}
