package fabric_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"testing"
	"time"

	"anyedge/fabric"
	"anyedge/internal/message"
	"anyedge/internal/world"
)

func TestThreeNodesSeeEachOther(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 0, "fra", "iad", "nrt")
	f.start("fra")
	alone := f.nodes["fra"]
	w := alone.World()
	if len(w.Geos) != 3 || w.Self().Name != "fra" || !w.Self().Alive || w.Find("iad").Alive || !w.Find("nrt").Heard.IsZero() {
		t.Fatalf("the world of a node alone: %+v", w)
	}
	f.start("iad", "nrt")
	within(t, "full view", f.fullView)
	within(t, "same records", f.sameVersions)

	for _, n := range f.nodes {
		w := n.World()
		if w.Self().Name != n.geo || w.Node != n.name {
			t.Errorf("%s: self is %s", n.name, w.Self().Name)
		}
		for _, p := range n.Peers() {
			if p.State != fabric.Up || p.RTT <= 0 || p.Software != "test" || p.Conns == 0 || p.BytesIn == 0 {
				t.Errorf("%s: peer %+v", n.name, p)
			}
		}
	}

	fra, iad := f.nodes["fra"], f.nodes["iad"]
	within(t, "record change seen by all", func() bool {
		return recordOf(iad, "fra-edge1").Services["web"].Healthy == 1
	})
	fra.publish(2)
	for _, geo := range []string{"iad", "nrt"} {
		within(t, "record change seen by "+geo, func() bool {
			return recordOf(f.nodes[geo], "fra-edge1").Services["web"].Healthy == 2
		})
	}
	fra.SetLoad(world.Load{Capacity: 300, Offered: 900, Budget: -5})
	for _, geo := range []string{"iad", "nrt"} {
		within(t, "load change seen by "+geo, func() bool { return f.nodes[geo].World().Find("fra").Load.Offered == 900 })
	}
	if l := fra.World().Self().Load; l.Offered != 900 || l.Budget != 0 {
		t.Errorf("own load %+v", l)
	}

	iad.stop()
	within(t, "goodbye seen", func() bool {
		g := fra.World().Find("iad")
		return !g.Alive && g.Nodes[0].Status == world.Left
	})
	if !fra.event(fabric.NodeLeft, "iad-edge1") {
		t.Error("no event told of the goodbye")
	}
	iad.start()
	within(t, "full view after a restart", f.fullView)
}

