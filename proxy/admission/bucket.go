package admission

import (
	"sync"
	"time"
)

// A bucket lets through rate requests/s and bursts of a fifth of a second, at
// least two. Its zero value lets nothing through.
type bucket struct {
	mu     sync.Mutex
	rate   float64
	tokens float64
	last   time.Time
}

// burstTime is how much of its rate a bucket holds.
const burstTime = 200 * time.Millisecond

// setRate changes the rate; time since the last take counts at the new one.
func (b *bucket) setRate(rate float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rate = rate
	b.tokens = min(b.tokens, b.burst())
}

// take takes one request's worth and reports whether there was enough.
func (b *bucket) take(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rate <= 0 {
		return false
	}
	if b.last.IsZero() {
		b.tokens = b.burst()
		b.last = now
	}
	// A clock that two callers read may step back a little between them.
	if dt := now.Sub(b.last); dt > 0 {
		b.tokens = min(b.burst(), b.tokens+dt.Seconds()*b.rate)
		b.last = now
	}
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

func (b *bucket) burst() float64 { return max(2, b.rate*burstTime.Seconds()) }
