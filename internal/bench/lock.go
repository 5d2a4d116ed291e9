package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// alone waits until no other benchmark runs on this machine: they would share
// cores and ports. The lock goes with the process.
func alone(ctx context.Context, w io.Writer) (release func(), err error) {
	f, err := os.OpenFile(filepath.Join(os.TempDir(), "edged-bench.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	retry := time.NewTicker(time.Second)
	defer retry.Stop()
	for said := false; ; said = true {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		if !said {
			fmt.Fprintln(w, "another benchmark runs on this machine: waiting for its end")
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			_ = f.Close()
			return nil, ctx.Err()
		}
	}
}

// toCore1 keeps this process, and so the load and the backend, off the core
// of the contestants.
func toCore1(ctx context.Context) error {
	if out, err := exec.CommandContext(ctx, "taskset", "-a", "-cp", "1", strconv.Itoa(os.Getpid())).CombinedOutput(); err != nil {
		return fmt.Errorf("taskset: %s", out)
	}
	runtime.GOMAXPROCS(1)
	return nil
}

// autogroup holds the niceness of this process's scheduling group (sched(7)); the
// contestants are in it, too.
const autogroup = "/proc/self/autogroup"

// urgent lets the run go before other work of the machine, where that is
// allowed, so that this disturbs less.
func urgent() (undo func()) {
	if os.WriteFile(autogroup, []byte("-20"), 0) != nil {
		return func() {}
	}
	return func() { _ = os.WriteFile(autogroup, []byte("0"), 0) }
}
