package host_test

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anyedge/internal/host"
	"anyedge/internal/testpeer"
)

// A keeper is Addresses at work.
type keeper struct {
	*host.Addresses
	dir  string
	stop func()

	mu     sync.Mutex
	events []string
}

// keep runs Addresses until stop is called or the test ends.
func keep(t *testing.T, dir string, want ...string) *keeper {
	t.Helper()
	k := &keeper{dir: dir}
	setup := host.AddressSetup{StateDir: dir, OnEvent: func(e host.AddressEvent) {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.events = append(k.events, e.Address.String()+" "+e.Text)
	}}
	for _, a := range want {
		setup.Want = append(setup.Want, netip.MustParseAddr(a))
	}
	k.Addresses = host.NewAddresses(setup, slog.New(slog.NewTextHandler(t.Output(), nil)))
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- k.Run(ctx, func() { close(ready) }) }()
	k.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(k.stop)
	select {
	case <-ready:
	case err := <-ended:
		ended <- nil
		t.Fatal(err)
	}
	return k
}

// states are what Status says, in one line.
func (k *keeper) states() string {
	var out []string
	for _, s := range k.Status() {
		out = append(out, string(s.State))
	}
	return strings.Join(out, " ")
}

func (k *keeper) heard(event string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Contains(k.events, event)
}

func (k *keeper) forgetEvents() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.events = nil
}

// onLo reports whether lo has an address.
func onLo(t *testing.T, address string) bool {
	t.Helper()
	return strings.Contains(ip(t, "address show dev lo"), " "+address+"/")
}

