// Command soak is what scripts/soak proxy runs: edged under mixed load for
// half an hour, while its backends die, hang and return.
//
// It ends 0 only if no client and no application got wrong bytes, every
// failure falls into the time of a fault, and edged is back where it started:
// files, threads, goroutines and memory.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"time"

	"anyedge/internal/interop"
)

const (
	defaultTime = 30 * time.Minute
	warmUp      = 20 * time.Second
	workers     = 12
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, w io.Writer) error {
	if len(args) == 2 && args[0] == backendArg {
		return serveBackend(ctx, args[1])
	}
	length := defaultTime
	if len(args) > 0 {
		minutes, err := strconv.Atoi(args[0])
		if err != nil || minutes < 1 || len(args) > 1 {
			return fmt.Errorf("want a number of minutes, got %q", args)
		}
		length = time.Duration(minutes) * time.Minute
	}
	dir, err := os.MkdirTemp("", "edged-soak-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary, err := interop.Build(ctx, dir)
	if err != nil {
		return err
	}
	// The level to come back to: an edge after a short load without faults.
	fmt.Fprintf(w, "%s of load without faults on a first edge, to know the level to come back to\n", warmUp)
	first, err := soak(ctx, w, binary, filepath.Join(dir, "first"), 0)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%s on a second one, then %s with faults\n", warmUp, length)
	second, err := soak(ctx, w, binary, filepath.Join(dir, "second"), length)
	if err != nil {
		return err
	}
	return second.judge(w, first.goroutines)
}

// A result is what one edge went through.
type result struct {
	tally         *tally
	before, after level
	goroutines    int    // at the end
	stacks        string // of them
	wrongUploads  int
}

// soak runs an edge with backends under load: a warm-up, then, for length,
// with faults.
func soak(ctx context.Context, w io.Writer, binary, dir string, length time.Duration) (*result, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	backends, err := startBackends(ctx)
	defer backends.end()
	if err != nil {
		return nil, err
	}
	edge, err := interop.Start(ctx, binary, dir, backends.services())
	if err != nil {
		return nil, err
	}
	r := &result{}
	warm := newTally()
	if err := load(ctx, edge, warm, warmUp); err != nil {
		return nil, err
	}
	if warm.failed() > 0 {
		warm.print(w)
		fmt.Fprintf(w, "edged said:\n%s", edge.Log())
		return nil, fmt.Errorf("%d requests failed before any fault", warm.failed())
	}
	if r.before, err = settle(ctx, edge.Process.Pid, level{}); err != nil {
		return nil, err
	}
	if length > 0 {
		if err := mix(ctx, w, edge, backends, r, length); err != nil {
			return nil, err
		}
		if r.after, err = settle(ctx, edge.Process.Pid, r.before); err != nil {
			return nil, err
		}
	}
	r.wrongUploads = backends.wrong()
	if r.stacks, err = edge.Stacks(); err != nil {
		return nil, err
	}
	r.goroutines = goroutines(r.stacks)
	return r, nil
}

// mix runs load and faults beside each other and prints a line a minute.
func mix(ctx context.Context, w io.Writer, edge *interop.Edge, b *backends, r *result, length time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	r.tally = newTally()
	faults := make(chan error, 1)
	go func() { faults <- b.faults(ctx, r.tally) }()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		report(ctx, w, edge.Process.Pid, r.tally)
	}()
	err := load(ctx, edge, r.tally, length)
	cancel()
	<-watched
	if ferr := <-faults; err == nil {
		err = ferr
	}
	return err
}
