package upstream

import (
	"context"
	"math"
	"net/netip"

	"anyedge/internal/message"
)

// take chooses a backend that is none of tried and counts the request as under
// way there. When all are at their hard limit a first try queues; one that comes
// again does not, for a pool that is full is no place for that.
func (p *Pool) take(ctx context.Context, r *message.Request, who Asker, tried []*backend, again bool) (*backend, error) {
	s := p.set.Load()
	if s.desperate != nil && who != nil && who.Alone() {
		s = s.desperate
		p.counts.panicked.Add(1)
	}
	if len(tried) > 0 {
		s = s.without(tried)
	}
	if len(s.seats) == 0 {
		return nil, ErrNoBackend
	}
	if again && p.queue.waiting.Load() > 0 {
		return nil, ErrBusy
	}
	var client netip.Addr
	if who != nil {
		client = who.Client()
	}
	if !s.limited {
		b := s.seats[p.choose(s, r, client)].backend
		b.active.Add(1)
		return b, nil
	}
	if p.queue.waiting.Load() == 0 {
		if b := p.room(s, r, client); b != nil {
			return b, nil
		}
	}
	if again {
		return nil, ErrBusy
	}
	return p.enqueue(ctx, r, client)
}

// room returns the chosen backend if it is below its soft limit, else the least
// busy one below its own, else the least busy one below its hard limit; nil: there
// is none. The request counts as under way there.
func (p *Pool) room(s *set, r *message.Request, client netip.Addr) *backend {
	x := &s.seats[p.choose(s, r, client)]
	if x.enter(x.soft) {
		return x.backend
	}
	for _, limit := range []func(*seat) int64{
		func(x *seat) int64 { return x.soft },
		func(x *seat) int64 { return x.hard },
	} {
		for x := s.idlest(limit); x != nil; x = s.idlest(limit) {
			if x.enter(limit(x)) {
				return x.backend
			}
		}
	}
	return nil
}

// idlest returns the seat with the fewest requests under way for its weight
// among those below limit.
func (s *set) idlest(limit func(*seat) int64) *seat {
	var best *seat
	least := math.Inf(1)
	for i := range s.seats {
		x := &s.seats[i]
		n := x.active.Load()
		if load := float64(n) / float64(x.weight); n < limit(x) && load < least {
			best, least = x, load
		}
	}
	return best
}

// release ends a request at b.
func (p *Pool) release(b *backend) {
	left := b.active.Add(-1)
	if p.queue.waiting.Load() > 0 {
		p.queue.serve(p)
	}
	if left == 0 && b.leaving.Load() {
		p.kick()
	}
}
