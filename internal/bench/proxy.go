package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// proxyOptions are the flags of `bench proxy`.
type proxyOptions struct {
	rows   []row
	peers  []entry
	rounds int
}

// A row is one thing that is measured on every contestant that can do it.
type row struct {
	name  string // for --only
	title string
	unit  string
	bar   float64 // for the ratio to the better peer; 0: none is set
	h3    bool    // asked over HTTP/3, where Caddy is the peer

	absolute bool // the bar is for the figure itself
	fresh    bool // wants contestants that have done nothing yet

	// One of the two: a load of which a number of requests is sent in each
	// round, or a measurement of its own, one figure a contestant.
	load     load
	warm, n  int // requests
	measured func(ctx context.Context, w io.Writer, all []*contestant, rounds int) ([]float64, error)
}

const perRequest = "µs CPU/request"

func proxyRows() []row {
	return []row{
		{name: "h1-plain", title: "H1 plain 1 KiB", unit: perRequest, bar: 0.95, load: h2load("http", "/", "--h1", "-c", "32"), warm: 2000, n: 20_000},
		{name: "h1-tls", title: "H1 TLS 1 KiB", unit: perRequest, bar: 0.75, load: h2load("https", "/", "--h1", "-c", "32"), warm: 2000, n: 20_000},
		{name: "h2-tls", title: "H2 TLS 1 KiB", unit: perRequest, bar: 0.70, load: h2load("https", "/", "-c", "8", "-m", "8"), warm: 2000, n: 20_000},
		{name: "new-tls", title: "new TLS connection per request", unit: perRequest, bar: 0.95, load: newConnections, warm: 200, n: 2000},
		{name: "100k-tls", title: "H1 TLS 100 KiB", unit: perRequest, bar: 0.9, load: h2load("https", largePath, "--h1", "-c", "32"), warm: 500, n: 5000},
		{name: "post-tls", title: "H1 TLS POST 10 KiB", unit: perRequest, bar: 0.9, load: h2loadPost("https", "/", "--h1", "-c", "32"), warm: 1000, n: 10_000},
		{name: "h3", title: "H3 1 KiB", unit: perRequest, bar: 0.35, h3: true, load: h3load("/", smallContent), warm: 1000, n: 10_000},
		{name: "h3-100k", title: "H3 100 KiB", unit: perRequest, h3: true, load: h3load(largePath, largeContent), warm: 100, n: 1000},
		{name: "p99", title: "H1 TLS 1 KiB, p99 at 60 % of saturation", unit: "µs", bar: 1, measured: measureLatency},
		{name: "idle", title: "idle TLS connection", unit: "KiB/connection", bar: 12, absolute: true, fresh: true, measured: measureIdle},
	}
}

// proxyFlags declares the flags; what it returns runs by them.
func proxyFlags(flags *flag.FlagSet) runner {
	o := proxyOptions{rows: proxyRows()}
	var names []string
	for _, r := range o.rows {
		names = append(names, r.name)
	}
	flags.IntVar(&o.rounds, "rounds", 5, "interleaved rounds; figures are medians")
	flags.Func("only", "measure these `ROWS` alone: "+strings.Join(names, ","), func(s string) error {
		wanted := strings.Split(s, ",")
		for _, name := range wanted {
			if !slices.Contains(names, name) {
				return fmt.Errorf("there is no row %q", name)
			}
		}
		o.rows = slices.DeleteFunc(proxyRows(), func(r row) bool { return !slices.Contains(wanted, r.name) })
		return nil
	})
	flags.Func("peer", "`NAME=BINARY`: one more contestant; NAME is edged, nginx, haproxy or caddy, or begins so with a hyphen behind it (edged-old=/tmp/edged)", func(s string) error {
		e, err := parsePeer(s)
		o.peers = append(o.peers, e)
		return err
	})
	return func(ctx context.Context, w io.Writer) ([]Row, error) {
		if o.rounds < 1 {
			return nil, errors.New("want at least one round")
		}
		return o.run(ctx, w)
	}
}

// run measures: the proxies are pinned to core 0, load and backend run on core
// 1; rounds are interleaved A B C A B C so that a slow spell of the machine
// hits all.
func (o proxyOptions) run(ctx context.Context, w io.Writer) ([]Row, error) {
	release, err := alone(ctx, w)
	if err != nil {
		return nil, err
	}
	defer release()
	dir, err := os.MkdirTemp("", "edged-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	entries, err := o.entries(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer urgent()()
	if err := toCore1(ctx); err != nil {
		return nil, err
	}
	b, err := startBackend(ctx, backendPort)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	all, err := start(ctx, dir, entries)
	defer func() { stop(all) }()
	if err != nil {
		return nil, err
	}
	var rows []Row
	for _, r := range o.rows {
		if r.fresh {
			stop(all)
			if all, err = start(ctx, dir, entries); err != nil {
				return nil, err
			}
		}
		in := slices.DeleteFunc(slices.Clone(all), func(c *contestant) bool { return !kinds[c.kind].takes(r) })
		figures, err := r.measure(ctx, w, in, o.rounds)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.name, err)
		}
		rows = append(rows, r.judge(in, figures)...)
	}
	return rows, nil
}

// measure returns one figure for each contestant.
func (r row) measure(ctx context.Context, w io.Writer, all []*contestant, rounds int) ([]float64, error) {
	if r.measured != nil {
		return r.measured(ctx, w, all, rounds)
	}
	samples := make([][]float64, len(all))
	for round := range rounds {
		for i, c := range all {
			if round == 0 {
				if err := r.load(ctx, c, r.warm); err != nil {
					return nil, fmt.Errorf("%s: %w", c.name, err)
				}
			}
			cost, err := r.cost(ctx, c)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			samples[i] = append(samples[i], cost)
			fmt.Fprintf(w, "%s  round %d  %-24s %6.1f %s\n", r.title, round+1, c.name, cost, r.unit)
		}
	}
	return medians(samples), nil
}

// cost is the CPU time of one request in µs, over one round.
func (r row) cost(ctx context.Context, c *contestant) (float64, error) {
	before, err := cpuTime(c.pid())
	if err != nil {
		return 0, err
	}
	if err := r.load(ctx, c, r.n); err != nil {
		return 0, err
	}
	after, err := cpuTime(c.pid())
	return float64((after - before).Nanoseconds()) / 1000 / float64(r.n), err
}
