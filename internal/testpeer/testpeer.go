// Package testpeer starts real peers for tests: BIRD, FRR and ExaBGP, each on
// loopback addresses and unprivileged ports, none of them near the kernel's
// routing tables.
//
// A test says what it needs with [Need]: a program that is missing skips it,
// unless EDGE_TEST_STRICT=1, which makes it fail.
package testpeer

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Patience is how long WaitFor waits: a loaded machine with two cores is slow.
const Patience = 60 * time.Second

// Unavailable skips the test for the given reason, or fails it when
// EDGE_TEST_STRICT=1.
func Unavailable(tb testing.TB, reason string) {
	tb.Helper()
	if os.Getenv("EDGE_TEST_STRICT") == "1" {
		tb.Fatalf("%s (EDGE_TEST_STRICT=1)", reason)
	}
	tb.Skip(reason)
}

// Need makes sure that the programs are installed. Each is a name, searched in
// PATH and where Debian puts daemons, or a path.
func Need(tb testing.TB, programs ...string) {
	tb.Helper()
	for _, p := range programs {
		if find(p) == "" {
			Unavailable(tb, p+" is not installed")
		}
	}
}

// NeedRoot makes sure that the test runs as root.
func NeedRoot(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() != 0 {
		Unavailable(tb, "needs root")
	}
}

// find returns the path of a program, "" when there is none.
func find(program string) string {
	for _, p := range []string{program, filepath.Join("/usr/sbin", program), filepath.Join("/usr/lib/frr", program)} {
		if path, err := exec.LookPath(p); err == nil {
			return path
		}
	}
	return ""
}

// WaitFor waits until cond holds, and fails the test when it does not within
// Patience.
func WaitFor(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	late := time.NewTimer(Patience)
	defer late.Stop()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for !cond() {
		select {
		case <-poll.C:
		case <-late.C:
			tb.Fatalf("waited %s in vain for: %s", Patience, what)
		case <-tb.Context().Done():
			tb.Fatalf("test ended while waiting for: %s", what)
		}
	}
}

// FreePort returns a TCP port that nothing listens on at addr right now.
func FreePort(tb testing.TB, addr string) uint16 {
	tb.Helper()
	var lc net.ListenConfig
	ln, err := lc.Listen(tb.Context(), "tcp", net.JoinHostPort(addr, "0"))
	if err != nil {
		tb.Fatalf("free port: %v", err)
	}
	defer func() { _ = ln.Close() }()
	return netip.MustParseAddrPort(ln.Addr().String()).Port()
}

// A Route is a BGP route as a peer shows it, in the peer's words.
type Route struct {
	Prefix           netip.Prefix
	NextHop          netip.Addr
	ASPath           []uint32
	Communities      []string // ASN:VALUE
	LargeCommunities []string // ASN:A:B
	MED              *uint32
	LocalPref        *uint32
}

// process is a running peer.
type process struct {
	name string
	args []string
	env  []string

	mu     sync.Mutex // guards cmd and exited
	cmd    *exec.Cmd
	exited chan struct{}
	output *lockedBuffer
}

// start runs the process until the test ends or stop is called.
func (p *process) start(tb testing.TB) {
	tb.Helper()
	// Not CommandContext: the peer shall outlive the test's context, so that
	// cleanups still have it.
	cmd := exec.Command(find(p.name), p.args...) //nolint:noctx // see above
	cmd.Env = append(os.Environ(), p.env...)
	if p.output == nil {
		p.output = &lockedBuffer{}
	}
	cmd.Stdout, cmd.Stderr = p.output, p.output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		tb.Fatalf("start %s: %v", p.name, err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	p.mu.Lock()
	p.cmd, p.exited = cmd, exited
	p.mu.Unlock()
	tb.Cleanup(func() {
		p.stop(syscall.SIGKILL)
		if tb.Failed() {
			tb.Logf("%s said:\n%s", p.name, p.output)
		}
	})
}

// stop ends the process and its children with sig, and waits until it is gone.
func (p *process) stop(sig syscall.Signal) {
	p.signal(sig)
	p.mu.Lock()
	exited := p.exited
	p.mu.Unlock()
	<-exited
}

// signal sends sig to the process and its children, if it still runs.
func (p *process) signal(sig syscall.Signal) {
	if !p.running() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := syscall.Kill(-p.cmd.Process.Pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		_ = p.cmd.Process.Signal(sig)
	}
}

// running reports whether the process has not ended.
func (p *process) running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// write puts a configuration file beside the peer's other files.
func write(tb testing.TB, path, text string) {
	tb.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil { //nolint:gosec // daemons that drop their privileges read it
		tb.Fatal(err)
	}
}

// lockedBuffer is a bytes.Buffer for several goroutines.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
