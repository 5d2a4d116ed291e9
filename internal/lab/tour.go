package lab

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"anyedge/internal/admin/client"
	"anyedge/internal/api"
)

// The steady clients of the tour.
const (
	tourMax    = 4 * time.Minute       // far more than it takes
	pollEvery  = 50 * time.Millisecond // between two looks at a condition
	stepWait   = 30 * time.Second      // for what a step waits for, once
	minSources = 1000
	hotRegion  = "eu"
	hotGeo     = "fra"
	farGeo     = "nrt"
	hotRate    = 600.0 // requests/s in all at hotRegion in the overload step
)

// steadyLoads are the people who ask for something all the time: 210 requests/s
// from 1200 addresses.
func steadyLoads() []LoadConfig {
	mix := []Protocol{H1, H2, H1, H2, H1, H2, H1, H3}
	return []LoadConfig{
		{Region: "eu", Rate: 100, Clients: 520, First: 0, Mix: mix, Path: "/steady"},
		{Region: "us", Rate: 55, Clients: 340, First: 600, Mix: mix, Path: "/steady"},
		{Region: "asia", Rate: 55, Clients: 340, First: 1000, Mix: mix, Path: "/steady"},
	}
}

// steadyRound is a little more than every steady client needs to have asked.
const steadyRound = 7 * time.Second

// A TourResult is what the tour saw.
type TourResult struct {
	OK       bool       `json:"ok"` // every step was seen to be true
	Seconds  float64    `json:"seconds"`
	Requests int        `json:"requests"` // of steady clients and loads
	Sources  int        `json:"sources"`  // addresses they came from
	Steps    []TourStep `json:"steps"`
}

// A TourStep is one step of the story.
type TourStep struct {
	Step     string   `json:"step"` // a to h
	Name     string   `json:"name"`
	OK       bool     `json:"ok"`
	Saw      []string `json:"saw"`
	Requests int      `json:"requests"`
	Failed   int      `json:"failed"`
	Late     int      `json:"late,omitempty"` // requests that this machine was too busy to send in time
	Seconds  float64  `json:"seconds"`
	Problem  string   `json:"problem,omitempty"`
	Failures []string `json:"failures,omitempty"` // some of them, in words
}

// A tour is one run of the story.
type tour struct {
	demo  *Demo
	out   io.Writer
	trust *tls.Config
	meter *Meter
	admin map[string]*client.Client // by geo
	step  *TourStep                 // the one that runs
	loads []*Load                   // the steady clients

	mu     sync.Mutex // guards probes
	probes int
}

// tourSteps are the story, in order.
func (t *tour) tourSteps() []struct {
	step, name string
	mayFail    bool // requests may break; their number is told
	run        func(context.Context) error
} {
	return []struct {
		step, name string
		mayFail    bool
		run        func(context.Context) error
	}{
		{"a", "each region is served by its nearest geo", false, t.nearest},
		{"b", "an app replays a request elsewhere", false, t.replay},
		{"c", "the nearest geo's backends die", false, t.backendsDie},
		{"d", "they recover: back home", false, t.backendsRecover},
		{"e", "overload: the excess is served elsewhere", false, t.overload},
		{"f", "SIGKILL of a geo", true, t.geoDies},
		{"g", "partition of one geo, and repair", false, t.partition},
		{"h", "an operator drains a geo", false, t.drain},
	}
}

// Tour breaks the demo's world in turn, sees what happens from outside, and
// tells it to out. The error says why the tour could not go on; a step that saw
// something wrong is in the result.
func Tour(ctx context.Context, d *Demo, out io.Writer) (TourResult, error) {
	ctx, cancel := context.WithTimeout(ctx, tourMax)
	defer cancel()
	trust, err := d.trust()
	if err != nil {
		return TourResult{}, err
	}
	t := &tour{demo: d, out: out, trust: trust, meter: NewMeter(), admin: make(map[string]*client.Client)}
	for _, g := range d.layout.Geos {
		t.admin[g.Name] = client.New(g.Socket)
		defer t.admin[g.Name].Close()
	}
	fmt.Fprintf(out, "The tour: steady clients in all regions, then one mishap after the other.\nTimers: %s.\n", d.layout.Timers)
	begin, start := time.Now(), t.meter.Mark()
	stop := t.steady(ctx)
	defer stop()

	result := TourResult{OK: true}
	for _, s := range t.tourSteps() {
		t.step = &TourStep{Step: s.step, Name: s.name, Saw: []string{}}
		t.runStep(ctx, s.mayFail, s.run)
		result.Steps = append(result.Steps, *t.step)
		result.OK = result.OK && t.step.OK
		if ctx.Err() != nil {
			return result, fmt.Errorf("the tour was ended: %w", context.Cause(ctx))
		}
		if !t.step.OK {
			t.tidy(ctx)
		}
	}
	stop()
	total := t.meter.Since(start)
	result.Seconds, result.Requests, result.Sources = time.Since(begin).Seconds(), total.Sent, t.meter.Sources()
	verdict := "All of it was seen to be true"
	if !result.OK {
		verdict = "NOT all of it was true"
	}
	fmt.Fprintf(out, "%s: %.0f s, %d requests from %d addresses.\n", verdict, result.Seconds, result.Requests, result.Sources)
	return result, nil
}

