package upstream

import "math"

// overfull is how many times its share of the requests under way a backend may
// have before a key of its own goes to the next one (Mirrokni, Thorup and
// Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2016).
const overfull = 1.25

// byHash returns the seat of a key by weighted rendezvous hashing: each backend
// draws a score from the key and its name, the highest has it. So a backend that
// comes takes its share from all others and nothing else moves, and only the keys
// of one that goes are dealt out anew. A backend that is too full is passed over.
func (s *set) byHash(key uint64) int {
	var active int64
	for i := range s.seats {
		active += s.seats[i].active.Load()
	}
	room := overfull * float64(active+1) / float64(s.sum) // per weight
	first, ceiling := -1, math.Inf(1)
	for range s.seats {
		i := s.highest(key, ceiling)
		if i < 0 {
			break
		}
		if first < 0 {
			first = i
		}
		x := &s.seats[i]
		if float64(x.active.Load()) < math.Ceil(room*float64(x.weight)) {
			return i
		}
		ceiling = x.score(key)
	}
	return first
}

// highest returns the seat with the highest score below ceiling, -1 for none.
func (s *set) highest(key uint64, ceiling float64) int {
	best, most := -1, math.Inf(-1)
	for i := range s.seats {
		if score := s.seats[i].score(key); score > most && score < ceiling {
			best, most = i, score
		}
	}
	return best
}

// score is the draw of one backend for a key: -w/ln(u), with u uniform in (0,1),
// is the highest with a chance of w among all.
func (x *seat) score(key uint64) float64 {
	u := (float64(mix(key^x.point)>>11) + 0.5) / (1 << 53)
	return -float64(x.weight) / math.Log(u)
}

// hashString is FNV-1a, mixed: the same in every process, so that all edges of
// a geo agree.
func hashString(s string) uint64 {
	h := uint64(fnvOffset)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * fnvPrime
	}
	return mix(h)
}

// hashBytes is hashString.
func hashBytes(b []byte) uint64 {
	h := uint64(fnvOffset)
	for _, c := range b {
		h = (h ^ uint64(c)) * fnvPrime
	}
	return mix(h)
}

const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

// mix spreads every bit over all others.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
