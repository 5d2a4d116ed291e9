package h3

import "time"

// What a peer may do within floodPeriod. The period is what lets a connection live
// that does little else for hours.
const (
	floodPeriod = 10 * time.Second
	maxTalk     = 1000 // frames and streams beside requests that ask for nothing
	maxResets   = 500  // streams that it gave up or broke, over those it let end
)

// A flood counts what a peer should do rarely.
type flood struct {
	count int
	since time.Time
}

// over counts once more and reports whether that is too much.
func (f *flood) over(most int) bool {
	if now := time.Now(); now.Sub(f.since) > floodPeriod {
		f.count, f.since = 0, now
	}
	f.count++
	return f.count > most
}
