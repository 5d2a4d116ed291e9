package lb

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"math/bits"
	"slices"
)

// Buckets is how many parts a ring has; a flow's hash picks one.
const Buckets = 1 << 16

// A Member is one candidate for a ring's buckets.
type Member struct {
	Name   string
	Weight uint32 // share relative to the others; 0 takes nothing
}

// A Ring says which member owns each bucket. It is a pure function of its
// members, in whatever order they come and on whatever machine, so that all
// nodes of a geo compute the same one.
//
// Buckets and members are matched stably by weighted rendezvous scores, each
// member up to its exact quota: the largest-remainder share of all buckets.
type Ring struct {
	names  []string // sorted
	owner  [Buckets]uint16
	second [Buckets]uint16
}

// Owner returns the member that owns bucket b.
func (r *Ring) Owner(b uint16) string { return r.names[r.owner[b]] }

// Second returns the member that scores next for bucket b: the likely owner
// once the present one is gone. With a single member it is Owner.
func (r *Ring) Second(b uint16) string { return r.names[r.second[b]] }

// Count returns how many buckets each member owns.
func (r *Ring) Count() map[string]int {
	of := make([]int, len(r.names))
	for _, i := range r.owner {
		of[i]++
	}
	out := make(map[string]int, len(of))
	for i, n := range of {
		out[r.names[i]] = n
	}
	return out
}

