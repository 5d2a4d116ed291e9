package dnsserver_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"anyedge/internal/dnsserver"
	"anyedge/internal/testpeer"
	"anyedge/internal/world"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testIP is this package's own, so that a port found free stays free.
const testIP = "127.0.73.1"

// A source says always the same.
type source struct {
	services []dnsserver.ServiceAnswer
	world    *world.World
}

func (s source) Services() []dnsserver.ServiceAnswer { return s.services }
func (s source) World() *world.World                 { return s.world }

// backends are healthy instances at these addresses; a leading ! marks an ill
// one.
func backends(at ...string) []dnsserver.Backend {
	var out []dnsserver.Backend
	for i, a := range at {
		text, ill := strings.CutPrefix(a, "!")
		out = append(out, dnsserver.Backend{Address: netip.MustParseAddrPort(text), Weight: uint16(i + 1), Healthy: !ill})
	}
	return out
}

// many are n instances of different addresses.
func many(n int) []dnsserver.Backend {
	var out []dnsserver.Backend
	for i := range n {
		ip := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
		out = append(out, dnsserver.Backend{Address: netip.AddrPortFrom(ip, 8080), Weight: 1, Healthy: true})
	}
	return out
}

// fleet is what the tests' server knows.
func fleet() source {
	at := time.Unix(1_800_000_000, 0)
	return source{
		services: []dnsserver.ServiceAnswer{
			{Name: "shop", Reported: true, Backends: backends("10.0.1.11:8080", "10.0.1.12:8081", "!10.0.1.13:8080", "[fd00::5]:9000")},
			{Name: "old", Reported: true, Backends: backends("!10.0.1.21:80")},
			{Name: "young", Backends: backends("!10.0.1.31:80")},
			{Name: "named", Reported: true, LeftOut: 2, Backends: backends("10.0.1.41:80")},
			{Name: "elsewhere", Reported: true, LeftOut: 1},
			{Name: "empty", Reported: true},
			{Name: "calls", Reported: true, Backends: backends("10.0.1.61:80"), Private: []netip.AddrPort{
				netip.MustParseAddrPort("10.0.1.2:8080"), netip.MustParseAddrPort("10.0.1.3:8080"), netip.MustParseAddrPort("[fd00::2]:8080"),
			}},
			{Name: "pair", Reported: true, Backends: backends("10.0.1.51:80", "10.0.1.51:81")},
			{Name: "wide", Reported: true, Backends: many(200)},
			{Name: "huge", Reported: true, Backends: many(3000)},
		},
		world: &world.World{
			At: at, Geo: "fra", Node: "fra-1",
			Geos: []world.Geo{
				{Name: "fra", Alive: true, Heard: at},
				{Name: "iad", Alive: true, Heard: at, RTT: 90_300 * time.Microsecond},
				{Name: "nrt", RTT: 230 * time.Millisecond, Heard: at.Add(-time.Hour)},
				{Name: "gru", Alive: true, Heard: at, RTT: 200 * time.Millisecond, Load: world.Load{ShedOut: 5}},
				{Name: "syd"},
			},
			Orders: []world.Order{{ID: "drain-geo-iad", Kind: world.DrainGeo, Target: "iad"}},
		},
	}
}

func logger(tb testing.TB) *slog.Logger {
	tb.Helper()
	return slog.New(slog.NewTextHandler(tb.Output(), nil))
}

func newServer(tb testing.TB, at string, src dnsserver.Source) *dnsserver.Server {
	tb.Helper()
	s, err := dnsserver.New(dnsserver.Config{Listen: at}, src, logger(tb))
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// serve runs a server until the test ends and returns its address.
func serve(t *testing.T, src dnsserver.Source) netip.AddrPort {
	t.Helper()
	for range 20 { // the port is free for TCP; for UDP with luck
		at := netip.AddrPortFrom(netip.MustParseAddr(testIP), testpeer.FreePort(t, testIP))
		err := serveAt(t, newServer(t, at.String(), src))
		if err == nil {
			return at
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatal(err)
		}
	}
	t.Fatal("no free port")
	panic("unreachable")
}

// serveAt runs s until the test ends; the error is why it could not start.
func serveAt(t *testing.T, s *dnsserver.Server) error {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- s.Run(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		cancel()
		return err
	}
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(testpeer.Patience):
			t.Error("the server does not end")
		}
	})
	return nil
}

