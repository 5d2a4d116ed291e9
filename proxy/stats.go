package proxy

import (
	"math"
	"sync"
	"time"
)

// window is how far back the statistics of a service look.
const window = 10

// The latency histogram has buckets that grow by a fifth, from 0.1 ms to more
// than a minute; a percentile is off by at most half of that.
const (
	latencyBuckets = 76
	latencyFirst   = 100 * time.Microsecond
	latencyGrowth  = 1.2
)

// stats are the counts of a service or a backend: of its last seconds, and of all
// time.
type stats struct {
	mu    sync.Mutex
	since time.Time
	slots [window + 1]slot // by unix second
	ever  Totals
}

// Totals are counts since the start.
type Totals struct {
	Answers  [6]uint64 // by class of their status; 0: the client left before
	Shed     uint64    // of Answers, those served elsewhere, by why
	Failover uint64
	Replay   uint64
	Replays  uint64 // instructions
	Took     Histogram
}

// Bounds are the upper bounds of a Histogram, in seconds.
var Bounds = [...]float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}

// A Histogram counts the times to the first byte of apps' answers.
type Histogram struct {
	Counts [len(Bounds) + 1]uint64 // of those up to each bound and above the one before
	Sum    time.Duration
}

func (h *Histogram) observe(d time.Duration) {
	i, s := 0, d.Seconds()
	for i < len(Bounds) && s > Bounds[i] {
		i++
	}
	h.Counts[i]++
	h.Sum += d
}

// slot is one second.
type slot struct {
	second   int64
	requests int
	failed   int
	replays  int
	moved    int
	latency  [latencyBuckets]int32
}

// A sample is one request.
type sample struct {
	took     time.Duration // to the first byte of the answer
	answered bool          // by an app: an edge's own refusals are no latency
	status   int
	hop      hop // why another geo served it; "" for this one
}

func (s *stats) observe(now time.Time, one sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	slot := s.slot(now)
	slot.requests++
	if one.status >= 500 {
		slot.failed++
	}
	s.ever.count(one)
	if one.hop == hopShed || one.hop == hopFailover {
		slot.moved++
	}
	if one.answered {
		slot.latency[latencyBucket(one.took)]++
		s.ever.Took.observe(one.took)
	}
}

// count counts one request.
func (t *Totals) count(one sample) {
	if class := one.status / 100; class < len(t.Answers) {
		t.Answers[class]++
	}
	switch one.hop {
	case hopShed:
		t.Shed++
	case hopFailover:
		t.Failover++
	case hopReplay:
		t.Replay++
	}
}

// gone counts a client that left before its answer.
func (s *stats) gone() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ever.Answers[0]++
}

// totals returns the counts of all time.
func (s *stats) totals() Totals {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ever
}

// replayed counts an instruction.
func (s *stats) replayed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slot(time.Now()).replays++
	s.ever.Replays++
}

// slot returns the slot of now. The caller holds mu.
func (s *stats) slot(now time.Time) *slot {
	if s.since.IsZero() {
		s.since = now
	}
	second := now.Unix()
	one := &s.slots[second%int64(len(s.slots))]
	if one.second != second {
		*one = slot{second: second}
	}
	return one
}

func latencyBucket(d time.Duration) int {
	if d <= latencyFirst {
		return 0
	}
	i := int(math.Ceil(math.Log(float64(d)/float64(latencyFirst)) / math.Log(latencyGrowth)))
	return min(i, latencyBuckets-1)
}

// A summary is what the last seconds came to.
type summary struct {
	rate      float64 // requests/s
	errorRate float64 // share of answers that are 5xx
	replayed  float64 // requests/s
	moved     float64 // requests/s
	samples   int     // of latency
	p50, p99  time.Duration
}

func (s *stats) summary(now time.Time) summary {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all slot
	first := now.Unix() - window + 1
	for i := range s.slots {
		one := &s.slots[i]
		if one.second < first || one.second > now.Unix() {
			continue
		}
		all.requests += one.requests
		all.failed += one.failed
		all.replays += one.replays
		all.moved += one.moved
		for b, n := range one.latency {
			all.latency[b] += n
		}
	}
	span := min(now.Sub(time.Unix(first, 0)), now.Sub(s.since)).Seconds()
	span = max(span, 1)
	sum := summary{
		rate:     float64(all.requests) / span,
		replayed: float64(all.replays) / span,
		moved:    float64(all.moved) / span,
	}
	if all.requests > 0 {
		sum.errorRate = float64(all.failed) / float64(all.requests)
	}
	for _, n := range all.latency {
		sum.samples += int(n)
	}
	sum.p50, sum.p99 = all.percentile(sum.samples, 0.50), all.percentile(sum.samples, 0.99)
	return sum
}

// percentile returns the middle of the bucket that the share p of samples
// reaches.
func (s *slot) percentile(samples int, p float64) time.Duration {
	rank := int32(math.Ceil(float64(samples) * p))
	for b, n := range s.latency {
		if rank -= n; rank <= 0 && samples > 0 {
			return time.Duration(float64(latencyFirst) * math.Pow(latencyGrowth, float64(b)-0.5))
		}
	}
	return 0
}
