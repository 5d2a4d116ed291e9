package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A level is what a process holds.
type level struct {
	files, threads int
	rss            int // MiB
}

func (l level) String() string {
	return fmt.Sprintf("%d files, %d threads, %d MiB", l.files, l.threads, l.rss)
}

// levelOf reads /proc.
func levelOf(pid int) (level, error) {
	var l level
	dir := "/proc/" + strconv.Itoa(pid)
	for name, n := range map[string]*int{"fd": &l.files, "task": &l.threads} {
		entries, err := os.ReadDir(filepath.Join(dir, name))
		if err != nil {
			return l, err
		}
		*n = len(entries)
	}
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return l, err
	}
	_, rest, ok := strings.Cut(string(status), "\nVmRSS:")
	if !ok {
		return l, errors.New("unexpected form of /proc/PID/status")
	}
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	l.rss = kib >> 10
	return l, err
}

const (
	settleTime = 3 * time.Minute  // at most, for connections to be given up
	steadyTime = 15 * time.Second // without a change of files
)

// settle waits until an edge without load holds no more files than want, if
// that says any, and the number stays for a while; it returns what it holds.
func settle(ctx context.Context, pid int, want level) (level, error) {
	end := time.Now().Add(settleTime)
	var last level
	var since time.Time
	for {
		now, err := levelOf(pid)
		if err != nil {
			return now, err
		}
		if now.files != last.files {
			last, since = now, time.Now()
		}
		steady := time.Since(since) > steadyTime
		if time.Now().After(end) || steady && (want.files == 0 || now.files <= want.files) {
			return now, nil
		}
		if !wait(ctx, time.Second) {
			return now, ctx.Err()
		}
	}
}

// report prints a line a minute.
func report(ctx context.Context, w io.Writer, pid int, t *tally) {
	for wait(ctx, time.Minute) {
		l, err := levelOf(pid)
		if err != nil {
			fmt.Fprintln(w, err)
			return
		}
		good, explained, unexplained, wrong := t.counts()
		fmt.Fprintf(w, "%5s  %d good, %d failed in faults, %d failed otherwise, %d wrong; %s\n",
			time.Since(t.start).Round(time.Second), good, explained, unexplained, wrong, l)
	}
}

// goroutines counts those of a dump, without the runtime's own.
func goroutines(stacks string) int {
	var n int
	for g := range strings.SplitSeq(stacks, "\n\n") {
		if strings.HasPrefix(strings.TrimSpace(g), "goroutine ") && !strings.Contains(g, "runtime.gcBgMarkWorker(") {
			n++
		}
	}
	return n
}

// Room for what is no leak: connections that the edge's checks of health hold,
// and a heap that is collected late.
const (
	moreFiles      = 4
	moreGoroutines = 8
	moreRSS        = 64 // MiB
)

// judge prints what happened; an error says what is wrong with it.
func (r *result) judge(w io.Writer, goroutines int) error {
	r.tally.print(w)
	fmt.Fprintf(w, "\nbefore: %s, %d goroutines\nafter:  %s, %d goroutines\n", r.before, goroutines, r.after, r.goroutines)
	var errs []error
	if _, _, unexplained, wrong := r.tally.counts(); unexplained > 0 || wrong > 0 {
		errs = append(errs, fmt.Errorf("%d wrong contents, %d failures outside of faults", wrong, unexplained))
	}
	if r.wrongUploads > 0 {
		errs = append(errs, fmt.Errorf("%d uploads were taken for whole that were not", r.wrongUploads))
	}
	if r.after.files > r.before.files+moreFiles {
		errs = append(errs, fmt.Errorf("files leak: %d, %d before", r.after.files, r.before.files))
	}
	if r.goroutines > goroutines+moreGoroutines {
		errs = append(errs, fmt.Errorf("goroutines leak: %d, %d before:\n%s", r.goroutines, goroutines, r.stacks[:min(len(r.stacks), 20_000)]))
	}
	if r.after.rss > r.before.rss+moreRSS {
		errs = append(errs, fmt.Errorf("memory leaks: %d MiB, %d before", r.after.rss, r.before.rss))
	}
	return errors.Join(errs...)
}
