package message_test

import (
	"net/netip"
	"strings"
	"sync"
	"testing"

	"anyedge/internal/message"
)

// counted keeps something from one exchange to the next.
type counted struct {
	kept, gone int
}

func (c *counted) Reset() { *c = counted{kept: c.kept} }

// What an arena gives is what was put in, however much of it there is, and stays
// that while more is taken.
func TestArenaKeepsWhatItGave(t *testing.T) {
	for name, a := range map[string]*message.Arena{"pooled": message.NewArena(), "heap": nil} {
		t.Run(name, func(t *testing.T) {
			defer a.End()
			var want, got []string
			for i := range 300 {
				s := strings.Repeat(string(rune('a'+i%26)), i*7%3000)
				want = append(want, s)
				got = append(got, a.Copy([]byte(s)))
				want = append(want, s+","+s)
				got = append(got, a.Join(s, ",", s))
			}
			for i := range want {
				if got[i] != want[i] {
					t.Fatalf("string %d is %q, not %q", i, got[i], want[i])
				}
			}
			if s := a.Addr(netip.MustParseAddr("2001:db8::1")); s != "2001:db8::1" {
				t.Fatal(s)
			}
			if s := a.Text(nil); s != "" {
				t.Fatalf("%q", s)
			}
			// Bytes from elsewhere are taken over as they are.
			if s := a.Text([]byte("elsewhere")) + a.Copy([]byte("!")); s != "elsewhere!" {
				t.Fatalf("%q", s)
			}
		})
	}
}

// Headers of one arena do not run into each other, also where one grows over the
// place it was given.
func TestArenaFields(t *testing.T) {
	a := message.NewArena()
	defer a.End()
	first, second := a.Fields(2), a.Fields(200)
	for _, v := range []string{"1", "2", "3"} {
		first.Add("First", v)
		second.Add("Second", v)
	}
	third := a.Clone(first)
	third.Set("First", "changed")
	if first.Joined("first") != "1, 2, 3" || second.Joined("second") != "1, 2, 3" || third.Get("first") != "changed" {
		t.Fatal(first, second, third)
	}
	if a.Clone(nil) != nil {
		t.Fatal("the copy of no header is one")
	}
}

func TestArenaParts(t *testing.T) {
	a := message.NewArena()
	defer a.End()
	one, two, text := message.Part[counted](a), message.Part[counted](a), message.Part[string](a)
	if one == two || *text != "" || *message.Part[int](nil) != 0 {
		t.Fatal("a part was given twice, or is not empty")
	}
}

// What holders hold lives until the last one ends.
func TestArenaHold(t *testing.T) {
	a := message.NewArena()
	s := a.Copy([]byte("held"))
	a.Hold()
	var wg sync.WaitGroup
	wg.Go(func() {
		defer a.End()
		if s != "held" {
			t.Errorf("%q", s)
		}
	})
	a.End()
	wg.Wait()
}

// In a steady state an exchange takes no memory.
func TestArenaAllocatesNothing(t *testing.T) {
	if message.Poison {
		t.Skip("under the race detector nothing is used twice")
	}
	h := message.Header{{Name: "A", Value: "b"}}
	n := testing.AllocsPerRun(100, func() {
		a := message.NewArena()
		defer a.End()
		message.Part[message.Life](a).Begin(a)
		r := message.Part[message.Request](a)
		r.Header, r.Arena = a.Clone(h), a
		r.Header.Add("Forwarded", a.Join("for=", a.Addr(netip.IPv6Unspecified())))
		c := message.Part[counted](r.Clone().Arena)
		if c.gone != 0 {
			t.Fatal("the part is not as Reset left it")
		}
		c.gone++
	})
	if n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

// Whoever reads too late sees it, in tests.
func TestArenaIsOverwritten(t *testing.T) {
	if !message.Poison {
		t.Skip("only under the race detector")
	}
	a := message.NewArena()
	s, h := strings.Clone(a.Copy([]byte("text"))), a.Clone(message.Header{{Name: "A", Value: "b"}})
	late := a.Copy([]byte("text"))
	part := message.Part[message.Request](a)
	part.Method = "GET"
	kept := message.NewArena()
	forgotten := kept.Copy([]byte("text"))
	kept.Forget()
	kept.End()
	a.End()
	if s != "text" || forgotten != "text" {
		t.Fatalf("a copy, or what an arena forgot, was overwritten: %q, %q", s, forgotten)
	}
	if late == "text" || h.Get("A") != "" || part.Method != "" {
		t.Fatalf("%q, %v, %q are still there", late, h, part.Method)
	}
}
