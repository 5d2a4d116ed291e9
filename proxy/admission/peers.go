package admission

import (
	"iter"
	"maps"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// A peer is what the door knows of another geo, as a destination of our
// requests and as an origin of foreign ones.
type peer struct {
	out bucket // what we may send there
	in  bucket // what it may send us

	picked  atomic.Int64 // requests whose hash fell in its interval, ever
	relayed atomic.Int64 // sent there by shed, ever
	busy    atomic.Int64 // of relayed, refused there, ever

	mu      sync.Mutex // guards what was heard
	grant   float64
	grantAt time.Time
	want    float64
	urgent  bool
	wantAt  time.Time

	// Owned by whoever holds Door.mu.
	planned     float64 // requests/s
	width       float64 // correction of its interval
	seenPicked  int64
	seenRelayed int64
	avgPlanned  float64 // requests/s, smoothed
	avgPicked   float64
	avgRelayed  float64
}

// How the widths of intervals are corrected.
const (
	correctEvery = 100 * time.Millisecond
	smoothing    = 1500 * time.Millisecond
	gain         = 0.3  // of the relative error, per second
	tolerance    = 0.01 // of the planned rate: below it the borders rest
	maxWidth     = 4.0
	minWidth     = 0.25
)

// plan sets the planned rate.
func (p *peer) plan(rate float64) {
	p.planned = rate
	p.out.setRate(rate)
}

// correct widens or narrows the interval of p, slowly, until what is relayed
// over some seconds is what was planned: a few hundred clients never fill an
// interval evenly. The bucket cuts off what comes too fast, so a little more
// than planned has to fall into the interval; more than that would make its
// clients change places.
func (p *peer) correct(dt float64) {
	a := -math.Expm1(-dt / smoothing.Seconds())
	picked, relayed := p.picked.Load(), p.relayed.Load()
	p.avgPicked += a * (float64(picked-p.seenPicked)/dt - p.avgPicked)
	p.avgRelayed += a * (float64(relayed-p.seenRelayed)/dt - p.avgRelayed)
	p.avgPlanned += a * (p.planned - p.avgPlanned)
	p.seenPicked, p.seenRelayed = picked, relayed
	if p.planned <= 0 {
		if p.avgPlanned < 0.1 {
			p.width = 1
		}
		return
	}
	missing := 1 - p.avgRelayed/p.avgPlanned
	spare := p.avgPicked/p.avgPlanned - 1 - max(0.05, 2/(p.planned*burstTime.Seconds()+1))
	switch {
	case missing > tolerance:
		p.width *= 1 + gain*dt*min(missing, 0.5)
	case spare > 0:
		p.width *= 1 - gain*dt*min(spare, 0.5)
	}
	p.width = min(max(p.width, minWidth), maxWidth)
}

// peers is a set of peers that grows on first mention and is read without a
// lock.
type peers struct {
	m  atomic.Pointer[map[string]*peer]
	mu sync.Mutex // held while m is replaced
}

// get returns the peer of that name.
func (s *peers) get(geo string) *peer {
	if m := s.m.Load(); m != nil {
		if p := (*m)[geo]; p != nil {
			return p
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	next := map[string]*peer{}
	if m := s.m.Load(); m != nil {
		if p := (*m)[geo]; p != nil {
			return p
		}
		maps.Copy(next, *m)
	}
	p := &peer{width: 1}
	next[geo] = p
	s.m.Store(&next)
	return p
}

// all yields every peer by name.
func (s *peers) all() iter.Seq2[string, *peer] {
	m := s.m.Load()
	if m == nil {
		return func(func(string, *peer) bool) {}
	}
	return maps.All(*m)
}
