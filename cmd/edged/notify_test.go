package main_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	main "anyedge/cmd/edged"
	"anyedge/internal/testpeer"
)

// A manager is what a service manager hears of a daemon.
type manager struct {
	socket string // as in NOTIFY_SOCKET

	mu    sync.Mutex
	words []string // assignments, in order
}

// newManager listens at a socket: a path, or @NAME.
func newManager(t *testing.T, socket string) *manager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	m := &manager{socket: socket}
	var reading sync.WaitGroup
	reading.Go(func() {
		b := make([]byte, 4096)
		for {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			m.mu.Lock()
			m.words = append(m.words, strings.Split(string(b[:n]), "\n")...)
			m.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		_ = conn.Close()
		reading.Wait()
	})
	return m
}

// heard returns how many assignments begin so.
func (m *manager) heard(prefix string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, w := range m.words {
		if strings.HasPrefix(w, prefix) {
			n++
		}
	}
	return n
}

func (m *manager) all() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.words...)
}

// startUnder runs edged as a service manager does and returns when it said that
// it is ready. The end of the test kills it.
func startUnder(t *testing.T, m *manager, dir string, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), edgedBinary, "--config", filepath.Join(dir, "edged.yaml"))
	cmd.Env = append(append(os.Environ(), "EDGED_CONFIG=", "NOTIFY_SOCKET="+m.socket), env...)
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	testpeer.WaitFor(t, "READY=1", func() bool { return m.heard("READY=1") == 1 })
	return cmd
}

// TestNotify: a service manager hears when edged is ready, reloads and stops,
// and as long as it lives.
func TestNotify(t *testing.T) {
	t.Parallel()
	for name, socket := range map[string]string{
		"path":     filepath.Join(t.TempDir(), "notify"),
		"abstract": "@edged-test-" + strconv.Itoa(os.Getpid()),
	} {
		t.Run(name, func(t *testing.T) {
			m := newManager(t, socket)
			app := startApp(t, "here", "app-a")
			dir := t.TempDir()
			setUp(t, dir, localConfig(testpeer.FreePort(t, edgeIP), serviceAt("app", "/", app.Addr.String()))+"\nshutdown: {max: 7s}\n")
			cmd := startUnder(t, m, dir, "WATCHDOG_USEC=2000000")
			testpeer.WaitFor(t, "three pats of the watchdog", func() bool { return m.heard("WATCHDOG=1") >= 3 })
			if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
			testpeer.WaitFor(t, "RELOADING=1, then READY=1", func() bool {
				return m.heard("RELOADING=1") == 1 && m.heard("MONOTONIC_USEC=") == 1 && m.heard("READY=1") == 2
			})
			if m.heard("STOPPING=1") != 0 || m.heard("STATUS=local/") == 0 {
				t.Errorf("heard %q", m.all())
			}
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("it ended with %v", err)
			}
			testpeer.WaitFor(t, "STOPPING=1", func() bool { return m.heard("STOPPING=1") == 1 && m.heard("EXTEND_TIMEOUT_USEC=19000000") == 1 })
			if n := m.heard("READY=1"); n != 2 {
				t.Errorf("READY=1 %d times: %q", n, m.all())
			}
		})
	}
}

// TestWatchdogOfAnotherProcess: what was meant for somebody else is not done.
func TestWatchdogOfAnotherProcess(t *testing.T) {
	t.Parallel()
	m := newManager(t, filepath.Join(t.TempDir(), "notify"))
	app := startApp(t, "here", "app-a")
	dir := t.TempDir()
	setUp(t, dir, localConfig(testpeer.FreePort(t, edgeIP), serviceAt("app", "/", app.Addr.String())))
	cmd := startUnder(t, m, dir, "WATCHDOG_USEC=1000000", "WATCHDOG_PID=1")
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	testpeer.WaitFor(t, "the reload", func() bool { return m.heard("READY=1") == 2 })
	if n := m.heard("WATCHDOG=1"); n != 0 {
		t.Errorf("it pats the watchdog of another process: %q", m.all())
	}
}

// TestWatchdog: who does not serve does not pat.
func TestWatchdog(t *testing.T) {
	t.Parallel()
	m := newManager(t, filepath.Join(t.TempDir(), "notify"))
	var last atomic.Int64
	last.Store(time.Now().Add(time.Hour).UnixNano())
	stop := main.WatchFor(m.socket, 100*time.Millisecond, func() time.Time { return time.Unix(0, last.Load()) }, logger(t))
	defer stop()
	testpeer.WaitFor(t, "a pat", func() bool { return m.heard("WATCHDOG=1") > 0 })
	last.Store(time.Now().Add(-time.Hour).UnixNano())
	quiet := 0
	testpeer.WaitFor(t, "silence", func() bool {
		before := m.heard("WATCHDOG=1")
		<-time.After(50 * time.Millisecond) // two rounds
		if quiet++; m.heard("WATCHDOG=1") != before {
			quiet = 0
		}
		return quiet == 4
	})
}

// TestNobodyHears: a service manager that is gone keeps edged from nothing.
func TestNobodyHears(t *testing.T) {
	t.Parallel()
	app := startApp(t, "here", "app-a")
	dir := t.TempDir()
	path := setUp(t, dir, localConfig(testpeer.FreePort(t, edgeIP), serviceAt("app", "/", app.Addr.String())))
	cmd := exec.CommandContext(t.Context(), edgedBinary, "--config", path)
	log := &output{}
	cmd.Env, cmd.Stderr = append(os.Environ(), "EDGED_CONFIG=", "NOTIFY_SOCKET="+filepath.Join(dir, "none")), log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	testpeer.WaitFor(t, "the warning", func() bool { return strings.Contains(log.String(), "the service manager does not hear") })
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(testpeer.Patience):
		_ = cmd.Process.Kill()
		t.Error("it does not end")
	}
}
