package h2

import "time"

// What a client may do within floodPeriod. The period is what lets a connection
// live that does little else for hours, such as PING.
const (
	floodPeriod = 10 * time.Second
	maxControl  = 1000 // frames that ask for nothing, without one that does and without content from us
	maxResets   = 500  // streams that it gave up or broke, over those it let end
	maxEnding   = 32   // handlers beyond the streams that it may have at once
	maxRefused  = 2000 // streams beyond those it may have at once: it may not have read our SETTINGS yet
)

// A flood counts what a client should do rarely.
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

// idleTalk counts a frame that asks for nothing.
func (c *conn) idleTalk() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.idled()
}

// idled is idleTalk; mu is held.
func (c *conn) idled() error {
	if c.control.over(maxControl) {
		return connError{enhanceYourCalm, "too many frames that ask for nothing"}
	}
	return nil
}

// gaveUp counts a stream that the client gave up, or broke; mu is held.
func (c *conn) gaveUp() error {
	if c.resets.over(maxResets) {
		return connError{enhanceYourCalm, "too many streams came to nothing"}
	}
	return nil
}