func recordOf(n *node, name string) world.NodeRecord {
	for _, g := range n.World().Geos {
		for _, m := range g.Nodes {
			if m.Name == name && m.Record != nil {
				return *m.Record
			}
		}
	}
	return world.NodeRecord{}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 0, "fra", "iad")
	f.start()
	within(t, "full view", f.fullView)
	fra := f.nodes["fra"]

	t.Run("small", func(t *testing.T) {
		res, err := fra.get(t.Context(), "iad", "/x")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil || string(b) != "ok" || res.Header.Get("X-From") != "fra/fra-edge1" {
			t.Fatalf("got %q, %v, %v", b, res.Header, err)
		}
	})
	for _, size := range []int{64 << 10, 1 << 20} {
		t.Run(message.Size(size).String(), func(t *testing.T) {
			data := make([]byte, size)
			rand.Read(data)
			body := message.NewBody(io.NopCloser(bytes.NewReader(data)), int64(size), message.MiB, func() message.Header {
				return message.Header{{Name: "X-In", Value: "v"}}
			})
			res, err := fra.RoundTrip(t.Context(), "iad", &message.Request{
				Method: "POST", Scheme: "https", Authority: "www.example.net", Target: "/echo",
				Header: message.Header{{Name: "Trailer", Value: "X-In"}}, Body: body,
			})
			if err != nil {
				t.Fatal(err)
			}
			defer res.Close()
			got, err := io.ReadAll(res.Body)
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("%d bytes came back, %v", len(got), err)
			}
			if tr := res.Trailer(); tr.Get("X-Sum") != "done" || tr.Get("X-In") != "v" {
				t.Errorf("trailer %v", tr)
			}
		})
	}
	t.Run("refused before the content", func(t *testing.T) {
		body := message.NewBody(io.NopCloser(bytes.NewReader(make([]byte, 1<<20))), 1<<20, message.MiB, nil)
		res, err := fra.RoundTrip(t.Context(), "iad", &message.Request{
			Method: "POST", Scheme: "https", Authority: "www.example.net", Target: "/busy", Body: body,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer res.Close()
		if res.Status != 503 || res.Header.Get("Edge-Busy") != "test" || !body.Replayable() {
			t.Errorf("answer %d, %v; replayable %v", res.Status, res.Header, body.Replayable())
		}
	})
	t.Run("interim answer", func(t *testing.T) {
		status := 0
		res, err := fra.RoundTrip(t.Context(), "iad", &message.Request{
			Method: "GET", Scheme: "https", Authority: "www.example.net", Target: "/early",
			Inform: func(s int, _ message.Header) { status = s },
		})
		if err != nil || status != 103 {
			t.Fatalf("interim status %d, %v", status, err)
		}
		res.Close()
	})
	t.Run("upgrade", func(t *testing.T) {
		res, err := fra.RoundTrip(t.Context(), "iad", &message.Request{
			Method: "GET", Scheme: "https", Authority: "www.example.net", Target: "/ws", Protocol: "echo",
		})
		if err != nil {
			t.Fatal(err)
		}
		defer res.Close()
		if res.Status != 101 || res.Stream == nil {
			t.Fatalf("answer %+v", res)
		}
		b := make([]byte, 4)
		if _, err := res.Stream.Write([]byte("ping")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(res.Stream, b); err != nil || string(b) != "ping" {
			t.Fatalf("got %q, %v", b, err)
		}
	})
	t.Run("cancel reaches the handler", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := fra.get(ctx, "iad", "/hang")
			done <- err
		}()
		within(t, "request under way", func() bool { return served(f.nodes["iad"]) > 0 && inFlight(fra) == 1 })
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		within(t, "handler released", func() bool { return f.nodes["iad"].Serving() == 0 })
	})
	t.Run("geo without nodes", func(t *testing.T) {
		_, err := fra.get(t.Context(), "nrt", "/")
		if !errors.Is(err, fabric.ErrNoLiveNode) || message.SentBy(err) != message.NothingSent {
			t.Fatalf("error %v", err)
		}
	})
	t.Run("a slow handler blocks neither probes nor gossip", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{}, 200)
		for range cap(done) {
			go func() {
				fra.get(ctx, "iad", "/hang")
				done <- struct{}{}
			}()
		}
		within(t, "200 requests under way", func() bool { return inFlight(fra) >= int64(cap(done)) })
		f.nodes["iad"].publish(0)
		within(t, "record change seen", func() bool { return recordOf(fra, "iad-edge1").Services["web"].Healthy == 0 })
		if !fra.World().Find("iad").Alive {
			t.Error("the path is taken for dead")
		}
		cancel()
		for range cap(done) {
			<-done
		}
	})
}

func inFlight(n *node) int64 {
	sum := int64(0)
	for _, p := range n.Peers() {
		sum += p.InFlight
	}
	return sum
}

func served(n *node) uint64 {
	sum := uint64(0)
	for _, p := range n.Peers() {
		sum += p.Served
	}
	return sum
}

func TestPartition(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 0, "fra", "iad", "nrt")
	f.start()
	within(t, "full view", f.fullView)
	fra, iad, nrt := f.nodes["fra"], f.nodes["iad"], f.nodes["nrt"]

	// A request under way when the path goes black must end, and say so.
	done := make(chan error, 1)
	go func() {
		_, err := fra.get(context.Background(), "nrt", "/hang")
		done <- err
	}()
	within(t, "request under way", func() bool { return inFlight(fra) == 1 && nrt.Serving() == 1 })
	f.isolate("nrt", true)
	begin := time.Now()
	within(t, "verdict on both sides", func() bool {
		return !fra.World().Find("nrt").Alive && !iad.World().Find("nrt").Alive &&
			!nrt.World().Find("fra").Alive && !nrt.World().Find("iad").Alive
	})
	if err := <-done; message.SentBy(err) != message.MaybeExecuted {
		t.Errorf("request under way ended with %v", err)
	}
	t.Logf("request under way ended after %s", time.Since(begin).Round(time.Millisecond))
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("request under way took %s to end", took)
	}
	begin = time.Now()
	if _, err := fra.get(t.Context(), "nrt", "/"); message.SentBy(err) != message.NothingSent || time.Since(begin) > time.Second {
		t.Errorf("request into the partition: %v after %s", err, time.Since(begin))
	}
	if res, err := fra.get(t.Context(), "iad", "/"); err != nil {
		t.Errorf("the healthy side: %v", err)
	} else {
		res.Close()
	}
	within(t, "membership calls it lost", func() bool { return fra.World().Find("nrt").Nodes[0].Status == world.Lost })

	// Both sides go on, and say different things.
	fra.publish(0)
	nrt.publish(2)
	if err := nrt.PutOrder(world.Order{ID: "n1", Kind: world.DrainGeo, Target: "nrt", Reason: "test"}); err != nil {
		t.Fatal(err)
	}
	f.isolate("nrt", false)
	begin = time.Now()
	within(t, "healed: full view", f.fullView)
	within(t, "healed: same records", func() bool {
		return f.sameVersions() && len(fra.World().Orders) == 1 && recordOf(nrt, "fra-edge1").Services["web"].Healthy == 0
	})
	t.Logf("equal state %s after the repair", time.Since(begin).Round(time.Millisecond))
}

