package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of /proc/PID/stat's times: USER_HZ is 100 on every Linux
// that Go runs on.
const tick = 10 * time.Millisecond

// cpuTime returns the CPU time that the process has used so far, in user and
// kernel mode, by the kernel's scheduler accounting.
func cpuTime(pid int) (time.Duration, error) {
	total, err := schedTime(pid)
	if err == nil {
		return total, nil
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The command's name may hold spaces; fields are counted behind it.
	_, rest, ok := strings.Cut(string(b), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 13 {
		return 0, errors.New("unexpected form of /proc/PID/stat")
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return 0, err
	}
	return time.Duration(user+system) * tick, nil
}

// schedTime sums the nanoseconds that each thread ran
// (/proc/PID/task/TID/schedstat). Threads that ended in between are lost, so
// it serves programs whose threads stay.
func schedTime(pid int) (time.Duration, error) {
	dir := fmt.Sprintf("/proc/%d/task", pid)
	threads, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, t := range threads {
		b, err := os.ReadFile(dir + "/" + t.Name() + "/schedstat")
		if err != nil {
			return 0, err
		}
		first, _, _ := strings.Cut(string(b), " ")
		ns, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(ns)
	}
	if sum == 0 {
		return 0, errors.New("the kernel keeps no scheduler statistics")
	}
	return sum, nil
}

// medians returns the median of each.
func medians(samples [][]float64) []float64 {
	out := make([]float64, len(samples))
	for i := range samples {
		out[i] = median(samples[i])
	}
	return out
}

// median returns the middle value; of an even number the mean of both.
func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	n := len(s)
	if n == 0 {
		return 0
	}
	if n%2 == 1 {
		return s[n/2]
	}
	return (s[n/2-1] + s[n/2]) / 2
}