var blanks = regexp.MustCompile(`[ \t]+`)

// dig asks with the real client; blanks of its output are single spaces.
func dig(t *testing.T, at netip.AddrPort, args ...string) string {
	t.Helper()
	testpeer.Need(t, "dig")
	args = append([]string{"-r", "@" + at.Addr().String(), "-p", fmt.Sprint(at.Port()), "+tries=3", "+time=10"}, args...)
	out, err := exec.CommandContext(t.Context(), "dig", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("dig %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return blanks.ReplaceAllString(string(out), " ")
}

// short asks and returns the lines of +short, sorted.
func short(t *testing.T, at netip.AddrPort, args ...string) []string {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(dig(t, at, append(args, "+short")...)), "\n")
	slices.Sort(lines)
	return lines
}

func TestBindErrors(t *testing.T) {
	l, err := net.Listen("tcp4", testIP+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	u, err := net.ListenPacket("udp4", testIP+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	for _, tt := range []struct {
		name, at string
		is       error
		want     string
	}{
		{"TCP in use", l.Addr().String(), syscall.EADDRINUSE, "another DNS server has it (ss -lntup 'sport = "},
		{"UDP in use", u.LocalAddr().String(), syscall.EADDRINUSE, "choose another address or port in node.dns.listen"},
		{"no such address", "10.255.254.253:5300", syscall.EADDRNOTAVAIL, "this machine has no address 10.255.254.253"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := newServer(t, tt.at, fleet()).Run(t.Context(), func() { t.Error("ready") })
			if !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %v and %q", err, tt.is, tt.want)
			}
		})
	}
}

// TestNoPrivilege: the tests' user may bind every port, so the kernel's word is
// made up.
func TestNoPrivilege(t *testing.T) {
	err := newServer(t, "127.0.0.1:53", fleet()).Explain(&net.OpError{Op: "listen", Net: "udp", Err: syscall.EACCES})
	if !errors.Is(err, syscall.EACCES) || !strings.Contains(err.Error(), "ports below 1024 need CAP_NET_BIND_SERVICE") {
		t.Errorf("got %v", err)
	}
}

func TestValidate(t *testing.T) {
	for _, tt := range []struct{ listen, want string }{
		{"10.0.1.2:53", ""},
		{"172.16.0.1:53", ""},
		{"192.168.1.1:5300", ""},
		{"127.0.0.1:53", ""},
		{"169.254.1.1:53", ""},
		{"[::1]:53", ""},
		{"[fd00::2]:53", ""},
		{"[fe80::1%eth0]:53", ""},
		{"[::ffff:10.0.1.2]:53", ""},
		{"", "listen is required"},
		{"10.0.1.2", "is not ADDRESS:PORT"},
		{":53", "is not ADDRESS:PORT"},
		{"edge:53", "is not ADDRESS:PORT"},
		{"10.0.1.2:0", "port 0"},
		{"0.0.0.0:53", "every address of this machine"},
		{"[::]:53", "every address of this machine"},
		{"203.0.113.10:53", "is a public address"},
		{"[2001:db8::1]:53", "is a public address"},
		{"100.64.0.1:53", "is a public address"},
		{"172.32.0.1:53", "is a public address"},
		{"224.0.0.251:5353", "is a public address"},
		{"[::ffff:203.0.113.10]:53", "is a public address"},
	} {
		err := dnsserver.Config{Listen: tt.listen}.Validate()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got %v, want %q", tt.listen, err, tt.want)
		}
		if _, nerr := dnsserver.New(dnsserver.Config{Listen: tt.listen}, fleet(), logger(t)); (nerr == nil) != (err == nil) {
			t.Errorf("%q: New says %v", tt.listen, nerr)
		}
	}
}
