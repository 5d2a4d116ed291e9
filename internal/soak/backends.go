package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"anyedge/internal/interop"
)

const (
	backendArg = "backend" // this program as a backend, at an address
	backendsN  = 3
	wrongMark  = "wrong upload"
)

// serveBackend is a backend: the application at an address, until ctx ends.
func serveBackend(ctx context.Context, addr string) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp4", addr)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	return interop.Serve(ctx, l, interop.App(func(what string) { log.Error(wrongMark, "what", what) }))
}

// Backends are processes, each at an address that it keeps.
type backends struct {
	addrs     []netip.AddrPort
	processes []*exec.Cmd // nil: dead
	wrongs    atomic.Int64
	reading   sync.WaitGroup
}

func startBackends(ctx context.Context) (*backends, error) {
	b := &backends{processes: make([]*exec.Cmd, backendsN)}
	var err error
	if b.addrs, err = interop.FreePorts(ctx, backendsN); err != nil {
		return b, err
	}
	for i := range backendsN {
		if err := b.start(ctx, i); err != nil {
			return b, err
		}
	}
	return b, nil
}

// services is the configuration's section.
func (b *backends) services() string {
	var out strings.Builder
	for _, s := range []struct{ name, paths, scheme string }{{"app", "/", "http"}, {"h2c", "/h2c", "h2c"}} {
		fmt.Fprintf(&out, "  - name: %s\n    hosts: [\"*\"]\n    paths: [%q]\n", s.name, s.paths)
		out.WriteString("    health: {http: {path: /, interval: 500ms, timeout: 1s, rise: 2, fall: 2}}\n")
		out.WriteString("    timeouts: {response_header: 10s, idle: 5s}\n    backends:\n")
		for i, addr := range b.addrs {
			fmt.Fprintf(&out, "      - {name: b%d, url: %q}\n", i, s.scheme+"://"+addr.String())
		}
	}
	return out.String()
}

// start runs backend i.
func (b *backends) start(ctx context.Context, i int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, backendArg, b.addrs[i].String())
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	b.processes[i] = cmd
	b.reading.Go(func() {
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			fmt.Fprintf(os.Stderr, "backend %d: %s\n", i, lines.Text())
			if strings.Contains(lines.Text(), wrongMark) {
				b.wrongs.Add(1)
			}
		}
	})
	return nil
}

// kill ends backend i at once.
func (b *backends) kill(i int) {
	if cmd := b.processes[i]; cmd != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		b.processes[i] = nil
	}
}

func (b *backends) end() {
	for i := range b.processes {
		b.kill(i)
	}
	b.reading.Wait()
}

// wrong is how many uploads were taken for whole that were not.
func (b *backends) wrong() int { return int(b.wrongs.Load()) }

// Times of the schedule.
const (
	calmTime  = 10 * time.Second // between two faults, after what follows from the last one
	graceTime = 5 * time.Second  // for what follows from a fault that is over
)

// A fault is one way in which backends go away and return.
type fault struct {
	name  string
	times int // out of all
	do    func(ctx context.Context, b *backends) error
}

var faults = []fault{
	{"one dies", 4, func(ctx context.Context, b *backends) error { return b.die(ctx, 1) }},
	{"two die", 2, func(ctx context.Context, b *backends) error { return b.die(ctx, 2) }},
	{"all die", 1, func(ctx context.Context, b *backends) error { return b.die(ctx, backendsN) }},
	{"one restarts at once", 2, func(ctx context.Context, b *backends) error {
		i := below(backendsN)
		b.kill(i)
		return b.start(ctx, i)
	}},
	{"one hangs", 3, func(ctx context.Context, b *backends) error { return b.hang(ctx, 1) }},
	{"all hang", 1, func(ctx context.Context, b *backends) error { return b.hang(ctx, backendsN) }},
}

// faults lets one happen after the other until ctx ends; in the end all
// backends are there.
func (b *backends) faults(ctx context.Context, t *tally) error {
	var deck []fault
	for _, f := range faults {
		for range f.times {
			deck = append(deck, f)
		}
	}
	for wait(ctx, calmTime) {
		f := deck[below(len(deck))]
		over := t.fault(f.name)
		// A fault is gone through to its end: what it needs it gets without ctx.
		if err := f.do(context.WithoutCancel(ctx), b); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		wait(context.WithoutCancel(ctx), graceTime)
		over()
	}
	return nil
}

// die kills n backends and starts them again some seconds later.
func (b *backends) die(ctx context.Context, n int) error {
	which := choose(n)
	for _, i := range which {
		b.kill(i)
	}
	wait(ctx, some(time.Second, 8*time.Second))
	var errs []error
	for _, i := range which {
		errs = append(errs, b.start(ctx, i))
	}
	return errors.Join(errs...)
}

// hang stops n backends for some seconds.
func (b *backends) hang(ctx context.Context, n int) error {
	which := choose(n)
	var errs []error
	for _, i := range which {
		errs = append(errs, b.processes[i].Process.Signal(syscall.SIGSTOP))
	}
	wait(ctx, some(time.Second, 8*time.Second))
	for _, i := range which {
		errs = append(errs, b.processes[i].Process.Signal(syscall.SIGCONT))
	}
	return errors.Join(errs...)
}

// some returns a time between two.
func some(from, to time.Duration) time.Duration {
	return from + rand.N(to-from) //nolint:gosec // no secret
}

// below returns a number from 0 on, below n.
func below(n int) int { return rand.IntN(n) } //nolint:gosec // no secret

// choose returns n backends.
func choose(n int) []int { return rand.Perm(backendsN)[:n] } //nolint:gosec // no secret

// wait waits, and reports whether ctx lives still.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
