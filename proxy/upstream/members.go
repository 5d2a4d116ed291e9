package upstream

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Update makes list the pool's backends. One that stays, by name and URL, keeps
// its state, its connections and its requests; one that goes takes no new request
// and finishes those under way. On an error nothing changes.
func (p *Pool) Update(list []BackendConfig) error {
	p.mu.Lock()
	p.waiting = false
	p.mu.Unlock()
	defer p.kick()
	return p.update(list)
}

func (p *Pool) update(list []BackendConfig) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	seen := map[string]bool{}
	members := make([]*backend, 0, len(list))
	for _, c := range list {
		if seen[c.Name] {
			errs = append(errs, fmt.Errorf("backend %s: the name is there twice", c.Name))
			continue
		}
		seen[c.Name] = true
		i := slices.IndexFunc(p.members, func(b *backend) bool { return b.cfg.same(c) })
		if i >= 0 {
			errs = append(errs, named(c.Name, c.Validate()))
			members = append(members, p.members[i])
			continue
		}
		b, err := newBackend(c, p.cfg)
		if err != nil {
			errs = append(errs, named(c.Name, err))
			continue
		}
		members = append(members, b)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for i, b := range members {
		b.cfg = list[i]
	}
	for _, b := range p.members {
		if !slices.Contains(members, b) {
			b.leftAt = time.Now()
			b.leaving.Store(true)
			p.left = append(p.left, b)
		}
	}
	p.members = members
	p.settle(time.Now())
	return nil
}

// same reports whether c and d are one instance, asked in the same way.
func (c BackendConfig) same(d BackendConfig) bool {
	c.Weight, c.Limit, c.Priority = d.Weight, d.Limit, d.Priority
	return c == d
}

func named(backend string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("backend %s: %w", backend, err)
}

// refresh makes the set and the counts follow what is known of the backends. It
// returns when something changes by itself.
func (p *Pool) refresh() time.Duration {
	p.mu.Lock()
	next := p.settle(time.Now())
	p.mu.Unlock()
	p.queue.serve(p)
	return next
}

// settle is refresh; mu is held.
func (p *Pool) settle(now time.Time) time.Duration {
	next := time.Hour
	var healthy, pending int64
	if p.waiting {
		pending++
	}
	var taking []*backend
	for _, b := range p.members {
		switch b.state() {
		case Healthy:
			healthy++
		case Unknown:
			pending++
		case Suspect, Unhealthy, Ejected:
		}
		if p.takes(b, now) {
			taking = append(taking, b)
		} else if !b.ejection.until.IsZero() {
			next = min(next, b.ejection.until.Sub(now))
		}
	}
	seats, moving := p.seats(taking, now)
	if len(seats) == 0 {
		p.serving = time.Time{}
	} else if p.serving.IsZero() {
		p.serving = now
	}
	if moving {
		next = min(next, shareStep)
	}
	for _, b := range p.left {
		if b.active.Load() == 0 {
			next = min(next, linger-now.Sub(b.leftAt))
		}
	}
	p.moving.Store(moving)
	p.publish(seats, len(taking), healthy, pending)
	return max(next, time.Millisecond)
}

// takes reports whether b takes requests, from now on if it did not; mu is held.
func (p *Pool) takes(b *backend, now time.Time) bool {
	if b.state() != Healthy || p.ejected(b, now) {
		b.taking, b.startedAt = false, time.Time{}
		return false
	}
	if !b.taking {
		p.begin(b, now)
	}
	return true
}

// seats returns those of the lowest priority with their shares, and whether those
// change by themselves; mu is held.
func (p *Pool) seats(taking []*backend, now time.Time) (seats []seat, moving bool) {
	if len(taking) == 0 {
		return nil, false
	}
	first := slices.MinFunc(taking, func(a, b *backend) int { return cmp.Compare(a.cfg.Priority, b.cfg.Priority) }).cfg.Priority
	for _, b := range taking {
		weight, moves := p.share(b, now)
		moving = moving || moves
		if b.cfg.Priority == first {
			seats = append(seats, b.seat(weight))
		}
	}
	return seats, moving
}

// publish stores a new set and counts, and tells of what changed; taking is how many
// could have a seat. mu is held.
func (p *Pool) publish(seats []seat, taking int, healthy, pending int64) {
	round := p.balance.way == balanceRound
	s := newSet(seats, round)
	if pending == 0 && 2*taking < len(p.members) {
		all := make([]seat, len(p.members))
		for i, b := range p.members {
			all[i] = b.seat(int64(max(b.cfg.Weight, 1)) * unit)
		}
		s.desperate = newSet(all, round)
	}
	before := p.set.Swap(s)
	changed := !slices.EqualFunc(before.seats, seats, func(a, b seat) bool { return a.backend == b.backend })
	changed = p.healthy.Swap(healthy) != healthy || changed
	changed = p.total.Swap(int64(len(p.members))) != int64(len(p.members)) || changed
	if (p.pending.Swap(pending) == 0) != (pending == 0) || changed {
		signal(p.changed)
	}
}

// Shares that change are looked at this often.
const shareStep = 100 * time.Millisecond

// firstShare is what a backend that starts slowly has at first; busyShare what
// is left to one that says that it is full.
const (
	firstShare = 0.1
	busyShare  = 0.1
)

// begin has b take requests: slowly, when others have done so for longer than
// that takes; mu is held.
func (p *Pool) begin(b *backend, now time.Time) {
	b.taking, b.startedAt = true, time.Time{}
	slow := or(p.cfg.SlowStart, DefaultSlowStart)
	if slow > 0 && !p.serving.IsZero() && now.Sub(p.serving) >= slow {
		b.startedAt = now
	}
}

// share returns the weight of b now, and whether it changes by itself; mu is
// held.
func (p *Pool) share(b *backend, now time.Time) (weight int64, moves bool) {
	w := float64(max(b.cfg.Weight, 1)) * unit
	if !b.startedAt.IsZero() {
		done := float64(now.Sub(b.startedAt)) / float64(or(p.cfg.SlowStart, DefaultSlowStart))
		if done < 1 {
			w, moves = w*max(firstShare, done), true
		} else {
			b.startedAt = time.Time{}
		}
	}
	if load := b.report.at(int64(now.Sub(p.began))); load > 0 {
		w, moves = w*max(busyShare, 1-load), true
	}
	return max(1, int64(w)), moves
}
