package upstream

import (
	"math"
	"sync/atomic"
	"time"
)

// A latency is a backend's recent time to an answer, quick to rise and slow to
// fall: a sample above it counts at once, one below it by its age (Peak EWMA, as
// Finagle has it). Without samples it falls to nothing, so that a backend that was
// slow is tried again. The zero value has none yet.
type latency struct {
	nanos atomic.Uint64 // float64 bits
	last  atomic.Int64  // nanoseconds of the pool's clock
}

// memory is the time after which a sample counts for 1/e.
const memory = 10 * time.Second

// unseen is what a backend counts as before its first answer: it gets a little,
// not everything at once.
const unseen = float64(time.Millisecond)

// at returns the latency in nanoseconds as of now.
func (l *latency) at(now int64) float64 {
	v := math.Float64frombits(l.nanos.Load())
	if v == 0 {
		return unseen
	}
	return v * math.Exp(-float64(max(0, now-l.last.Load()))/float64(memory))
}

// observe takes one sample.
func (l *latency) observe(now int64, took time.Duration) {
	sample := max(1, float64(took))
	age := max(0, now-l.last.Swap(now))
	keep := math.Exp(-float64(age) / float64(memory))
	for {
		old := l.nanos.Load()
		v := math.Float64frombits(old)
		if v == 0 || sample > v {
			v = sample
		} else {
			v = v*keep + sample*(1-keep)
		}
		if l.nanos.CompareAndSwap(old, math.Float64bits(v)) {
			return
		}
	}
}

// failed takes a try without an answer: the backend counts as twice as slow as
// it was, however quickly it failed.
func (l *latency) failed(now int64, took time.Duration) {
	l.observe(now, max(took, min(time.Duration(2*l.at(now)), time.Minute)))
}