func TestOneCutLinkIsNoDeadNode(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 5*time.Millisecond, "fra", "iad", "nrt")
	f.start()
	within(t, "full view", f.fullView)
	fra, iad, nrt := f.nodes["fra"], f.nodes["iad"], f.nodes["nrt"]
	f.cut("fra", "nrt", true)
	within(t, "verdict", func() bool { return !fra.World().Find("nrt").Alive && !nrt.World().Find("fra").Alive })
	// News still arrive, by way of iad, for longer than a suspicion lasts.
	nrt.publish(0)
	within(t, "news by the third geo", func() bool { return recordOf(fra, "nrt-edge1").Services["web"].Healthy == 0 })
	begin := time.Now()
	within(t, "seven seconds pass", func() bool { return time.Since(begin) > 7*time.Second })
	if s := fra.World().Find("nrt").Nodes[0].Status; s != world.Joined {
		t.Errorf("fra says %s of nrt", s)
	}
	if seen := fra.World().Find("nrt").Nodes[0].Seen; time.Since(seen) > 5*time.Second {
		t.Errorf("its record was confirmed %s ago", time.Since(seen))
	}
	if !iad.World().Find("nrt").Alive || !iad.World().Find("fra").Alive {
		t.Error("iad lost a path that was not cut")
	}
	f.cut("fra", "nrt", false)
	within(t, "repaired", f.fullView)
}

// Far apart, and two nodes in one geo.
func TestTwoNodesInAGeo(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 115*time.Millisecond, "fra", "nrt", "nrt~2")
	f.start()
	fra, one, two := f.nodes["fra"], f.nodes["nrt"], f.nodes["nrt~2"]
	within(t, "full view", func() bool {
		g := fra.World().Find("nrt")
		return g.Alive && len(g.Nodes) == 2 && g.Nodes[0].Record != nil && g.Nodes[1].Record != nil && len(f.up(fra)) == 2
	})
	if rtt := fra.World().Find("nrt").RTT; rtt < 230*time.Millisecond || rtt > time.Second {
		t.Errorf("round trip %s", rtt)
	}
	one.SetLoad(world.Load{Capacity: 300, Offered: 40})
	two.SetLoad(world.Load{Capacity: 300, Offered: 60})
	within(t, "the geo's sum seen by another geo", func() bool {
		l := fra.World().Find("nrt").Load
		return l.Capacity == 600 && l.Offered == 100
	})
	within(t, "and inside the geo", func() bool { return one.World().Self().Load.Offered == 100 })

	f.isolate("nrt", true)
	within(t, "one node is lost", func() bool { return len(f.up(fra)) == 1 })
	if !fra.World().Find("nrt").Alive {
		t.Error("the geo is taken for dead with its node")
	}
	for range 5 {
		res, err := fra.get(t.Context(), "nrt", "/")
		if err != nil {
			t.Fatal(err)
		}
		res.Close()
	}
}

// up returns the peers of n whose path lives.
func (f *fleet) up(n *node) []string {
	var list []string
	for _, p := range n.Peers() {
		if p.State == fabric.Up {
			list = append(list, p.Node)
		}
	}
	return list
}

func TestWithoutVia(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 0, "fra", "iad", "nrt")
	for _, n := range f.nodes {
		n.setup.Node.Via = nil
	}
	f.geos[0].Fabric = nil // nobody is told where fra is: it finds the others
	f.start()
	within(t, "full view", f.fullView)
	for _, p := range f.nodes["nrt"].Peers() {
		if p.Node == "fra-edge1" && p.Addr != f.nodes["fra"].addr {
			t.Errorf("fra is reached at %s, it advertises %s", p.Addr, f.nodes["fra"].addr)
		}
	}
}

func TestOneWayCut(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 0, "fra", "iad")
	f.start()
	within(t, "full view", f.fullView)
	// Nothing that fra sends arrives; all that iad sends does.
	f.links["fra>iad"].noRequest.Store(true)
	f.links["iad>fra"].noAnswer.Store(true)
	within(t, "both sides see it", func() bool {
		return !f.nodes["fra"].World().Find("iad").Alive && !f.nodes["iad"].World().Find("fra").Alive
	})
	f.links["fra>iad"].noRequest.Store(false)
	f.links["iad>fra"].noAnswer.Store(false)
	within(t, "repaired", f.fullView)
}
