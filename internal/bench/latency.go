package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	latencyConns   = 64
	latencyShare   = 0.6 // of saturation
	latencyTime    = 3 * time.Second
	latencyWarm    = 500 * time.Millisecond // at its begin, not counted
	latencyTick    = 200 * time.Microsecond // between two bursts
	saturationSize = 20_000                 // requests
)

// measureLatency returns the 99th percentile in µs of the time from when a
// request was due until its answer was there. Each contestant gets 60 % of
// the rate at which it would need all of its core, by the CPU time that a
// request takes it under full load.
func measureLatency(ctx context.Context, w io.Writer, all []*contestant, rounds int) ([]float64, error) {
	rates := make([]float64, len(all))
	full := row{load: h2load("https", "/", "--h1", "-c", "32"), n: saturationSize}
	for i, c := range all {
		cost, err := full.cost(ctx, c)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		rates[i] = latencyShare * 1e6 / cost
	}
	samples := make([][]float64, len(all))
	for round := range rounds {
		for i, c := range all {
			got, err := openLoop(ctx, c, rates[i])
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			p99 := percentile(got, 0.99)
			samples[i] = append(samples[i], p99)
			fmt.Fprintf(w, "p99  round %d  %-24s at %5.0f/s: %d requests, p50 %.0f, p99 %.0f, p99.9 %.0f µs\n",
				round+1, c.name, rates[i], len(got), percentile(got, 0.5), p99, percentile(got, 0.999))
		}
	}
	return medians(samples), nil
}

// percentile returns the share-th of sorted values.
func percentile(sorted []int64, share float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return float64(sorted[min(len(sorted)-1, int(share*float64(len(sorted))))])
}

// A pacedConn is a connection with at most one request under way.
type pacedConn struct {
	conn net.Conn
	due  time.Time // of the request under way
}

// A pacer sends requests when they are due, however long answers take: a
// request that finds no idle connection waits, and its wait counts.
type pacer struct {
	start time.Time

	mu      sync.Mutex // guards what follows
	idle    []*pacedConn
	waiting []time.Time // when they were due
	open    int         // requests due or under way
	took    []int64     // µs, of those due after the warm-up
	ended   bool        // nothing more becomes due
	done    chan struct{}
	failed  error
}

// openLoop sends rate requests a second over kept TLS connections and returns
// how long they took, sorted, in µs.
func openLoop(ctx context.Context, c *contestant, rate float64) ([]int64, error) {
	p := &pacer{done: make(chan struct{}), took: make([]int64, 0, int(rate*latencyTime.Seconds()))}
	config := clientTLS("http/1.1")
	var all []*pacedConn
	var reading sync.WaitGroup
	defer func() {
		for _, pc := range all {
			_ = pc.conn.Close()
		}
		reading.Wait()
	}()
	for range latencyConns {
		conn, err := dialTLS(ctx, c.tls, config)
		if err != nil {
			return nil, err
		}
		pc := &pacedConn{conn: conn}
		all = append(all, pc)
		p.idle = append(p.idle, pc)
	}
	p.start = time.Now()
	for _, pc := range all {
		reading.Go(func() { p.read(pc) })
	}
	if err := p.pace(rate); err != nil {
		return nil, err
	}
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		return nil, errors.New("answers are missing")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	slices.Sort(p.took)
	return p.took, p.failed
}

// pace makes requests due until the time is over. Go's own timers are as
// coarse as a millisecond; a timer of the kernel wakes it on time.
func (p *pacer) pace(rate float64) error {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return err
	}
	timer := os.NewFile(uintptr(fd), "timerfd")
	defer func() { _ = timer.Close() }()
	every := unix.NsecToTimespec(latencyTick.Nanoseconds())
	if err := unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Interval: every, Value: every}, nil); err != nil {
		return err
	}
	var ticks [8]byte
	var passed uint64
	for sent := 0; ; {
		if _, err := io.ReadFull(timer, ticks[:]); err != nil {
			return err
		}
		for range binary.NativeEndian.Uint64(ticks[:]) {
			passed++
			at := time.Duration(passed) * latencyTick
			for want := int(rate * at.Seconds()); sent < want; sent++ {
				p.send(p.start.Add(at))
			}
			if at >= latencyTime {
				p.end()
				return nil
			}
		}
	}
}

// send makes one request due.
func (p *pacer) send(due time.Time) {
	p.mu.Lock()
	p.open++
	if len(p.idle) == 0 {
		p.waiting = append(p.waiting, due)
		p.mu.Unlock()
		return
	}
	last := len(p.idle) - 1
	pc := p.idle[last]
	p.idle = p.idle[:last]
	pc.due = due
	p.mu.Unlock()
	p.write(pc)
}

func (p *pacer) write(pc *pacedConn) {
	if _, err := io.WriteString(pc.conn, "GET / HTTP/1.1\r\nHost: bench.example.net\r\n\r\n"); err != nil {
		p.fail(err)
	}
}

// read takes the answers of one connection, and sends what waits over it.
func (p *pacer) read(pc *pacedConn) {
	r := bufio.NewReaderSize(pc.conn, 4<<10)
	for {
		if err := readAnswer(r, smallContent); err != nil {
			if !errors.Is(err, net.ErrClosed) {
				p.fail(err)
			}
			return
		}
		if p.answered(pc, time.Now()) {
			p.write(pc)
		}
	}
}

// answered counts an answer; it reports whether a request that waited is to
// be sent over the same connection.
func (p *pacer) answered(pc *pacedConn, now time.Time) (again bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pc.due.Sub(p.start) > latencyWarm {
		p.took = append(p.took, now.Sub(pc.due).Microseconds())
	}
	p.open--
	if len(p.waiting) > 0 {
		pc.due = p.waiting[0]
		p.waiting = p.waiting[1:]
		return true
	}
	p.idle = append(p.idle, pc)
	p.finish()
	return false
}

func (p *pacer) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.finish()
}

func (p *pacer) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed = errors.Join(p.failed, err)
	p.ended, p.open = true, 0
	p.finish()
}

// finish tells that all is answered, once. The caller holds mu.
func (p *pacer) finish() {
	if !p.ended || p.open > 0 {
		return
	}
	select {
	case <-p.done:
	default:
		close(p.done)
	}
}
