package upstream

// turns is whose turn it is, over and over.
type turns []uint16

// maxTurns bounds a round; weights are rounded to fit.
const maxTurns = 1 << 12

// newTurns spreads the seats over a round by their weights, as evenly as it
// goes: each time everybody gains its weight, the richest has the turn and pays
// the sum of all (nginx's smooth weighted round robin).
func newTurns(seats []seat) turns {
	weights := make([]int64, len(seats))
	var common, sum int64
	for i := range seats {
		weights[i] = seats[i].weight
		common = gcd(common, weights[i])
		sum += weights[i]
	}
	if sum == 0 {
		return nil
	}
	if rounds := sum / common; rounds <= maxTurns {
		sum = 0
		for i := range weights {
			weights[i] /= common
			sum += weights[i]
		}
	} else {
		before := sum
		sum = 0
		for i := range weights {
			weights[i] = max(1, weights[i]*maxTurns/before)
			sum += weights[i]
		}
	}
	out := make(turns, 0, sum)
	rich := make([]int64, len(seats))
	for range sum {
		best := 0
		for i := range rich {
			rich[i] += weights[i]
			if rich[i] > rich[best] {
				best = i
			}
		}
		rich[best] -= sum
		out = append(out, uint16(best))
	}
	return out
}

func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
