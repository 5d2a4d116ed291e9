// Package cost finds out what an XDP program costs per packet.
//
// BPF_PROG_TEST_RUN with a repeat count feeds a program its own output, so a
// program that changes packets is measured on rubbish from the second run on.
// Here a wrapper restores the headers, writes the source of the next flow and
// tail-calls the program under test; the same wrapper around a program that
// does nothing gives what to take off. Time is the calling thread's CPU time.
//
// It judges nothing and is no part of edged; scripts/bench uses it.
package cost

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Runs is how many packets one sample is made of.
const Runs = 300_000

// A Bench holds the wrapper and the programs to compare with.
type Bench struct{ objs costObjects }

// Load puts them into the kernel.
func Load() (*Bench, error) {
	b := &Bench{}
	if err := loadCostObjects(&b.objs, nil); err != nil {
		return nil, fmt.Errorf("load the wrapper: %w", err)
	}
	return b, nil
}

// Close takes them out again.
func (b *Bench) Close() error { return b.objs.Close() }

// Nothing returns XDP_TX and does nothing else.
func (b *Bench) Nothing() *ebpf.Program { return b.objs.Nothing }

// Constant parses a TCP packet and puts a constant IPv4 header in front: what
// the simplest balancer with one server does.
func (b *Bench) Constant() *ebpf.Program { return b.objs.Constant }

// Sample returns the nanoseconds of CPU per packet, wrapper included, of prog
// over TCP packets like frame (Ethernet without tags, IPv4 or IPv6, at least 64
// bytes) from 1<<bits flows. It fails if the last verdict is not want.
func (b *Bench) Sample(prog *ebpf.Program, frame []byte, bits int, want uint32) (float64, error) {
	if len(frame) < 64 {
		return 0, errors.New("the frame is shorter than the 64 bytes that the wrapper restores")
	}
	f := costFrame{Len: uint32(len(frame)), Mask: 1<<bits - 1}
	copy(f.Bytes[:], frame)
	if err := b.objs.Frame.Set(f); err != nil {
		return 0, err
	}
	if err := b.objs.Target.Put(uint32(0), prog); err != nil {
		return 0, err
	}
	wrapper := b.objs.Feed4
	if frame[12] == 0x86 {
		wrapper = b.objs.Feed6
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, err := threadTime()
	if err != nil {
		return 0, err
	}
	verdict, _, err := wrapper.Benchmark(frame, Runs, nil)
	if err != nil {
		return 0, err
	}
	after, err := threadTime()
	if err != nil {
		return 0, err
	}
	if verdict != want {
		return 0, fmt.Errorf("verdict %d, want %d", verdict, want)
	}
	return float64(after-before) / Runs, nil
}

func threadTime() (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0, err
	}
	return time.Duration(t.Nano()), nil
}
