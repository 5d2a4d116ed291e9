package steering

import (
	"math"
	"time"
)

// The two-speed rate estimator (seconds, sigmas, shares).
const (
	fastTau  = 0.3
	slowTau  = 3.0
	snapSig  = 4.0  // the fast one takes over when they differ by that many sigmas
	snapRel  = 0.10 // and at least by that share
	snapTime = 0.2  // for this long: two ticks
	follow   = 0.6  // and then leads until it has settled: two of its time constants
)

// A Rate estimates the rate of a Poisson source from counts over intervals of
// any length. A slow mean gives little noise; a fast one takes over when both
// differ by more than chance allows. The zero Rate has seen nothing.
type Rate struct {
	Fast, Slow float64 // events/s
	Window     float64 // seconds of counting behind Slow
	Deviant    float64 // seconds that both have differed
	Follow     float64 // seconds for which Slow still is Fast
}

// add counts n events in dt.
func (r Rate) add(n int, dt time.Duration) Rate {
	sec := dt.Seconds()
	if sec <= 0 || n < 0 {
		return r
	}
	x := float64(n) / sec
	r.Window = math.Min(2*slowTau, r.Window+sec)
	// With little behind it, a mean is a plain average: of what it has seen.
	r.Fast += math.Max(1-math.Exp(-sec/fastTau), math.Min(1, sec/r.Window)) * (x - r.Fast)
	r.Slow += math.Max(1-math.Exp(-sec/slowTau), math.Min(1, sec/r.Window)) * (x - r.Slow)

	sigma := math.Sqrt(math.Max(r.Slow, 1) / (2 * fastTau))
	if math.Abs(r.Fast-r.Slow) > math.Max(snapSig*sigma, snapRel*r.Slow) {
		r.Deviant += sec
	} else {
		r.Deviant = 0
	}
	if r.Deviant >= snapTime-tickSlack {
		r.Follow = follow
	} else {
		r.Follow = math.Max(0, r.Follow-sec)
	}
	if r.Follow > 0 {
		r.Slow = r.Fast
		r.Window = math.Min(r.Window, 2*fastTau)
	}
	return r
}

// sigma is the standard deviation of Slow.
func (r Rate) sigma() float64 {
	return math.Sqrt(math.Max(r.Slow, 1) / math.Max(r.Window, 0.05))
}

// tickSlack lets two ticks that came a little early count as two (seconds).
const tickSlack = 0.02

// mean moves m towards n/dt with a time constant of one second.
func mean(m float64, n int, dt time.Duration) float64 {
	sec := dt.Seconds()
	if sec <= 0 {
		return m
	}
	return m + (1-math.Exp(-sec))*(float64(n)/sec-m)
}
