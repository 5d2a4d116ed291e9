package upstream

import (
	"math"
	"sync"
	"time"
)

// A budget bounds how much load repeated requests add: a share of the requests of
// the last seconds, and a little more for services with few of them. It earns as
// requests are given to backends and forgets what is older than its memory, so
// that a quiet hour does not save up for a storm.
type budget struct {
	share float64

	mu       sync.Mutex // guards what follows
	tokens   float64
	at       time.Time
	requests int64 // ever, as of at
}

const (
	budgetMemory = 10 * time.Second
	budgetFree   = 1.0 // a second, whatever the requests
)

func (b *budget) begin(share float64, now time.Time) {
	b.share, b.at = share, now
	if share > 0 {
		b.tokens = budgetFree * budgetMemory.Seconds()
	}
}

// take takes a token; false: there is none. requests is how many there have been.
func (b *budget) take(now time.Time, requests int64) bool {
	if b.share <= 0 {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	// Between two calls requests came evenly, as far as anybody knows: what they
	// earned has been fading for half that time on average.
	age := max(0, now.Sub(b.at)).Seconds()
	earned := b.share*float64(max(0, requests-b.requests)) + budgetFree*age
	x := age / budgetMemory.Seconds()
	kept := math.Exp(-x)
	if x > 0 {
		earned *= (1 - kept) / x
	}
	b.tokens = b.tokens*kept + earned
	b.at, b.requests = now, max(b.requests, requests)
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
