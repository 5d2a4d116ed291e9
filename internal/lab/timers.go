package lab

import (
	"fmt"
	"time"
)

// Timers are the demo's own, so that its story fits into two minutes. Real
// edges take ten times as long before they believe what they see.
type Timers struct {
	Check     time.Duration // between two health checks of a backend
	Rise      time.Duration // the gate holds this long before an announce
	Fall      time.Duration // the gate fails this long before a withdraw
	HoldUp    time.Duration // no announce this soon after start
	HoldDown  time.Duration // no announce this soon after a withdraw
	DrainWait time.Duration // from disfavor to withdraw
}

func demoTimers() Timers {
	return Timers{
		Check:     250 * time.Millisecond,
		Rise:      time.Second,
		Fall:      500 * time.Millisecond,
		HoldUp:    time.Second,
		HoldDown:  2 * time.Second,
		DrainWait: 2 * time.Second,
	}
}

// String lists the timers for the screen.
func (t Timers) String() string {
	return fmt.Sprintf("check %s, rise %s, fall %s, hold up %s, hold down %s, drain wait %s",
		t.Check, t.Rise, t.Fall, t.HoldUp, t.HoldDown, t.DrainWait)
}
