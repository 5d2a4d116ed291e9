package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"anyedge/internal/testpeer"
)

// A machine is a network namespace that processes run in.
type machine struct{ pid string }

// newMachine makes a namespace with lo alone, which is up.
func newMachine(t *testing.T) machine {
	t.Helper()
	testpeer.NeedRoot(t)
	testpeer.Need(t, "ip", "nsenter", "cat")
	cmd := exec.CommandContext(t.Context(), "cat")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	open, err := cmd.StdinPipe() // its end is cat's
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = open.Close(); _ = cmd.Wait() })
	m := machine{strconv.Itoa(cmd.Process.Pid)}
	m.ip(t, "link set lo up")
	return m
}

// run runs a command on the machine to its end.
func (m machine) run(t *testing.T, args ...string) ran {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "nsenter", append([]string{"-t", m.pid, "-n", "--"}, args...)...)
	cmd.Env = append(os.Environ(), "EDGED_CONFIG=")
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatalf("%v: %v", args, err)
	}
	return ran{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// ip runs ip(8), which must succeed.
func (m machine) ip(t *testing.T, words string) string {
	t.Helper()
	got := m.run(t, append([]string{"ip"}, strings.Fields(words)...)...)
	if got.code != 0 {
		t.Fatalf("ip %s: %+v", words, got)
	}
	return got.stdout
}

// onLo reports whether the machine's lo has an address.
func (m machine) onLo(t *testing.T, address string) bool {
	t.Helper()
	return strings.Contains(m.ip(t, "address show dev lo"), " "+address+"/")
}

// wantServed asks a listener for a page.
func (m machine) wantServed(t *testing.T, host string) {
	t.Helper()
	if got := m.run(t, "curl", "-sS", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", "http://"+host+"/"); got.stdout != "502" && got.stdout != "503" {
		t.Errorf("%s: %+v", host, got)
	}
}

// vipsConfig has two VIPs, one of them in the machine's own subnet.
const vipsConfig = `
vips:
  - {name: www, prefixes: [203.0.113.0/24, "2001:db8:cafe::/48"], addresses: [203.0.113.10, "2001:db8:cafe::10"]}
  - {name: api, prefixes: [192.0.2.0/24], addresses: [192.0.2.10]}
listeners:
  - {name: www, vips: [www], port: 80}
  - {name: both, vips: [www, api], port: 8080}
` + aService

func TestVIPsOnLo(t *testing.T) {
	t.Parallel()
	testpeer.Need(t, "curl")
	m := newMachine(t)
	dir := t.TempDir()
	file := setUp(t, dir, vipsConfig+fmt.Sprintf("l4: {mode: off, pins: %s}\n", filepath.Join(dir, "pins")))
	cleanup := func(args ...string) ran {
		return m.run(t, append([]string{edgedBinary, "cleanup", "--config", file}, args...)...)
	}
	all := []string{"203.0.113.10", "2001:db8:cafe::10", "192.0.2.10"}
	wantOnLo := func(when string, want bool) {
		t.Helper()
		for _, a := range all {
			if got := m.onLo(t, a); got != want {
				t.Errorf("%s: %s is on lo: %t, want %t", when, a, got, want)
			}
		}
	}

	d := startWith(t, dir, "nsenter", "-t", m.pid, "-n", "--", edgedBinary, "--config", file)
	wantOnLo("while it runs", true)
	for _, host := range []string{"203.0.113.10", "[2001:db8:cafe::10]", "192.0.2.10:8080"} {
		m.wantServed(t, host)
	}
	if got := cleanup(); got.code != 1 || !strings.Contains(got.stderr, "an edged runs (it answers at ") || !m.onLo(t, "192.0.2.10") {
		t.Errorf("cleanup beside it: %+v", got)
	}
	m.ip(t, "address del 203.0.113.10/32 dev lo")
	testpeer.WaitFor(t, "the address to be back", func() bool { return m.onLo(t, "203.0.113.10") })
	events, err := d.admin.Events(t.Context(), 0, time.Time{}, 0)
	if err != nil || !strings.Contains(fmt.Sprint(events), "203.0.113.10 removed by somebody; added to lo again") {
		t.Errorf("events: %v, %v", events, err)
	}
	d.kill()
	wantOnLo("after SIGKILL", true)

	// The next one knows them, and takes them away when it ends in peace.
	d = startWith(t, dir, "nsenter", "-t", m.pid, "-n", "--", edgedBinary, "--config", file)
	d.signal(t, syscall.SIGINT)
	d.wantEnd(t)
	wantOnLo("after a stop", false)

	// After another SIGKILL, cleanup takes them away.
	startWith(t, dir, "nsenter", "-t", m.pid, "-n", "--", edgedBinary, "--config", file).kill()
	if got := cleanup("--dry-run"); got.code != 0 || strings.Count(got.stdout, " on lo would be removed\n") != 3 {
		t.Errorf("cleanup --dry-run: %+v", got)
	}
	wantOnLo("after --dry-run", true)
	if got := cleanup(); got.code != 0 || strings.Count(got.stdout, " on lo removed\n") != 3 || got.stderr != "" {
		t.Errorf("cleanup: %+v", got)
	}
	wantOnLo("after cleanup", false)
	if got := cleanup(); got.code != 0 || got.stdout != "nothing of edged is left on this machine\n" {
		t.Errorf("cleanup once more: %+v", got)
	}
}

// Another host has one VIP's address: the other VIP is served.
func TestVIPOfAnotherHost(t *testing.T) {
	t.Parallel()
	testpeer.Need(t, "curl")
	m, other := newMachine(t), newMachine(t)
	m.ip(t, "link add v0 type veth peer name v1 netns "+other.pid)
	m.ip(t, "address add 192.0.2.1/24 dev v0")
	m.ip(t, "link set v0 up")
	other.ip(t, "link set v1 up")
	other.ip(t, "address add 192.0.2.10/24 dev v1")
	dir := t.TempDir()
	file := setUp(t, dir, vipsConfig)

	got := m.run(t, edgedBinary, "doctor", "--config", file, "--only", "ports")
	if got.code != 1 || !strings.Contains(got.stdout, "FAIL  VIP api: another host, ") || !strings.Contains(got.stdout, " on v0, answers for 192.0.2.10. Fix: take the address away there") ||
		!strings.Contains(got.stdout, "203.0.113.10:80/tcp (listener www) is free; edged adds the address to lo") {
		t.Errorf("doctor: %+v", got)
	}

	d := startWith(t, dir, "nsenter", "-t", m.pid, "-n", "--", edgedBinary, "--config", file)
	m.wantServed(t, "203.0.113.10")
	m.wantServed(t, "203.0.113.10:8080")
	if m.onLo(t, "192.0.2.10") {
		t.Error("the other host's address is on lo")
	}
	if n := strings.Count(d.log.String(), "VIP address is another host's"); n != 1 {
		t.Errorf("it is told %d times", n)
	}
	status, err := d.admin.Status(t.Context())
	if err != nil || !strings.Contains(fmt.Sprint(status), "listener both waits for [192.0.2.10:8080]") {
		t.Errorf("status: %+v, %v", status, err)
	}
	other.ip(t, "address del 192.0.2.10/24 dev v1")
	testpeer.WaitFor(t, "the address to be taken", func() bool { return m.onLo(t, "192.0.2.10") })
	testpeer.WaitFor(t, "the listener to be bound", func() bool {
		return m.run(t, "curl", "-sS", "-m", "10", "-o", "/dev/null", "http://192.0.2.10:8080/").code == 0
	})
}

// Who may not add addresses is told how, and serves what there is.
func TestVIPsWithoutPrivilege(t *testing.T) {
	t.Parallel()
	testpeer.Need(t, "curl", "setpriv")
	m := newMachine(t)
	m.ip(t, "address add 203.0.113.10/32 dev lo")
	m.ip(t, "address add 2001:db8:cafe::10/128 dev lo")
	dir := t.TempDir()
	file := setUp(t, dir, vipsConfig)
	d := startWith(t, dir, "nsenter", "-t", m.pid, "-n", "--", "setpriv", "--bounding-set=-net_admin", "--", edgedBinary, "--config", file)
	m.wantServed(t, "203.0.113.10")
	const want = "edged may not add it; as root: ip address add 192.0.2.10/32 dev lo, or give edged CAP_NET_ADMIN"
	if n := strings.Count(d.log.String(), want); n != 1 {
		t.Errorf("it says %d times %q", n, want)
	}
	testpeer.WaitFor(t, "the VIP's gate to tell", func() bool {
		r, err := d.admin.Routes(t.Context())
		return err == nil && strings.Contains(fmt.Sprintf("%+v", r), want)
	})
	m.ip(t, "address add 192.0.2.10/32 dev lo")
	testpeer.WaitFor(t, "the listener to be bound", func() bool {
		return m.run(t, "curl", "-sS", "-m", "10", "-o", "/dev/null", "http://192.0.2.10:8080/").code == 0
	})
	d.signal(t, syscall.SIGINT)
	d.wantEnd(t)
	for _, a := range []string{"203.0.113.10", "192.0.2.10"} {
		if !m.onLo(t, a) {
			t.Errorf("%s, which somebody else added, is gone", a)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "state", "addresses.json")); err == nil {
		t.Error("there is a ledger of nothing")
	}
}

// Addresses of loopback are there: nothing is changed, remembered or locked,
// and no privilege is needed.
func TestVIPsOfLoopback(t *testing.T) {
	t.Parallel()
	testpeer.Need(t, "setpriv", "curl")
	m := newMachine(t)
	dir := t.TempDir()
	file := setUp(t, dir, `
vips: [{name: www, prefixes: [127.0.77.0/24], addresses: [127.0.77.1]}]
listeners: [{name: www, vips: [www], port: 8080}]
`+aService)
	before := m.ip(t, "address show")
	d := startWith(t, dir, "nsenter", "-t", m.pid, "-n", "--", "setpriv", "--bounding-set=-all", "--", edgedBinary, "--config", file)
	m.wantServed(t, "127.0.77.1:8080")
	if after := m.ip(t, "address show"); after != before {
		t.Errorf("before:\n%s\nwhile it runs:\n%s", before, after)
	}
	d.signal(t, syscall.SIGINT)
	d.wantEnd(t)
	if strings.Contains(d.log.String(), "VIP address") {
		t.Error("it speaks of addresses")
	}
	if _, err := os.Stat(filepath.Join(dir, "state", "addresses.json")); err == nil {
		t.Error("there is a ledger of nothing")
	}
}