// steady starts the steady clients; the returned function ends them.
func (t *tour) steady(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for _, cfg := range steadyLoads() {
		cfg.Entry, cfg.TLS = t.region(cfg.Region).entry.Addr(), t.trust
		load := NewLoad(cfg, t.meter)
		t.loads = append(t.loads, load)
		wg.Go(func() { _ = load.Run(ctx, func() {}) })
	}
	return func() { cancel(); wg.Wait() }
}

// runStep runs one step, counts what happened to clients meanwhile, and tells
// it.
func (t *tour) runStep(ctx context.Context, mayFail bool, run func(context.Context) error) {
	s, start := t.step, t.meter.Mark()
	err := run(ctx)
	tally := t.meter.Since(start)
	s.Requests, s.Failed, s.Late, s.Failures = tally.Sent, tally.Failed, tally.Late, tally.Samples
	s.Seconds = time.Since(start.At).Seconds()
	if !mayFail && s.Failed > 0 {
		err = errors.Join(err, fmt.Errorf("no request should fail; %d did", s.Failed))
	}
	s.OK = err == nil
	mark := "ok"
	if err != nil {
		s.Problem, mark = err.Error(), "FAILED"
	}
	fmt.Fprintf(t.out, "\n(%s) %-44s %-6s %5.1f s  %d requests, %d failed", s.Step, s.Name, mark, s.Seconds, s.Requests, s.Failed)
	if s.Late > 0 {
		fmt.Fprintf(t.out, ", %d not sent in time", s.Late)
	}
	fmt.Fprintln(t.out)
	for _, line := range s.Saw {
		fmt.Fprintf(t.out, "    %s\n", line)
	}
	if err != nil {
		fmt.Fprintf(t.out, "    PROBLEM: %s\n", s.Problem)
	}
	if !s.OK || mayFail {
		for _, line := range s.Failures {
			fmt.Fprintf(t.out, "    failed: %s\n", line)
		}
	}
}

// saw adds one line to what the step saw.
func (t *tour) saw(format string, args ...any) {
	t.step.Saw = append(t.step.Saw, fmt.Sprintf(format, args...))
}

// until waits for cond, which also says what it sees. The error repeats the
// last that was seen.
func (t *tour) until(ctx context.Context, what string, cond func() (ok bool, sees string)) (time.Duration, error) {
	start := time.Now()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		ok, sees := cond()
		if ok {
			return time.Since(start), nil
		}
		if time.Since(start) > stepWait {
			return stepWait, fmt.Errorf("waited %s for %s; last seen: %s", stepWait, what, sees)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return time.Since(start), fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		}
	}
}

// pause lets time go by: what is counted meanwhile is the point.
func (t *tour) pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func (t *tour) region(name string) *region {
	for _, r := range t.demo.regions {
		if r.name == name {
			return r
		}
	}
	return nil
}

// vip returns the demo's VIP as a geo's own admin API tells it.
func (t *tour) vip(ctx context.Context, geo string) (api.VIP, error) {
	r, err := t.admin[geo].Routes(ctx)
	if err != nil {
		return api.VIP{}, err
	}
	if len(r.VIPs) != 1 {
		return api.VIP{}, fmt.Errorf("%s has %d VIPs, not one", geo, len(r.VIPs))
	}
	return r.VIPs[0], nil
}

// fresh sends one request of a new client on a new connection.
func (t *tour) fresh(ctx context.Context, region string, p Protocol) Result {
	t.mu.Lock()
	t.probes++
	n := t.probes
	t.mu.Unlock()
	c := NewClient(t.region(region).entry.Addr(), clientAddr(probeFirst+n), p, t.trust)
	defer c.Close()
	return c.Get(ctx, "/probe")
}

// probeFirst is the number of the first probe's address.
const probeFirst = 20000
