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
func Unavailable(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("EDGE_TEST_STRICT") == "1" {
		t.Fatalf("%s (EDGE_TEST_STRICT=1)", reason)
	}
	t.Skip(reason)
}

// Need makes sure that the programs are installed. Each is a name, searched in
// PATH and where Debian puts daemons, or a path.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if find(p) == "" {
			Unavailable(t, p+" is not installed")
		}
	}
}

// NeedRoot makes sure that the test runs as root.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Unavailable(t, "needs root")
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
func WaitFor(t testing.TB, what string, cond func() bool) {
	t.Helper()
	late := time.NewTimer(Patience)
	defer late.Stop()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for !cond() {
		select {
		case <-poll.C:
		case <-late.C:
			t.Fatalf("waited %s in vain for: %s", Patience, what)
		case <-t.Context().Done():
			t.Fatalf("test ended while waiting for: %s", what)
		}
	}
}

// FreePort returns a TCP port that nothing listens on at addr right now.
func FreePort(t testing.TB, addr string) uint16 {
	t.Helper()
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", net.JoinHostPort(addr, "0"))
	if err != nil {
		t.Fatalf("free port: %v", err)
	}
	defer ln.Close()
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
func (p *process) start(t testing.TB) {
	t.Helper()
	// Not CommandContext: the peer shall outlive the test's context, so that
	// cleanups still have it.
	cmd := exec.Command(find(p.name), p.args...) //nolint:gosec,noctx // a test starts what it names
	cmd.Env = append(os.Environ(), p.env...)
	if p.output == nil {
		p.output = &lockedBuffer{}
	}
	cmd.Stdout, cmd.Stderr = p.output, p.output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", p.name, err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	p.mu.Lock()
	p.cmd, p.exited = cmd, exited
	p.mu.Unlock()
	t.Cleanup(func() {
		p.stop(syscall.SIGKILL)
		if t.Failed() {
			t.Logf("%s said:\n%s", p.name, p.output)
		}
	})
}

// stop ends the process and its children with sig, and waits until it is gone.
func (p *process) stop(sig syscall.Signal) {
	p.mu.Lock()
	cmd, exited := p.cmd, p.exited
	p.mu.Unlock()
	select {
	case <-exited:
		return
	default:
	}
	if err := syscall.Kill(-cmd.Process.Pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		_ = cmd.Process.Kill()
	}
	<-exited
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
func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil { //nolint:gosec // daemons that drop their privileges read it
		t.Fatal(err)
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
