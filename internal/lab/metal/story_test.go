//go:build !race

package metal_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"anyedge/internal/api"
	"anyedge/internal/lab"
	"anyedge/internal/lab/metal"
)

// A story is a lab with steady clients in it, and what they saw.
type story struct {
	t       *testing.T
	l       *metal.Lab
	streams []*namedStream
	rows    []string
}

type namedStream struct {
	name string
	*metal.Stream
	kept bool // connections are kept: what breaks is printed
	mark lab.Mark
}

// tell starts the steady clients: 200 new connections a second over IPv4, 50 over
// IPv6, and some that keep theirs.
func tell(t *testing.T, l *metal.Lab) *story {
	t.Helper()
	s := &story{t: t, l: l}
	for _, c := range []struct {
		name string
		cfg  metal.StreamConfig
	}{
		{"h1 new v4", metal.StreamConfig{VIP: metal.VIPs()[0], Protocol: lab.H1, Rate: 200}},
		{"h1 new v6", metal.StreamConfig{VIP: metal.VIPs()[1], Protocol: lab.H1, Rate: 50}},
		{"h1 keep", metal.StreamConfig{VIP: metal.VIPs()[0], Protocol: lab.H1, Rate: 20, Keep: true, Clients: 10}},
		{"h2 keep", metal.StreamConfig{VIP: metal.VIPs()[1], Protocol: lab.H2, Rate: 20, Keep: true, Clients: 10}},
	} {
		c.cfg.Region = "eu"
		s.streams = append(s.streams, &namedStream{name: c.name, kept: c.cfg.Keep, Stream: l.Stream(c.cfg)})
	}
	t.Cleanup(func() {
		for _, x := range s.streams {
			x.Stop()
		}
	})
	return s
}

// begin starts counting; end notes what was seen since, and returns how many
// requests on connections of their own failed.
func (s *story) begin() time.Time {
	for _, x := range s.streams {
		x.mark = x.Mark()
	}
	return time.Now()
}

func (s *story) end(step, note string) (failed int) {
	s.t.Helper()
	row := fmt.Sprintf("%-28s", step)
	for _, x := range s.streams {
		n := x.Since(x.mark)
		for _, f := range x.Failures(x.mark.At) {
			if !x.kept {
				failed++
			}
			s.t.Logf("%s: %s: began %s after the step, took %s: %v", step, x.name, ms(f.At.Sub(x.mark.At)), ms(f.Took), f.Err)
		}
		row += fmt.Sprintf("  %-10s", fmt.Sprintf("%d/%d", n.Failed, n.Sent))
		if n.Late > 0 {
			s.t.Logf("%s: %s: %d requests were late: this machine was busy", step, x.name, n.Late)
		}
	}
	s.rows = append(s.rows, row+"  "+note)
	return failed
}

// print writes the table.
func (s *story) print() {
	head := fmt.Sprintf("%-28s", "failed/sent")
	for _, x := range s.streams {
		head += fmt.Sprintf("  %-10s", x.name)
	}
	s.t.Logf("\n%s\n%s\n", head, strings.Join(s.rows, "\n"))
}

// routes prints what a router has for the VIP, and returns it.
func (s *story) routes(router, family string) string {
	s.t.Helper()
	text, err := s.l.Routes(router, family)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Logf("%s, %s:\n%s", router, family, text)
	return text
}

// table waits until a router's table has some words, or has them no more, and
// prints it.
func (s *story) table(router, family, words string, there bool) {
	s.t.Helper()
	what := fmt.Sprintf("router %s, %s, has %q: %t", router, family, words, there)
	within(s.t, 20*time.Second, what, func() bool {
		text, err := s.l.Routes(router, family)
		return err == nil && strings.Contains(text, words) == there
	})
	s.routes(router, family)
}

// enters waits until new connections from eu over both families enter a geo.
func (s *story) enters(geo string) time.Duration {
	s.t.Helper()
	begin := time.Now()
	for _, vip := range metal.VIPs() {
		within(s.t, 30*time.Second, "clients in eu enter "+geo, func() bool {
			c := s.l.Client("eu", vip, lab.H1)
			defer c.Close()
			r := c.Get(s.t.Context(), "/")
			return r.Err == nil && r.Entered() == geo
		})
	}
	return time.Since(begin)
}

// steady lets the clients go on for a while.
func (s *story) steady(d time.Duration) {
	begin := time.Now()
	within(s.t, d+10*time.Second, "some time", func() bool { return time.Since(begin) > d })
}