// NewRing matches buckets to members. It refuses an empty ring, a repeated
// name and more than 1,023 members.
func NewRing(members []Member) (*Ring, error) {
	ms := slices.DeleteFunc(slices.Clone(members), func(m Member) bool { return m.Weight == 0 })
	slices.SortFunc(ms, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
	if len(ms) == 0 {
		return nil, errors.New("ring: no member has a weight")
	}
	if len(ms) > maxServers {
		return nil, fmt.Errorf("ring: %d members, at most %d fit", len(ms), maxServers)
	}
	r := &Ring{}
	for i, m := range ms {
		if i > 0 && ms[i-1].Name == m.Name {
			return nil, fmt.Errorf("ring: member %q is named twice", m.Name)
		}
		r.names = append(r.names, m.Name)
	}
	newMatching(ms).run(r)
	return r, nil
}

// A matching is the state of deferred acceptance (Gale and Shapley, 1962):
// each bucket asks its members best score first; a member that has more than
// its quota turns the worst away, which then asks its next.
type matching struct {
	seed   []uint64
	weight []uint64
	quota  []int
	log    *[logCells + 1]uint32
	held   [][]bid // per member, a heap with the worst bid on top
}

// A bid is a bucket's score at a member; smaller is better.
type bid struct {
	score  uint64
	bucket uint16
}

func (a bid) worse(b bid) bool {
	return a.score > b.score || a.score == b.score && a.bucket > b.bucket
}

func newMatching(ms []Member) *matching {
	m := &matching{log: logTable(), quota: quotas(ms), held: make([][]bid, len(ms))}
	for i := range ms {
		h := fnv.New64a()
		_, _ = h.Write([]byte(ms[i].Name))
		m.seed = append(m.seed, mix(h.Sum64()))
		m.weight = append(m.weight, uint64(ms[i].Weight))
		m.held[i] = make([]bid, 0, m.quota[i]+1)
	}
	return m
}

func (m *matching) run(r *Ring) {
	for b := range Buckets {
		best, next := m.firstTwo(uint16(b))
		r.owner[b], r.second[b] = uint16(best), uint16(next)
		m.place(uint16(b), best)
	}
	for i, bids := range m.held {
		for _, b := range bids {
			r.owner[b.bucket] = uint16(i)
		}
	}
	for b := range Buckets {
		if r.second[b] == r.owner[b] { // the best one had no room
			r.second[b] = uint16(m.firstBut(uint16(b), int(r.owner[b])))
		}
	}
}

// place gives the bucket to the member, and whatever that displaces to the
// next one.
func (m *matching) place(bucket uint16, member int) {
	for {
		in := bid{m.score(bucket, member), bucket}
		m.push(member, in)
		if len(m.held[member]) <= m.quota[member] {
			return
		}
		out := m.pop(member)
		bucket, member = out.bucket, m.after(out.bucket, out.score, member)
	}
}

// score is rendezvous hashing's -log2(u)/weight with u uniform in (0,1], in
// integers, because floating point may differ between processors.
func (m *matching) score(bucket uint16, member int) uint64 {
	u := mix(m.seed[member] + uint64(bucket)*0x9e3779b97f4a7c15)
	return (negLog2(m.log, u) << 26) / m.weight[member]
}

// mix spreads x over all bits.
func mix(x uint64) uint64 {
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	return x ^ x>>32
}

func (m *matching) firstTwo(bucket uint16) (best, next int) {
	var bestScore, nextScore uint64
	best, next = -1, -1
	for i := range m.seed {
		switch s := m.score(bucket, i); {
		case best < 0 || s < bestScore:
			next, nextScore = best, bestScore
			best, bestScore = i, s
		case next < 0 || s < nextScore:
			next, nextScore = i, s
		}
	}
	if next < 0 {
		next = best
	}
	return best, next
}

func (m *matching) firstBut(bucket uint16, not int) int {
	best, bestScore := not, uint64(0)
	for i := range m.seed {
		if s := m.score(bucket, i); i != not && (best == not || s < bestScore) {
			best, bestScore = i, s
		}
	}
	return best
}

// after returns the member that the bucket prefers next behind the one that
// turned it away with the given score.
func (m *matching) after(bucket uint16, score uint64, member int) int {
	best, bestScore := -1, uint64(0)
	for i := range m.seed {
		s := m.score(bucket, i)
		behind := s > score || s == score && i > member
		if behind && (best < 0 || s < bestScore) {
			best, bestScore = i, s
		}
	}
	return best
}

func (m *matching) push(member int, b bid) {
	m.held[member] = append(m.held[member], b)
	h := m.held[member]
	for i := len(h) - 1; i > 0 && h[i].worse(h[(i-1)/2]); i = (i - 1) / 2 {
		h[i], h[(i-1)/2] = h[(i-1)/2], h[i]
	}
}

func (m *matching) pop(member int) bid {
	h := m.held[member]
	top, last := h[0], len(h)-1
	h[0] = h[last]
	h = h[:last]
	for i := 0; ; {
		c := 2*i + 1
		if c+1 < len(h) && h[c+1].worse(h[c]) {
			c++
		}
		if c >= len(h) || !h[c].worse(h[i]) {
			break
		}
		h[i], h[c] = h[c], h[i]
		i = c
	}
	m.held[member] = h
	return top
}

// quotas shares the buckets by weight, the rest by largest remainder and then
// by name.
func quotas(ms []Member) []int {
	var total uint64
	for _, m := range ms {
		total += uint64(m.Weight)
	}
	type rest struct {
		member int
		left   uint64
	}
	out, rests, given := make([]int, len(ms)), make([]rest, len(ms)), 0
	for i, m := range ms {
		share := uint64(m.Weight) * Buckets
		out[i] = int(share / total)
		rests[i] = rest{i, share % total}
		given += out[i]
	}
	slices.SortStableFunc(rests, func(a, b rest) int { return cmp.Compare(b.left, a.left) })
	for _, r := range rests[:Buckets-given] {
		out[r.member]++
	}
	return out
}

const (
	logBits  = 12
	logCells = 1 << logBits
	logOne   = 1 << 30 // the fixed-point 1
)

// logTable holds log2(1 + i/4096) as fixed-point numbers, found bit by bit by
// squaring.
func logTable() *[logCells + 1]uint32 {
	var t [logCells + 1]uint32
	for i := range logCells {
		x := uint64(logCells+i) << (62 - logBits) // 1.0 is 1<<62
		for bit := uint32(logOne >> 1); bit > 0; bit >>= 1 {
			hi, lo := bits.Mul64(x, x)
			x = hi<<2 | lo>>62
			if x >= 1<<63 {
				x >>= 1
				t[i] |= bit
			}
		}
	}
	t[logCells] = logOne
	return &t
}

// negLog2 returns -log2((u|1) / 2^64) with 30 fraction bits.
func negLog2(t *[logCells + 1]uint32, u uint64) uint64 {
	u |= 1
	zeros := bits.LeadingZeros64(u)
	m := u << (zeros + 1) // the fraction behind the leading 1
	i := m >> (64 - logBits)
	part := m << logBits >> 34 // 30 bits
	lo, hi := uint64(t[i]), uint64(t[i+1])
	log := lo + (hi-lo)*part>>30
	return uint64(zeros+1)*logOne - log
}
