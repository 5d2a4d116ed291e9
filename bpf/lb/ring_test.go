package lb_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"anyedge/bpf/lb"
)

// quotaSlack allows for changes of less than 2 %: the quotas' cut moves a few
// buckets that would not have to.
const quotaSlack = lb.Buckets / 500

func count(r *lb.Ring) map[string]int {
	out := map[string]int{}
	for b := range lb.Buckets {
		out[r.Owner(uint16(b))]++
	}
	return out
}

func moved(a, b *lb.Ring) int {
	n := 0
	for i := range lb.Buckets {
		if a.Owner(uint16(i)) != b.Owner(uint16(i)) {
			n++
		}
	}
	return n
}

// least is the number of buckets that must move between two distributions.
func least(a, b map[string]int) int {
	n := 0
	for name, want := range b {
		n += max(0, want-a[name])
	}
	return n
}

func members(t *rapid.T) []lb.Member {
	n := rapid.IntRange(1, 12).Draw(t, "members")
	equal := rapid.Bool().Draw(t, "equal")
	var out []lb.Member
	for i := range n {
		w := 100
		if !equal {
			w = rapid.IntRange(20, 400).Draw(t, "weight")
		}
		out = append(out, lb.Member{Name: fmt.Sprintf("n%d-%d", rapid.IntRange(0, 999).Draw(t, "name"), i), Weight: uint32(w)})
	}
	return out
}

func mustRing(t *rapid.T, ms []lb.Member) *lb.Ring {
	r, err := lb.NewRing(ms)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRingSharesExactly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ms := members(t)
		r := mustRing(t, ms)
		total := 0
		for _, m := range ms {
			total += int(m.Weight)
		}
		got := count(r)
		for _, m := range ms {
			share := float64(m.Weight) / float64(total) * lb.Buckets
			if d := float64(got[m.Name]) - share; d <= -1 || d >= 1 {
				t.Fatalf("%s has %d buckets, its share is %.2f", m.Name, got[m.Name], share)
			}
		}
		shuffled := rapid.Permutation(ms).Draw(t, "order")
		if n := moved(r, mustRing(t, shuffled)); n != 0 {
			t.Fatalf("%d buckets depend on the order of the members", n)
		}
		for b := range lb.Buckets {
			if len(ms) > 1 && r.Second(uint16(b)) == r.Owner(uint16(b)) {
				t.Fatalf("bucket %d: second choice is the owner", b)
			}
		}
	})
}

// TestRingMovesLittle adds a member, removes one or changes one weight.
func TestRingMovesLittle(t *testing.T) {
	worst := 1.0
	rapid.Check(t, func(t *rapid.T) {
		before := members(t)
		after := slices.Clone(before)
		i := rapid.IntRange(0, len(after)-1).Draw(t, "which")
		switch rapid.SampledFrom([]string{"add", "remove", "weight"}).Draw(t, "change") {
		case "add":
			after = append(after, lb.Member{Name: "new", Weight: uint32(rapid.IntRange(20, 400).Draw(t, "new weight"))})
		case "remove":
			if len(after) > 1 {
				after = slices.Delete(after, i, i+1)
			}
		case "weight":
			after[i].Weight = uint32(rapid.IntRange(20, 400).Draw(t, "new weight"))
		}
		a, b := mustRing(t, before), mustRing(t, after)
		need, got := least(count(a), count(b)), moved(a, b)
		if float64(got) > 1.1*float64(need)+quotaSlack {
			t.Fatalf("%d buckets moved, %d had to\n%v\n%v", got, need, before, after)
		}
		if need > lb.Buckets/20 {
			worst = max(worst, float64(got)/float64(need))
		}
	})
	t.Logf("worst ratio of moves to necessary moves, changes above 5 %%: %.3f", worst)
}

func TestRingRefuses(t *testing.T) {
	for name, ms := range map[string][]lb.Member{
		"nobody":    nil,
		"no weight": {{Name: "a"}},
		"twice":     {{Name: "a", Weight: 1}, {Name: "a", Weight: 2}},
	} {
		if _, err := lb.NewRing(ms); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestRingStaysTheSame pins one ring: nodes of two versions must agree.
func TestRingStaysTheSame(t *testing.T) {
	r, err := lb.NewRing([]lb.Member{{Name: "fra-1", Weight: 100}, {Name: "fra-2", Weight: 50}, {Name: "fra-3", Weight: 25}})
	if err != nil {
		t.Fatal(err)
	}
	h := uint32(2166136261)
	for b := range lb.Buckets {
		for _, c := range []byte(r.Owner(uint16(b)) + r.Second(uint16(b))) {
			h = (h ^ uint32(c)) * 16777619
		}
	}
	if want := uint32(0x98606aa); h != want {
		t.Errorf("fingerprint %#x, want %#x", h, want)
	}
}

func BenchmarkRing32(b *testing.B) {
	var ms []lb.Member
	for i := range 32 {
		ms = append(ms, lb.Member{Name: fmt.Sprintf("node-%d", i), Weight: 100})
	}
	for b.Loop() {
		if _, err := lb.NewRing(ms); err != nil {
			b.Fatal(err)
		}
	}
}
