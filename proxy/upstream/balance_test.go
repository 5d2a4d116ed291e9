package upstream_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"anyedge/internal/message"
	"anyedge/proxy/upstream"

	"pgregory.net/rapid"
)

func names(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("shop-%d", i))
	}
	return out
}

func user(key string) *message.Request {
	r := request("GET", "")
	r.Header.Add("X-User", key)
	return r
}

// A backend that goes takes only its own keys along, and one that comes takes
// keys from others and moves nothing between them; with weights, too.
func TestHashMovesTheLeast(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 12).Draw(t, "backends")
		all := names(n)
		weights := rapid.SliceOfN(rapid.IntRange(1, 50), n, n).Draw(t, "weights")
		gone := rapid.IntRange(0, n-1).Draw(t, "gone")
		whole := upstream.NewChooser("hash(header:X-User)", all, weights, nil)
		less := upstream.NewChooser("hash(header:X-User)",
			slices.Delete(slices.Clone(all), gone, gone+1), slices.Delete(slices.Clone(weights), gone, gone+1), nil)
		for _, key := range rapid.SliceOfN(rapid.String(), 50, 50).Draw(t, "keys") {
			if key == "" {
				continue
			}
			before, after := whole.Choose(user(key), false), less.Choose(user(key), false)
			if before != all[gone] && after != before {
				t.Fatalf("%q moved from %s to %s when %s went", key, before, after, all[gone])
			}
		}
	})
}

// However skewed the keys are, no backend has more than its share and a quarter
// under way.
func TestHashBoundsLoad(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 8).Draw(t, "backends")
		even := make([]int, n)
		for i := range even {
			even[i] = 1
		}
		c := upstream.NewChooser("hash(header:X-User)", names(n), even, nil)
		keys := rapid.IntRange(1, 3).Draw(t, "keys")
		requests := rapid.IntRange(1, 300).Draw(t, "requests")
		for i := range requests {
			c.Choose(user(fmt.Sprint(i%keys)), true)
		}
		for _, active := range c.Active() {
			if most := 1.25*float64(requests)/float64(n) + 1; float64(active) > most {
				t.Fatalf("%d of %d under way at one of %d backends, want at most %.1f", active, requests, n, most)
			}
		}
	})
}

func TestHashSharesByWeight(t *testing.T) {
	c := upstream.NewChooser("hash(path)", names(3), []int{1, 3, 6}, nil)
	got := map[string]float64{}
	const keys = 20000
	for i := range keys {
		r := request("GET", "")
		r.Target = fmt.Sprintf("/%d?%d", i, i)
		got[c.Choose(r, false)] += 1.0 / keys
	}
	for i, want := range []float64{0.1, 0.3, 0.6} {
		if share := got[names(3)[i]]; share < want-0.02 || share > want+0.02 {
			t.Errorf("backend %d has %.3f of the keys, want %.1f", i, share, want)
		}
	}
}

// What the hash is made of: two requests that agree on it share a backend,
// whatever else they have; one that lacks it is spread.
func TestHashKeys(t *testing.T) {
	with := func(target string, client string, fields ...message.Field) *message.Request {
		r := request("GET", "")
		r.Target, r.Header = target, fields
		if client != "" {
			r.Peer = netip.AddrPortFrom(netip.MustParseAddr(client), 1)
		}
		return r
	}
	cookies := func(v string) message.Field { return message.Field{Name: "cookie", Value: v} }
	for _, tt := range []struct {
		balance string
		a, b    *message.Request
		same    bool
	}{
		{"hash(client)", with("/a", "192.0.2.1"), with("/b", "192.0.2.1"), true},
		{"hash(client)", with("/a", ""), with("/a", ""), false},
		{"hash(path)", with("/a?1", "192.0.2.1"), with("/a?2", "192.0.2.2"), true},
		{"hash(header:X-User)", with("/a", "", message.Field{Name: "x-user", Value: "u"}), with("/b", "", message.Field{Name: "X-USER", Value: "u"}), true},
		{"hash(header:X-User)", with("/a", ""), with("/a", ""), false},
		{"hash(cookie:sid)", with("/a", "", cookies("a=1; sid=7;b=2")), with("/b", "", cookies("x"), cookies("sid=7")), true},
		{"hash(cookie:sid)", with("/a", "", cookies("SID=7; xsid=7")), with("/a", "", cookies("SID=7; xsid=7")), false},
	} {
		seeded := rand.New(rand.NewPCG(5, 6))
		c := upstream.NewChooser(tt.balance, names(50), slices.Repeat([]int{1}, 50), seeded.IntN)
		same := true
		for range 20 {
			same = same && c.Choose(tt.a, false) == c.Choose(tt.b, false)
		}
		if same != tt.same {
			t.Errorf("%s: %v and %v at one backend: %v", tt.balance, tt.a.Header, tt.b.Header, same)
		}
	}
}