// home waits until everything is as at the beginning.
func (s *story) home() {
	s.t.Helper()
	if err := s.l.Heal(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	s.enters("fra")
	within(s.t, 30*time.Second, "both edges of fra are next hops", func() bool { return paths(s.t, s.l) == 2 })
	ring(s.t, s.l)
	s.steady(500 * time.Millisecond)
}

// do runs one step: what happens, what is waited for, and how many requests may
// fail (-1: any number).
func (s *story) do(step string, allowed int, happen func() error, seen func() string) {
	s.t.Helper()
	s.begin()
	if err := happen(); err != nil {
		s.t.Fatal(err)
	}
	note := seen()
	s.steady(time.Second)
	if failed := s.end(step, note); allowed >= 0 && failed > allowed {
		s.t.Errorf("%s: %d requests failed", step, failed)
	}
}

// fraPath is the AS path by which iad's router knows what fra announces.
const fraPath = "64600 64601 65010"

// TestStory breaks things in turn, under steady clients, and prints what real
// routers and clients saw.
func TestStory(t *testing.T) {
	l := up(t, metal.Options{L4: "native", Drain: 2 * time.Second, Unlimited: true})
	ring(t, l)
	s := tell(t, l)
	defer s.print()
	s.routes("fra", "ipv4")
	s.routes("iad", "ipv6")
	s.do("nothing", 0, func() error { return nil }, func() string { s.enters("fra"); return "served by fra" })

	s.do("the backends of fra die", 0,
		func() error { return errJoin(l.BreakBackend("fra-a"), l.BreakBackend("fra-b")) },
		func() string {
			took := s.enters("iad")
			s.table("fra", "ipv4", "[edge", false) // after vips.drain.wait
			s.table("iad", "ipv6", fraPath, false)
			return "clients enter iad after " + ms(took)
		})
	s.do("they return", 0, func() error { s.home(); return nil }, func() string {
		s.table("fra", "ipv4", "[edge2", true)
		s.table("iad", "ipv6", fraPath, true)
		return "clients enter fra"
	})

	fra1, fra2 := l.Edge("fra-edge1"), l.Edge("fra-edge2")
	var killed time.Time
	s.do("one edge of fra: SIGKILL", -1,
		func() error { killed = time.Now(); return l.KillProcess("fra-edge2") },
		func() string { s.steady(2 * time.Second); return s.promised(killed) })
	s.home()

	s.do("an operator drains one edge", 0,
		func() error { return order(t, fra1, fra1.Ask().Drain, "node", "fra-edge2") },
		func() string {
			took := within(t, 20*time.Second, "one edge is left", func() bool { return paths(t, l) == 1 })
			return "its routes are gone after " + ms(took)
		})
	s.do("and takes it back", 0,
		func() error { return order(t, fra1, fra1.Ask().Undrain, "node", "fra-edge2") },
		func() string { s.home(); return "" })

	s.do("an operator drains fra", 0,
		func() error { return order(t, fra1, fra1.Ask().Drain, "geo", "fra") },
		func() string { return "clients enter iad after " + ms(s.enters("iad")) })
	s.table("fra", "ipv6", "[edge", false)
	s.do("and takes it back", 0,
		func() error { return order(t, fra2, fra2.Ask().Undrain, "geo", "fra") },
		func() string { s.home(); s.table("fra", "ipv6", "[edge2", true); return "" })

	s.do("all of fra: SIGKILL", -1,
		func() error {
			killed = time.Now()
			return errJoin(l.KillProcess("fra-edge1"), l.KillProcess("fra-edge2"))
		},
		func() string { s.enters("iad"); s.steady(time.Second); return s.promised(killed) })
	s.home()

	s.do("a machine of fra dies", -1,
		func() error { killed = time.Now(); return l.KillNode("fra-edge2") },
		func() string {
			took := within(t, 20*time.Second, "the router gives it up", func() bool { return paths(t, l) == 1 })
			s.steady(4 * time.Second) // until the last request has timed out
			return "the router gave it up after " + ms(took) + "; " + s.moved(killed)
		})
	s.home()

	s.do("a cable of fra is pulled", -1,
		func() error { killed = time.Now(); return l.PullCable("fra-edge2") },
		func() string {
			took := within(t, 20*time.Second, "the router gives it up", func() bool { return paths(t, l) == 1 })
			s.steady(4 * time.Second) // until the last request has timed out
			return "the router gave it up after " + ms(took) + "; " + s.moved(killed)
		})
	s.home()

	s.do("fra and iad lose each other", 0,
		func() error { return l.BreakLink("fra", "iad", 1) },
		func() string {
			return "seen after " + ms(within(t, 10*time.Second, "the partition is seen", func() bool {
				g, err := fra1.Ask().Geos(t.Context())
				return err == nil && stateOf(g, "iad") == "unseen"
			}))
		})
	s.do("it heals", 0, func() error { return l.Heal(t.Context()) }, func() string {
		return "seen after " + ms(within(t, 10*time.Second, "iad is seen again", func() bool {
			g, err := fra1.Ask().Geos(t.Context())
			return err == nil && stateOf(g, "iad") == "up"
		}))
	})
}

// last returns how long after an event clients still noticed it: when the last
// of their requests on new connections began that failed.
func (s *story) last(since time.Time) time.Duration {
	worst := time.Duration(0)
	for _, x := range s.streams[:2] {
		worst = max(worst, x.LastFailure(since))
	}
	return worst
}

func (s *story) moved(since time.Time) string {
	return "the last request that failed began " + ms(s.last(since)) + " after it"
}

// promised is moved for the death of a process, which may be noticed for half a
// second.
func (s *story) promised(since time.Time) string {
	if worst := s.last(since); worst > 500*time.Millisecond {
		s.t.Errorf("new connections still failed %s after a process's death", ms(worst))
	}
	return s.moved(since)
}

func stateOf(g api.Geos, name string) string {
	for _, x := range g.Geos {
		if x.Name == name {
			return x.State
		}
	}
	return ""
}

// order gives an order by the API, as edgectl does.
func order(t *testing.T, _ *metal.Edge, send func(context.Context, api.DrainRequest) (api.DrainReply, error), kind, name string) error {
	t.Helper()
	_, err := send(t.Context(), api.DrainRequest{Kind: kind, Name: name, Reason: "the story"})
	return err
}

func errJoin(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
