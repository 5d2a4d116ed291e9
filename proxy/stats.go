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

// stats are the counts of a service's last seconds.
type stats struct {
	mu    sync.Mutex
	since time.Time
	slots [window + 1]slot // by unix second
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
	failed   bool
	moved    bool // served elsewhere by the edge's own decision
}

func (s *stats) observe(now time.Time, one sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	slot := s.slot(now)
	slot.requests++
	if one.failed {
		slot.failed++
	}
	if one.moved {
		slot.moved++
	}
	if one.answered {
		slot.latency[latencyBucket(one.took)]++
	}
}

// replayed counts an instruction.
func (s *stats) replayed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slot(time.Now()).replays++
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
