package fabric

import (
	"math"
	"sync"
	"time"

	"anyedge/internal/world"
)

const (
	// loadStep is the change of a load value that is told at once.
	loadStep = 0.05
	// maxRate bounds a load value (requests/s), and with it every sum: one that
	// is not finite would make the peers refuse the whole probe.
	maxRate = 1e12
	// nodeLoadAge is how long a silent node of this geo counts in its sum.
	nodeLoadAge = 2 * time.Second
)

// loads keeps what geos and the nodes of this one say of themselves.
type loads struct {
	geo string

	mu    sync.Mutex
	own   world.Load
	told  world.Load            // own, as it was when it last went out at once
	nodes map[string]world.Load // of the other nodes of this geo
	geos  map[string]world.Load // of other geos
}

func newLoads(geo string) *loads {
	return &loads{geo: geo, nodes: map[string]world.Load{}, geos: map[string]world.Load{}}
}

// set takes this node's load, and reports whether it should be told at once.
func (l *loads) set(now time.Time, v world.Load) bool {
	for _, p := range rates(&v) {
		if !(*p >= 0) || math.IsInf(*p, 0) {
			*p = 0
		}
		*p = min(*p, maxRate)
	}
	v.At = now
	l.mu.Lock()
	defer l.mu.Unlock()
	l.own = v
	old, news := l.told, false
	for i, p := range rates(&v) {
		was := *rates(&old)[i]
		news = news || math.Abs(*p-was) > loadStep*was || (*p == 0) != (was == 0)
	}
	if news {
		l.told = v
	}
	return news
}

// hear takes what a node said of itself or of its geo.
func (l *loads) hear(from Peer, v world.Load) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if from.Geo == l.geo {
		l.nodes[from.Node] = v
		return
	}
	l.geos[from.Geo] = v
}

// say returns what this node tells a peer: its own load inside its geo, the
// geo's sum to others.
func (l *loads) say(now time.Time, to Peer) world.Load {
	if to.Geo == l.geo {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.own
	}
	return l.sum(now)
}

// sum returns the load of this geo: its nodes' that spoke lately, added up. The
// capacity is unknown when that of one node is.
func (l *loads) sum(now time.Time) world.Load {
	l.mu.Lock()
	defer l.mu.Unlock()
	total := l.own
	known := total.Capacity > 0
	for _, n := range l.nodes {
		if now.Sub(n.At) > nodeLoadAge {
			continue
		}
		known = known && n.Capacity > 0
		for i, p := range rates(&n) {
			sum := rates(&total)[i]
			*sum = min(*sum+*p, maxRate)
		}
	}
	if !known {
		total.Capacity = 0
	}
	return total
}

// of returns what another geo said last.
func (l *loads) of(geo string) world.Load {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.geos[geo]
}

// rates returns the values of a load, in the order in which probes carry them.
func rates(l *world.Load) [8]*float64 {
	return [8]*float64{&l.Capacity, &l.Offered, &l.Served, &l.ShedOut, &l.ShedIn, &l.Budget, &l.Urgent, &l.Left}
}
