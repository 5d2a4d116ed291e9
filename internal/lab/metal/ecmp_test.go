//go:build !race

package metal_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"anyedge/internal/api"
	"anyedge/internal/lab"
	"anyedge/internal/lab/metal"
)

// busy are connections that ask something every now and then, for as long as
// they live.
type busy struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex
	asked  int
	broken []string
}

const busyConns = 100

// open opens the connections of clients in eu, half of them over IPv6.
func open(t *testing.T, l *metal.Lab) *busy {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	b := &busy{cancel: cancel}
	var opened sync.WaitGroup
	for i := range busyConns {
		c := l.Client("eu", metal.VIPs()[i%2], lab.H1)
		opened.Add(1)
		b.wg.Go(func() {
			defer c.Close()
			if r := c.Get(ctx, "/"); r.Err != nil {
				t.Errorf("connection %d: %v", i, r.Err)
			}
			opened.Done()
			b.ask(ctx, c)
		})
	}
	opened.Wait()
	t.Cleanup(b.close)
	return b
}

// ask uses one connection until it breaks.
func (b *busy) ask(ctx context.Context, c *lab.Client) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		r := c.Get(ctx, "/")
		if ctx.Err() != nil {
			return
		}
		b.mu.Lock()
		b.asked++
		if r.Err != nil || r.Fresh {
			why := "it was closed"
			if r.Err != nil {
				why = r.Err.Error()
			}
			b.broken = append(b.broken, why)
			b.mu.Unlock()
			return
		}
		b.mu.Unlock()
	}
}

func (b *busy) close() {
	b.cancel()
	b.wg.Wait()
}

// after lets all connections ask several times, and returns how many have broken
// so far.
func (b *busy) after(t *testing.T) int {
	t.Helper()
	b.mu.Lock()
	from := b.asked
	b.mu.Unlock()
	begin := time.Now()
	within(t, 20*time.Second, "the connections ask", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return time.Since(begin) > time.Second && b.asked-from > 5*(busyConns-len(b.broken))
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := len(b.broken); n > 0 {
		t.Logf("the last to break: %s", b.broken[n-1])
	}
	return len(b.broken)
}

// ring waits until fra's ring is stable with both edges, and returns it.
func ring(t *testing.T, l *metal.Lab) *api.L4Ring {
	t.Helper()
	var last *api.L4Ring
	within(t, 20*time.Second, "fra's ring", func() bool {
		for _, name := range []string{"fra-edge1", "fra-edge2"} {
			l4, err := l.Edge(name).Ask().L4(t.Context())
			if err != nil || l4.Ring == nil || l4.Ring.Phase != "stable" || len(l4.Ring.Members) != 2 {
				return false
			}
			for _, m := range l4.Ring.Members {
				if m.Follows < l4.Ring.Generation {
					return false
				}
			}
			last = l4.Ring
		}
		return true
	})
	return last
}

// session takes fra-edge2's session away and gives it back.
func session(t *testing.T, l *metal.Lab, b *busy) (lost, back int) {
	t.Helper()
	within(t, 20*time.Second, "both edges are next hops", func() bool { return paths(t, l) == 2 })
	if err := l.BreakSession("fra-edge2"); err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, "one edge is left", func() bool { return paths(t, l) == 1 })
	lost = b.after(t)
	if err := l.Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	within(t, 20*time.Second, "both edges are next hops again", func() bool { return paths(t, l) == 2 })
	return lost, b.after(t) - lost
}

// TestConnectionsWithoutPacketPath shows what ECMP alone does to connections.
func TestConnectionsWithoutPacketPath(t *testing.T) {
	l := up(t, metal.Options{Unlimited: true})
	b := open(t, l)
	lost, back := session(t, l, b)
	t.Logf("of %d busy connections over ECMP, %d broke when the router lost its session to one edge, %d more when it was back", busyConns, lost, back)
	if lost == 0 {
		t.Error("none broke: the routers spread nothing, so that this lab shows nothing")
	}
}

// TestConnectionsSurvive: with the packet path, no change of routes or ring
// breaks a connection.
func TestConnectionsSurvive(t *testing.T) {
	l := up(t, metal.Options{L4: "native", Drain: 2 * time.Second, Unlimited: true})
	r := ring(t, l)
	t.Logf("ring: %+v", r)
	b := open(t, l)
	lost, back := session(t, l, b)
	t.Logf("of %d busy connections over ECMP, %d broke when the router lost its session to one edge, %d more when it was back", busyConns, lost, back)
	if lost+back > 0 {
		t.Errorf("%d connections broke", lost+back)
	}

	// A ring change and back.
	edge := l.Edge("fra-edge1").Ask()
	order := api.DrainRequest{Kind: "node", Name: "fra-edge2", Reason: "test"}
	if _, err := edge.Drain(t.Context(), order); err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, "fra-edge2 owns nothing", func() bool {
		l4, err := edge.L4(t.Context())
		return err == nil && l4.Ring.Phase == "drain" && len(l4.Ring.Members) == 2 && l4.Ring.Members[1].Other
	})
	if _, err := edge.Undrain(t.Context(), order); err != nil {
		t.Fatal(err)
	}
	ring(t, l)
	if n := b.after(t) - lost - back; n > 0 {
		t.Errorf("%d connections broke when the ring changed and changed back", n)
	}
	before := b.after(t)

	// A machine is cut off, and is back: what the others have stays.
	if err := l.PullCable("fra-edge2"); err != nil {
		t.Fatal(err)
	}
	pulled := time.Now()
	within(t, 20*time.Second, "the router gives it up", func() bool { return paths(t, l) == 1 })
	// Clients whose segments got lost send them again up to 6.4 s after the first one.
	within(t, 20*time.Second, "all have sent again", func() bool { return time.Since(pulled) > 8*time.Second })
	gone := b.after(t)
	if err := l.Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	within(t, 30*time.Second, "both edges are next hops again", func() bool { return paths(t, l) == 2 })
	ring(t, l)
	more := b.after(t) - gone
	t.Logf("%d connections broke while a cable was out, %d when it was back", gone-before, more)
	if more > 0 {
		t.Errorf("%d connections broke that were on the other machine", more)
		for _, name := range []string{"fra-edge1", "fra-edge2"} {
			events, err := l.Edge(name).Ask().Events(t.Context(), 0, time.Time{}, 0)
			for _, e := range events.Events {
				t.Logf("%s: %s %s: %s", name, e.At.Format("05.000"), e.What, e.Text)
			}
			if err != nil {
				t.Log(err)
			}
		}
	}
	l4, err := l.Edge("fra-edge1").Ask().L4(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("fra-edge1: %+v", l4)
}
