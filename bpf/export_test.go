package bpf

import "time"

// Flood is what tells too many packets from routes that moved.
type Flood struct{ f flood }

// See is flood.see.
func (f *Flood) See(now time.Time, count uint64) bool { return f.f.see(now, count) }

// On reports whether there is a flood.
func (f *Flood) On() bool { return !f.f.until.IsZero() }

// NetstatValue is netstatValue.
var NetstatValue = netstatValue