func TestAddresses(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	dir := t.TempDir()
	ledger := filepath.Join(dir, host.LedgerName)
	ip(t, "address add 198.51.100.1/32 dev lo")
	k := keep(t, dir, "203.0.113.10", "2001:db8::10", "198.51.100.1", "127.0.0.5")
	if got := k.states(); got != "added added there there" {
		t.Errorf("states: %s; %+v", got, k.Status())
	}
	six := ip(t, "-o -6 address show dev lo")
	if i := strings.Index(six, "2001:db8::10/128"); i < 0 || !strings.Contains(six[i:], "deprecated") || !strings.Contains(six[i:], "nodad") {
		t.Errorf("IPv6 on lo:\n%s", six)
	}
	if routes := ip(t, "-6 route show"); strings.Contains(routes, "2001:db8::10") {
		t.Errorf("a route to a prefix:\n%s", routes)
	}
	if b, err := os.ReadFile(ledger); err != nil || strings.Count(string(b), `"address"`) != 2 {
		t.Errorf("the ledger: %v\n%s", err, b)
	}

	t.Run("somebody removes one", func(t *testing.T) {
		for _, a := range []string{"203.0.113.10/32", "2001:db8::10/128"} {
			ip(t, "address del "+a+" dev lo")
			testpeer.WaitFor(t, a+" to be back", func() bool { return onLo(t, strings.Split(a, "/")[0]) })
			testpeer.WaitFor(t, "the event", func() bool { return k.heard(strings.Split(a, "/")[0] + " removed by somebody; added to lo again") })
		}
	})
	t.Run("lo goes down and up", func(t *testing.T) {
		const six = "2001:db8::10"
		k.forgetEvents()
		ip(t, "link set lo down") // takes IPv6 addresses off
		testpeer.WaitFor(t, "the event", func() bool { return k.heard(six + " removed by somebody; added to lo again") })
		ip(t, "link set lo up")
		testpeer.WaitFor(t, "all to be well", func() bool { return onLo(t, six) && strings.HasPrefix(k.states(), "added added") })
		if local, err := host.IsLocal(netip.MustParseAddr(six)); err != nil || !local {
			t.Errorf("IPv6 is local: %t, %v", local, err)
		}
	})
	t.Run("somebody removes one again and again", func(t *testing.T) {
		const four = "203.0.113.10"
		k.forgetEvents()
		testpeer.WaitFor(t, "it to be left alone", func() bool {
			if onLo(t, four) {
				ip(t, "address del "+four+"/32 dev lo")
			}
			return k.heard(four + " somebody removes it again and again; find out who (ip monitor address)")
		})
		testpeer.WaitFor(t, "it to be back", func() bool { return onLo(t, four) && strings.HasPrefix(k.states(), "added") })
	})
	t.Run("an adopted one", func(t *testing.T) {
		ip(t, "address del 198.51.100.1/32 dev lo")
		testpeer.WaitFor(t, "it to be added", func() bool { return k.states() == "added added added there" })
	})
	t.Run("the state directory is taken", func(t *testing.T) {
		other := host.NewAddresses(host.AddressSetup{StateDir: dir}, slog.New(slog.DiscardHandler))
		if err := other.Run(t.Context(), func() {}); err == nil || !strings.Contains(err.Error(), "in use by another edged") {
			t.Error(err)
		}
		if _, err := host.Cleanup(dir, false); err == nil || !strings.Contains(err.Error(), "in use by another edged") {
			t.Error(err)
		}
	})
	k.stop()
	for _, a := range []string{"203.0.113.10", "2001:db8::10", "198.51.100.1"} {
		if onLo(t, a) {
			t.Errorf("%s is still on lo", a)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left in the state directory: %v, %v", entries, err)
	}
}

// What others added stays, also where it is what was wanted.
func TestAddressesAdopted(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	dir := t.TempDir()
	ip(t, "address add 203.0.113.10/32 dev lo")
	ip(t, "route add local 203.0.113.64/26 dev lo")
	k := keep(t, dir, "203.0.113.10", "203.0.113.65")
	if got := k.states(); got != "there there" {
		t.Errorf("states: %s; %+v", got, k.Status())
	}
	k.stop()
	if !onLo(t, "203.0.113.10") {
		t.Error("the address is gone")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("in the state directory: %v, %v", entries, err)
	}
}

// What a killed process left behind is known to the next one.
func TestLedger(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	dir := t.TempDir()
	file := filepath.Join(dir, host.LedgerName)
	k := keep(t, dir, "203.0.113.10", "203.0.113.11", "2001:db8::10")
	left, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	k.stop()
	leave := func(t *testing.T, ledger string) {
		t.Helper()
		for _, a := range []string{"203.0.113.10/32", "203.0.113.11/32", "2001:db8::10/128"} {
			ip(t, "address replace "+a+" dev lo")
		}
		if err := os.WriteFile(file, []byte(ledger), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	t.Run("the next one owns it", func(t *testing.T) {
		leave(t, string(left))
		k := keep(t, dir, "203.0.113.10", "2001:db8::10")
		if got := k.states(); got != "added added" || onLo(t, "203.0.113.11") {
			t.Errorf("states %s; what is not wanted any more: %t", got, onLo(t, "203.0.113.11"))
		}
		k.stop()
		if onLo(t, "203.0.113.10") || onLo(t, "2001:db8::10") {
			t.Error("an address stays")
		}
	})
	t.Run("cleanup", func(t *testing.T) {
		leave(t, string(left))
		for _, dry := range []bool{true, false} {
			traces, err := host.Cleanup(dir, dry)
			if err != nil || len(traces) != 3 || traces[0] != (host.Trace{What: "address 203.0.113.10/32 on lo"}) {
				t.Errorf("dry %t: %v, %v", dry, traces, err)
			}
			if got := onLo(t, "203.0.113.10") && onLo(t, "2001:db8::10"); got != dry {
				t.Errorf("dry %t: the addresses are there: %t", dry, got)
			}
		}
		if traces, err := host.Cleanup(dir, false); err != nil || len(traces) != 0 {
			t.Errorf("once more: %v, %v", traces, err)
		}
		if _, err := os.Stat(file); err == nil {
			t.Error("the ledger stays")
		}
	})
	t.Run("of another boot", func(t *testing.T) {
		leave(t, strings.ReplaceAll(string(left), `"boot": "`, `"boot": "0`))
		if traces, err := host.Cleanup(dir, false); err != nil || len(traces) != 0 || !onLo(t, "203.0.113.10") {
			t.Errorf("%v, %v", traces, err)
		}
	})
	t.Run("of another namespace", func(t *testing.T) {
		n := newNeighbor(t, "v0", "v1")
		netns, err := os.Readlink("/proc/" + n.pid + "/ns/net")
		if err != nil {
			t.Fatal(err)
		}
		mine, err := os.Readlink("/proc/self/ns/net")
		if err != nil {
			t.Fatal(err)
		}
		number := func(s string) string { return strings.Trim(s, "net:[]") }
		leave(t, strings.ReplaceAll(string(left), number(mine), number(netns)))
		traces, err := host.Cleanup(dir, false)
		if err != nil || len(traces) != 3 || traces[0].Err == nil || !strings.Contains(traces[0].Err.Error(), netns) || !onLo(t, "203.0.113.10") {
			t.Errorf("%v, %v", traces, err)
		}
	})
	t.Run("not readable", func(t *testing.T) {
		leave(t, "{]")
		_, err := host.Cleanup(dir, false)
		if err == nil || !strings.Contains(err.Error(), "look at `ip address show dev lo`") {
			t.Error(err)
		}
		k := keep(t, dir, "203.0.113.10", "203.0.113.12")
		if got := k.states(); got != "there added" {
			t.Errorf("states: %s", got)
		}
		k.stop()
		if _, err := os.Stat(file + ".bad"); err != nil || !onLo(t, "203.0.113.10") || onLo(t, "203.0.113.12") {
			t.Errorf("put aside: %v; the old one is there: %t, the new one: %t", err, onLo(t, "203.0.113.10"), onLo(t, "203.0.113.12"))
		}
	})
}

func TestCleanupOfNothing(t *testing.T) {
	t.Parallel()
	if traces, err := host.Cleanup(filepath.Join(t.TempDir(), "none"), false); err != nil || traces != nil {
		t.Error(traces, err)
	}
}

// An address that another host on the segment has is left to it, until it gives
// it up.
func TestAddressesOfAnotherHost(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	n := newNeighbor(t, "v0", "v1")
	ip(t, "address add 192.0.2.1/24 dev v0")
	ip(t, "address add 2001:db8:1::1/64 dev v0 nodad")
	n.ip(t, "address add 192.0.2.2/24 dev v1")
	n.ip(t, "address add 192.0.2.10/32 dev v1")
	n.ip(t, "address add 2001:db8:1::10/64 dev v1 nodad")
	k := keep(t, t.TempDir(), "192.0.2.10", "2001:db8:1::10", "192.0.2.11", "2001:db8:1::11", "203.0.113.10")
	if got := k.states(); got != "foreign foreign added added added" {
		t.Errorf("states: %s", got)
	}
	for _, s := range k.Status()[:2] {
		if want := n.mac(t, "v1") + " on v0 answers for it: "; !strings.HasPrefix(s.Text, want) {
			t.Errorf("%q, want %q…", s.Text, want)
		}
		if !k.heard(s.Address.String() + " " + s.Text) {
			t.Errorf("no event about %s", s.Address)
		}
	}
	if onLo(t, "192.0.2.10") || onLo(t, "2001:db8:1::10") {
		t.Error("an address of another host is on lo")
	}
	n.ip(t, "address del 192.0.2.10/32 dev v1")
	n.ip(t, "address del 2001:db8:1::10/64 dev v1")
	testpeer.WaitFor(t, "the addresses to be free", func() bool { return k.states() == "added added added added added" })

	// Who has them now is found by the same question from there.
	owner, err := host.FindOwner(t.Context(), netip.MustParseAddr("192.0.2.2"))
	if err != nil || owner == nil || owner.MAC.String() != n.mac(t, "v1") || owner.Interface != "v0" {
		t.Errorf("the owner of 192.0.2.2: %+v, %v", owner, err)
	}
	for _, free := range []string{"192.0.2.77", "2001:db8:1::77", "203.0.113.77"} {
		if owner, err := host.FindOwner(t.Context(), netip.MustParseAddr(free)); err != nil || owner != nil {
			t.Errorf("the owner of %s: %+v, %v", free, owner, err)
		}
	}
}

// Questions are the ones of the standards, byte by byte.
func TestQuestions(t *testing.T) {
	t.Parallel()
	mac := []byte{2, 0, 0, 0, 0, 1}
	want := []byte{0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 192, 0, 2, 10}
	if d := cmp.Diff(want, host.ArpProbe(mac, netip.MustParseAddr("192.0.2.10"))); d != "" {
		t.Errorf("ARP (-want +got):\n%s", d)
	}
	packet, to := host.Solicitation(netip.MustParseAddr("2001:db8::1:2345:6789"))
	if to.String() != "33:33:ff:45:67:89" || netip.AddrFrom16([16]byte(packet[24:40])).String() != "ff02::1:ff45:6789" {
		t.Errorf("to %s: % x", to, packet)
	}
	if host.Checksum6(packet) != 0 { // over its own checksum
		t.Errorf("checksum: % x", packet)
	}
}

func FuzzAnswers(f *testing.F) {
	four, six := netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8::10")
	f.Add(host.ArpProbe([]byte{2, 0, 0, 0, 0, 1}, four))
	solicit, _ := host.Solicitation(six)
	f.Add(solicit)
	advertise := append(slices.Clone(solicit), 2, 1, 2, 0, 0, 0, 0, 1)
	advertise[40] = 136
	f.Add(advertise)
	f.Fuzz(func(t *testing.T, b []byte) {
		if mac, ok := host.ParseARP(b, four); ok && len(mac) != 6 {
			t.Errorf("ARP: %s", mac)
		}
		if mac, ok := host.ParseAdvertisement(b, six); ok && len(mac) != 0 && len(mac) != 6 {
			t.Errorf("advertisement: %s", mac)
		}
	})
}
