package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// heapRoom is how much the heap may grow between two collections, at least, in
// bytes: a small heap would else be collected hundreds of times a second under
// load, for a few megabytes each.
const heapRoom = 64 << 20

// Bounds of the growth in percent of what lives: 100 is Go's own.
const (
	minGCPercent = 100
	maxGCPercent = 3200
)

// roomyHeap gives the heap its room, from each collection to the next. An operator
// who sets GOGC decides himself.
func roomyHeap() {
	if os.Getenv("GOGC") != "" {
		return
	}
	adjust := func() {
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(live)
		debug.SetGCPercent(gcPercent(live[0].Value.Uint64()))
	}
	adjust()
	// A finalizer runs after each collection that finds its object dead.
	var again func(*[16]byte)
	again = func(*[16]byte) {
		adjust()
		runtime.SetFinalizer(new([16]byte), again)
	}
	runtime.SetFinalizer(new([16]byte), again)
}

// gcPercent returns the growth that gives live bytes their room.
func gcPercent(live uint64) int {
	if live == 0 {
		return minGCPercent
	}
	return int(min(max(heapRoom*100/live, minGCPercent), maxGCPercent))
}
