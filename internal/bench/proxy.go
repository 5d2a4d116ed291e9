package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"time"
)

// Size of the proxy benchmark.
const (
	proxyRounds   = 5
	proxyRequests = 20_000
	proxyWarmUp   = 2_000
	proxyContent  = 1024
)

// A load is one way of asking; args go to h2load.
type load struct {
	name string
	args []string
}

var loads = []load{
	{"H1 TLS 1 KiB", []string{"--h1", "-c", "32"}},
	{"H2 TLS 1 KiB", []string{"-c", "8", "-m", "8"}},
}

// benchProxy measures CPU time per request. The proxy is pinned to core 0,
// h2load and the backend run on core 1; rounds are interleaved A B C A B C so
// that a slow spell of the machine hits all; medians are reported.
func benchProxy(ctx context.Context, w io.Writer) ([]Row, error) {
	dir, err := os.MkdirTemp("", "edged-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	f, err := makeFiles(dir)
	if err != nil {
		return nil, err
	}
	stopBackend, err := startBackend(ctx)
	if err != nil {
		return nil, err
	}
	defer stopBackend()
	all, err := start(ctx, f)
	defer stop(all)
	if err != nil {
		return nil, err
	}
	var rows []Row
	for _, l := range loads {
		costs, err := measure(ctx, w, l, all)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.name, err)
		}
		rows = append(rows, compare(l.name, all, costs)...)
	}
	return rows, nil
}

// measure returns each contestant's median CPU time per request in µs.
func measure(ctx context.Context, w io.Writer, l load, all []*contestant) ([]float64, error) {
	samples := make([][]float64, len(all))
	for round := range proxyRounds {
		for i, c := range all {
			if round == 0 {
				if err := h2load(ctx, l, c.port, proxyWarmUp); err != nil {
					return nil, fmt.Errorf("%s: %w", c.name, err)
				}
			}
			before, err := cpuTime(c.process.Process.Pid)
			if err != nil {
				return nil, err
			}
			if err := h2load(ctx, l, c.port, proxyRequests); err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			after, err := cpuTime(c.process.Process.Pid)
			if err != nil {
				return nil, err
			}
			cost := float64((after - before).Microseconds()) / proxyRequests
			samples[i] = append(samples[i], cost)
			fmt.Fprintf(w, "%s  round %d  %-16s %6.1f µs/request\n", l.name, round+1, c.name, cost)
		}
	}
	costs := make([]float64, len(all))
	for i := range all {
		costs[i] = median(samples[i])
	}
	return costs, nil
}

// compare makes the rows of one load: each one's cost, and edged's as a ratio
// to each peer.
func compare(name string, all []*contestant, costs []float64) []Row {
	var rows []Row
	for i, c := range all {
		rows = append(rows, Row{Case: name + ", " + c.name, Figure: costs[i], Unit: "µs CPU/request", Reference: "itself"})
	}
	for i, c := range all[1:] {
		rows = append(rows, Row{
			Case: name, Figure: costs[0] / costs[i+1], Unit: "ratio of CPU/request",
			Reference: fmt.Sprintf("%s, %.1f µs", c.name, costs[i+1]),
		})
	}
	return rows
}

var succeeded = regexp.MustCompile(`(\d+) succeeded`)

// h2load sends n requests from core 1; every one of them has to succeed.
func h2load(ctx context.Context, l load, port, n int) error {
	args := append([]string{"-c", "1", "h2load", "-n", strconv.Itoa(n), "-t", "1"}, l.args...)
	args = append(args, fmt.Sprintf("https://127.0.0.1:%d/", port))
	out, err := exec.CommandContext(ctx, "taskset", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("h2load: %w: %s", err, out)
	}
	m := succeeded.FindSubmatch(out)
	if m == nil || !bytes.Equal(m[1], strconv.AppendInt(nil, int64(n), 10)) {
		return fmt.Errorf("h2load: not all of %d requests succeeded:\n%s", n, out)
	}
	return nil
}

// startBackend answers 1 KiB to everything, in this process, which is pinned
// to core 1 with the load.
func startBackend(ctx context.Context) (func(), error) {
	if out, err := exec.CommandContext(ctx, "taskset", "-a", "-cp", "1", strconv.Itoa(os.Getpid())).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("taskset: %s", out)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", backendPort))
	if err != nil {
		return nil, err
	}
	content := bytes.Repeat([]byte("x"), proxyContent)
	srv := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Date"] = nil
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = w.Write(content)
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			fmt.Fprintln(os.Stderr, "backend:", err)
		}
	}()
	return func() { _ = srv.Close(); <-done }, nil
}
