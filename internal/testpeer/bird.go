package testpeer

import (
	"net/netip"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// A BIRD is a running BIRD 2.
type BIRD struct {
	process
	socket string
}

// StartBIRD runs BIRD with the configuration. For sessions on loopback say
// "local 127.0.0.2 port N as …; multihop; strict bind yes;" and have no kernel
// protocol.
func StartBIRD(tb testing.TB, conf string) *BIRD {
	tb.Helper()
	Need(tb, "bird", "birdc")
	dir := tb.TempDir()
	b := &BIRD{socket: filepath.Join(dir, "bird.ctl")}
	write(tb, filepath.Join(dir, "bird.conf"), conf)
	b.process = process{name: "bird", args: []string{
		"-f", "-c", filepath.Join(dir, "bird.conf"), "-s", b.socket, "-P", filepath.Join(dir, "bird.pid"),
	}}
	b.Start(tb)
	return b
}

// Start runs BIRD again after Kill or Stop, and waits until it answers.
func (b *BIRD) Start(tb testing.TB) {
	tb.Helper()
	b.start(tb)
	WaitFor(tb, "bird to answer", func() bool {
		if !b.running() {
			tb.Fatalf("bird ended by itself:\n%s", b.output)
		}
		return strings.Contains(b.ask(tb, "show status"), "Daemon is up")
	})
}

// Kill ends BIRD at once; the kernel closes its connections.
func (b *BIRD) Kill() { b.stop(syscall.SIGKILL) }

// Freeze lets BIRD do nothing until Thaw; the kernel still takes its bytes.
func (b *BIRD) Freeze() { b.signal(syscall.SIGSTOP) }

// Thaw ends Freeze.
func (b *BIRD) Thaw() { b.signal(syscall.SIGCONT) }

// Log is what BIRD has logged.
func (b *BIRD) Log() string { return b.output.String() }

// Ask returns birdc's answer to a command.
func (b *BIRD) Ask(tb testing.TB, command string) string {
	tb.Helper()
	return b.ask(tb, command)
}

func (b *BIRD) ask(tb testing.TB, command string) string {
	tb.Helper()
	args := append([]string{"-r", "-s", b.socket}, strings.Fields(command)...)
	if strings.HasPrefix(command, "disable") || strings.HasPrefix(command, "enable") {
		args = args[1:] // -r refuses what changes something
	}
	out, err := exec.CommandContext(tb.Context(), find("birdc"), args...).CombinedOutput()
	if err != nil {
		return ""
	}
	return string(out)
}

// Routes returns the routes that the named protocol learned, by prefix.
func (b *BIRD) Routes(tb testing.TB, protocol string) map[netip.Prefix]Route {
	tb.Helper()
	routes := make(map[netip.Prefix]Route)
	var at netip.Prefix
	for line := range strings.Lines(b.ask(tb, "show route all protocol "+protocol)) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if p, err := netip.ParsePrefix(fields[0]); err == nil {
			at = p
			routes[at] = Route{Prefix: at}
		} else if name, ok := strings.CutPrefix(fields[0], "BGP."); ok {
			r := routes[at]
			r.birdAttribute(strings.TrimSuffix(name, ":"), fields[1:])
			routes[at] = r
		}
	}
	return routes
}

var birdTuple = regexp.MustCompile(`\(([0-9, ]+)\)`)

// birdAttribute takes one "BGP.name: value" of birdc.
func (r *Route) birdAttribute(name string, value []string) {
	switch name {
	case "as_path":
		for _, v := range value {
			r.ASPath = append(r.ASPath, *parse32(v))
		}
	case "next_hop":
		r.NextHop, _ = netip.ParseAddr(value[0])
	case "med":
		r.MED = parse32(value[0])
	case "local_pref":
		r.LocalPref = parse32(value[0])
	case "community", "large_community":
		var list []string
		for _, m := range birdTuple.FindAllStringSubmatch(strings.Join(value, ""), -1) {
			list = append(list, strings.ReplaceAll(m[1], ",", ":"))
		}
		slices.Sort(list)
		if name == "community" {
			r.Communities = list
		} else {
			r.LargeCommunities = list
		}
	}
}

// parse32 reads a number; nil stands for no number.
func parse32(s string) *uint32 {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return new(uint32)
	}
	v := uint32(n)
	return &v
}
