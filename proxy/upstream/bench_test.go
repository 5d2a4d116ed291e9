package upstream_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"anyedge/proxy/upstream"
)

// BenchmarkChoose is what a choice among backends costs a request, by way and
// number of backends.
func BenchmarkChoose(b *testing.B) {
	for _, way := range []string{"p2c", "ewma", "round_robin", "hash(header:X-User)"} {
		for _, n := range []int{3, 100} {
			weights := slices.Repeat([]int{1}, n)
			weights[0] = 2
			c := upstream.NewChooser(way, names(n), weights, rand.IntN)
			r := user("somebody")
			b.Run(fmt.Sprintf("%s/%d", way, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					c.Choose(r, false)
				}
			})
		}
	}
}
