package upstream

import "slices"

// pick returns the backend for the next try: of two drawn by weight, the one
// with fewer requests under way for its weight; the one drawn first when they
// are equal. nil: every healthy backend was tried.
func (p *Pool) pick(tried []*backend) *backend {
	left := *p.usable.Load()
	if len(tried) > 0 {
		left = slices.DeleteFunc(slices.Clone(left), func(b *backend) bool { return slices.Contains(tried, b) })
	}
	switch len(left) {
	case 0:
		return nil
	case 1:
		return left[0]
	}
	first := p.draw(left, nil)
	second := p.draw(left, first)
	if second.load(first.weight) < first.load(second.weight) {
		return second
	}
	return first
}

// load returns the requests under way, times the other's weight: comparing two
// such products compares requests per weight.
func (b *backend) load(other int) int64 { return b.active.Load() * int64(other) }

// draw returns a backend other than not, each with a chance of its weight.
func (p *Pool) draw(from []*backend, not *backend) *backend {
	sum := 0
	for _, b := range from {
		if b != not {
			sum += b.weight
		}
	}
	n := p.cfg.Random(sum)
	for _, b := range from {
		if b == not {
			continue
		}
		if n -= b.weight; n < 0 {
			return b
		}
	}
	return from[len(from)-1]
}
