package upstream

import (
	"math"
	"slices"
)

// unit is the weight, of 1 in the configuration, that weights in a set are
// multiples of: a backend that starts slowly has a part of it.
const unit = 1024

// A seat is one backend that takes requests, and its share of them as of the
// moment the set was made.
type seat struct {
	*backend
	weight int64  // of the configuration, times unit, less what its start and its own word take away
	upTo   int64  // sum of the weights up to and including this one
	point  uint64 // where its name is among the hashes

	soft, hard int64 // limits of requests under way; a great number for none
}

// A set is the backends that take requests, as of one moment. Nobody changes
// it, so that requests read it without a lock.
type set struct {
	seats   []seat
	sum     int64
	even    bool  // all have the same weight
	limited bool  // some have a limit
	turns   turns // nil unless requests go round

	// desperate is every backend, well or not; nil while half of them or more
	// take requests.
	desperate *set
}

// newSet returns the set of seats whose backend and weight are given.
func newSet(seats []seat, round bool) *set {
	s := &set{seats: seats, even: true}
	for i := range seats {
		one := &seats[i]
		s.sum += one.weight
		one.upTo = s.sum
		one.point = hashString(one.name)
		s.even = s.even && one.weight == seats[0].weight
		s.limited = s.limited || one.soft < math.MaxInt64
	}
	if round {
		s.turns = newTurns(seats)
	}
	return s
}

// without returns the set without those backends.
func (s *set) without(tried []*backend) *set {
	left := slices.DeleteFunc(slices.Clone(s.seats), func(x seat) bool { return slices.Contains(tried, x.backend) })
	return newSet(left, s.turns != nil)
}

// draw returns a seat, each with a chance of its weight.
func (s *set) draw(random func(int) int) int {
	if s.even {
		return random(len(s.seats))
	}
	return s.find(int64(random(int(s.sum))))
}

// another is draw among all seats but one.
func (s *set) another(random func(int) int, not int) int {
	if s.even {
		i := random(len(s.seats) - 1)
		if i >= not {
			i++
		}
		return i
	}
	out := &s.seats[not]
	x := int64(random(int(s.sum - out.weight)))
	if x >= out.upTo-out.weight {
		x += out.weight
	}
	return s.find(x)
}

// find returns the seat whose part of the sum x is in.
func (s *set) find(x int64) int {
	low, high := 0, len(s.seats)-1
	for low < high {
		if mid := (low + high) / 2; s.seats[mid].upTo <= x {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low
}
