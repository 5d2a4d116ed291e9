package configs

import (
	"fmt"
	"slices"
	"strings"
)

// suggestion returns ` (did you mean "x"?)` for the candidate nearest to got,
// "" when none is near.
func suggestion(got string, candidates []string) string {
	if best, ok := nearest(got, candidates); ok {
		return fmt.Sprintf(" (did you mean %q?)", best)
	}
	return ""
}

// nearest returns the candidate with the smallest edit distance to got, if it
// is small enough to be a slip: a third of the letters, at most three.
func nearest(got string, candidates []string) (string, bool) {
	if len(got) < 2 {
		return "", false
	}
	limit := min(max(len(got)/3, 1), 3)
	best, found := "", false
	for _, c := range slices.Sorted(slices.Values(candidates)) {
		if d := distance(strings.ToLower(got), c, limit); d <= limit && (d < limit || !found) {
			best, limit, found = c, d, true
		}
	}
	return best, found
}

// distance counts the letters to insert, remove, replace or swap with their
// neighbor to make b of a (optimal string alignment). It returns limit+1 early
// when the lengths alone exceed limit.
func distance(a, b string, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	row := func() []int { return make([]int, len(b)+1) }
	before, last, now := row(), row(), row()
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		now[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			now[j] = min(last[j]+1, now[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				now[j] = min(now[j], before[j-2]+1)
			}
		}
		before, last, now = last, now, before
	}
	return last[len(b)]
}