func TestParseBalance(t *testing.T) {
	for _, s := range []string{
		"p2", "hash", "hash()", "hash(client", "hash(client:x)", "hash(header)", "hash(header:)",
		"hash(header:a b)", "hash(cookie:a=b)", "hash(query:a)", "least_conn", "hash(client))",
	} {
		if upstream.ParseBalance(s) == nil {
			t.Errorf("%q was taken", s)
		}
	}
	for _, s := range []string{"", "p2c", "ewma", "round_robin", "hash(client)", "hash(path)", "hash(header:X-A)", "hash(cookie:sid)"} {
		if err := upstream.ParseBalance(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
}

// In every round each backend has exactly its weight of turns, spread over the
// round.
func TestRoundRobin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.IntRange(1, 20), 1, 10).Draw(t, "weights")
		c := upstream.NewChooser("round_robin", names(len(weights)), weights, nil)
		sum := 0
		for _, w := range weights {
			sum += w
		}
		got := map[string]int{}
		for turn := 1; turn <= sum; turn++ {
			got[c.Choose(request("GET", ""), false)]++
			for i, n := range names(len(weights)) {
				due := float64(turn) * float64(weights[i]) / float64(sum)
				if off := float64(got[n]) - due; off < -float64(len(weights)) || off > float64(len(weights)) {
					t.Fatalf("%s had %d of %d turns of %v", n, got[n], turn, weights)
				}
			}
		}
		for i, n := range names(len(weights)) {
			if got[n] != weights[i] {
				t.Fatalf("%s had %d turns of %v", n, got[n], weights)
			}
		}
	})
}

// Weights that make too long a round are rounded; nobody is forgotten.
func TestRoundRobinIsBounded(t *testing.T) {
	c := upstream.NewChooser("round_robin", names(3), []int{1, 32749, 65521}, nil)
	got := map[string]int{}
	for range upstream.MaxTurns + 3 {
		got[c.Choose(request("GET", ""), false)]++
	}
	if got["shop-0"] == 0 || got["shop-2"] < 2*got["shop-1"]-10 || got["shop-2"] > 2*got["shop-1"]+10 {
		t.Errorf("%v", got)
	}
}

// The shares of p2c follow any weights.
func TestDrawByWeight(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.IntRange(1, 9), 2, 6).Draw(t, "weights")
		seeded := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		c := upstream.NewChooser("p2c", names(len(weights)), weights, seeded.IntN)
		sum := 0
		for _, w := range weights {
			sum += w
		}
		got := map[string]int{}
		const n = 4000
		for range n {
			got[c.Choose(request("GET", ""), false)]++
		}
		for i, name := range names(len(weights)) {
			want := float64(weights[i]) / float64(sum)
			if share := float64(got[name]) / n; share < want-0.05 || share > want+0.05 {
				t.Fatalf("%s of %v has %.3f, want %.3f", name, weights, share, want)
			}
		}
	})
}

// A slow backend gets a small part of what a quick one gets, by requests under
// way as well as by latency.
func TestSlowBackendGetsLess(t *testing.T) {
	for _, balance := range []string{"p2c", "ewma"} {
		t.Run(balance, func(t *testing.T) {
			quick := startServer(t, hello)
			slow := startServer(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/healthz" {
					select {
					case <-time.After(20 * time.Millisecond):
					case <-r.Context().Done():
					}
				}
				_, _ = io.WriteString(w, "hello")
			})
			p := startReported(t, upstream.Config{Backends: backends(quick.addr, slow.addr), Health: once(), Balance: balance})
			load(t, p, 8, 2000)
			s := p.Status()
			if s[1].Requests*3 > s[0].Requests {
				t.Errorf("the slow one got %d requests, the quick one %d", s[1].Requests, s[0].Requests)
			}
			if balance == "ewma" && s[1].Latency < s[0].Latency {
				t.Errorf("latencies: %s slow, %s quick", s[1].Latency, s[0].Latency)
			}
		})
	}
}

// A backend that fails at once is not taken for a quick one.
func TestFailingQuicklyIsNotQuick(t *testing.T) {
	addr := listen(t, func(net.Conn) {})
	seeded := rand.New(rand.NewPCG(7, 8))
	p := startReported(t, upstream.Config{
		Backends: backends(addr, addr), Balance: "ewma", Random: seeded.IntN,
		Dial: fakes(func(name string) (*message.Response, error) {
			if name == "a" {
				return &message.Response{Status: 500}, nil
			}
			return &message.Response{Status: 204}, nil
		}),
	})
	for range 500 {
		if _, err := ask(t.Context(), p, request("GET", "")); err != nil {
			t.Fatal(err)
		}
	}
	if s := p.Status(); s[0].Requests > 50 {
		t.Errorf("the failing one got %d of 500", s[0].Requests)
	}
}

// What a backend says of its load, in a field or a trailer field, weighs at
// once, and less with time.
func TestReportedLoad(t *testing.T) {
	addr := listen(t, func(net.Conn) {})
	var word message.Header
	trailer := false
	answer := func(name string) (*message.Response, error) {
		resp := &message.Response{Status: 200, Body: io.NopCloser(strings.NewReader("x"))}
		if name == "a" && trailer {
			resp.Trailer = func() message.Header { return word }
		} else if name == "a" {
			resp.Header = word
		}
		return resp, nil
	}
	for _, tt := range []struct {
		text    string
		trailer bool
		want    float64
	}{
		{"0.75", false, 0.75},
		{"1", true, 1},
		{"1.01", false, 0},
		{"NaN", false, 0},
		{"-0.5", false, 0},
		{"busy", true, 0},
	} {
		word, trailer = message.Header{{Name: "edge-load", Value: tt.text}}, tt.trailer
		p := startReported(t, upstream.Config{Backends: backends(addr, addr), Dial: fakes(answer), Random: func(int) int { return 0 }})
		if _, err := ask(t.Context(), p, request("GET", "")); err != nil {
			t.Fatal(err)
		}
		s := p.Status()[0]
		if s.Load > tt.want || s.Load < tt.want*0.9 {
			t.Errorf("%q: load %v", tt.text, s.Load)
		}
		if want := max(0.1, 1-s.Load); s.Share < want-0.01 || s.Share > want+0.01 {
			t.Errorf("%q: share %v, want %v", tt.text, s.Share, want)
		}
	}
}
