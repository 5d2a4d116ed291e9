package fabric_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/quic-go/quic-go/quicvarint"

	"anyedge/fabric"
	"anyedge/fabric/identity"
	"anyedge/internal/world"
)

// Members of the fleet that lie, babble or are confused, and what they may not
// achieve.

// orderBody returns the body of a record that holds an order of a time.
func orderBody(writer, geo, id string, at int64) string {
	order, _ := json.Marshal(drain(id, "iad"))
	return fmt.Sprintf(`{"kind":"order","name":%q,"writer":%q,"geo":%q,"version":{"epoch":1000,"counter":1},"at":%d,"payload":%s}`, id, writer, geo, at, order)
}

func TestRecordsFromTheFuture(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 0, "fra", "nrt")
	f.start("fra")
	fra, nrt := f.nodes["fra"], f.identityOf("nrt", "nrt-edge1")
	conn := f.connect(nrt, "fra")
	push := func(id *identity.Identity, body string) {
		e, err := fabric.Sign(id, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		f.pushRecords(conn, e)
	}
	for i, at := range []int64{math.MaxInt64, time.Now().Add(48 * time.Hour).UnixMilli()} {
		push(nrt, orderBody("nrt-edge1", "nrt", fmt.Sprint("o", i), at))
		if n := fra.refused("record_refused:time"); n != uint64(i+1) || len(fra.World().Orders) != 0 {
			t.Errorf("an order of %d: refused %v, in force %v", at, fra.Refused(), fra.World().Orders)
		}
	}
	push(nrt, orderBody("nrt-edge1", "nrt", "o9", time.Now().Add(time.Hour).UnixMilli()))
	within(t, "a clock that is an hour ahead is bearable", func() bool { return len(fra.World().Orders) == 1 })
	if err := fra.DropOrder("o9"); err != nil {
		t.Fatal(err)
	}
	within(t, "and its order can be undone", func() bool { return len(fra.World().Orders) == 0 })

	end := uint64(nrt.Leaf.NotAfter.UnixMilli())
	push(nrt, nodeBody("nrt-edge1", "nrt", end+1, ""))
	if fra.refused("record_refused:epoch") != 1 || fabric.Held(fra.Fabric, "node", "nrt-edge1", "nrt-edge1") != nil {
		t.Errorf("a life after the certificate's end: refused %v", fra.Refused())
	}
	push(nrt, nodeBody("nrt-edge1", "nrt", end, ""))
	if fabric.Held(fra.Fabric, "node", "nrt-edge1", "nrt-edge1") == nil {
		t.Error("a life before its end was not taken")
	}
}

// What one says about the age of another's record makes it no fresher than now.
func TestAgesOfRecords(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 0, "fra", "nrt")
	f.start("fra")
	fra := f.nodes["fra"]
	e, err := fabric.Sign(f.identityOf("nrt", "nrt-edge1"), []byte(nodeBody("nrt-edge1", "nrt", 1000, "")))
	if err != nil {
		t.Fatal(err)
	}
	f.pushRecords(f.connect(f.identityOf("nrt", "nrt-edge1"), "fra"), e)
	for _, ms := range []int64{-1, 1 << 44, 1 << 60, 1 << 62, 9223372036855, 18446744073709, math.MaxInt64, math.MinInt64} {
		if seen := fabric.Agree(fra.Fabric, "nrt-edge1", ms); seen.After(time.Now()) {
			t.Errorf("an age of %d ms: confirmed at %s", ms, seen)
		}
	}
}

// However large the loads of a geo's nodes are, their sum can be told.
func TestLoadsAreBounded(t *testing.T) {
	now := time.Now()
	huge := world.Load{Capacity: math.MaxFloat64, Offered: math.MaxFloat64, Budget: math.MaxFloat64}
	sum := fabric.Sum(now, huge, huge, huge)
	if _, _, err := fabric.RecodeProbe(fabric.EncodeProbe(1, "fra", sum)); err != nil {
		t.Errorf("peers refuse the sum %+v: %v", sum, err)
	}
	if _, _, err := fabric.RecodeProbe(fabric.EncodeProbe(1, "fra", huge)); err == nil {
		t.Error("a load value beyond all bounds was taken")
	}
}

// A peer that floods another with echoes makes it send no more probes to third
// nodes.
func TestEchoFlood(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 0, "fra", "iad", "nrt")
	f.start("fra", "iad")
	fra := f.nodes["fra"]
	within(t, "both up", func() bool { return fra.sees("iad") && f.nodes["iad"].sees("fra") })
	conn := f.connect(f.identityOf("nrt", "nrt-edge1"), "fra")
	begin, before := time.Now(), fabric.Probes(fra.Fabric, "iad-edge1")
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for i := range uint32(1000) {
		if err := conn.SendDatagram(fabric.EncodeEcho(i, "nrt")); err != nil {
			t.Fatal(err)
		}
		<-tick.C
	}
	probes := fabric.Probes(fra.Fabric, "iad-edge1") - before
	if most := time.Since(begin)/(50*time.Millisecond) + 10; time.Duration(probes) > most {
		t.Errorf("%d probes to iad in %s", probes, time.Since(begin))
	}
}

// What a peer sends in more exchanges than an honest one has is not read, so
// that it cannot fill the memory.
func TestExchangesWaitForTheirTurn(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 0, "fra", "nrt")
	f.start("fra")
	conn := f.connect(f.identityOf("nrt", "nrt-edge1"), "fra")
	half := make([]byte, 1<<20) // more than what QUIC takes before it is read
	for i := range fabric.MaxExchanges + 1 {
		s, err := conn.OpenStreamSync(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		wait := patience
		if i == fabric.MaxExchanges {
			wait = time.Second
		}
		s.SetWriteDeadline(time.Now().Add(wait))
		_, err = s.Write(append(quicvarint.Append(nil, fabric.StreamRecords), half...))
		if i < fabric.MaxExchanges && err != nil {
			t.Fatal(err)
		}
		if i == fabric.MaxExchanges && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("exchange %d is read beside the others: %v", i, err)
		}
	}
}

// Names that somebody makes up in gossip fill no memory, and whoever shows a
// certificate still finds room.
func TestMadeUpMembers(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 0, "fra", "iad")
	f.start("fra")
	fra := f.nodes["fra"]
	for i := range fabric.MaxGossiped + 100 {
		fabric.Gossip(fra.Fabric, fmt.Sprint("ghost-", i), "nowhere")
	}
	if n := len(fra.Peers()); n > fabric.MaxGossiped {
		t.Errorf("%d peers", n)
	}
	if fra.refused("peer_refused:too many names") < 100 {
		t.Errorf("refused %v", fra.Refused())
	}
	f.start("iad")
	within(t, "a real node is seen", func() bool { return fra.sees("iad") })
}

// A node is of the geo that its own record says, whatever gossip says.
func TestGossipMovesNoRecord(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 0, "fra", "iad", "nrt")
	f.start("fra")
	fra := f.nodes["fra"]
	e, err := fabric.Sign(f.identityOf("nrt", "nrt-edge1"), []byte(nodeBody("nrt-edge1", "nrt", 1000, "")))
	if err != nil {
		t.Fatal(err)
	}
	f.pushRecords(f.connect(f.identityOf("iad", "iad-edge1"), "fra"), e)
	fabric.Gossip(fra.Fabric, "nrt-edge1", "iad")
	within(t, "the member is known", func() bool { return len(fra.World().Find("iad").Nodes) == 1 })
	if r := fra.World().Find("iad").Nodes[0].Record; r != nil {
		t.Errorf("iad counts on the record of %s/%s", r.Geo, r.Node)
	}
	fabric.Gossip(fra.Fabric, "nrt-edge1", "nrt")
	within(t, "the member is where it belongs", func() bool {
		nodes := fra.World().Find("nrt").Nodes
		return len(nodes) == 1 && nodes[0].Record != nil
	})
}

// Orders that could not be written are written later.
func TestOrdersAreWrittenAgain(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 0, "fra")
	fra := f.nodes["fra"]
	f.start()
	dir := fra.setup.StateDir
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // in the way
		t.Fatal(err)
	}
	if err := fra.PutOrder(drain("o1", "fra")); err == nil {
		t.Fatal("an order is said to be kept that is not")
	}
	within(t, "it is in force all the same", func() bool { return len(fra.World().Orders) == 1 })
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	within(t, "it is kept", func() bool {
		_, err := os.Stat(filepath.Join(dir, "orders.json"))
		return err == nil
	})
}

// A seed that turns out to be this node itself is not dialed over and over, and
// its key is not taken for another.
func TestOwnAddressAsSeed(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 0, "fra")
	fra := f.nodes["fra"]
	other := newRelay(t, fra.addr, 0)
	fra.setup.Geos[0].Fabric = append(fra.setup.Geos[0].Fabric, other.addr)
	f.start()
	within(t, "it meets itself", func() bool { return fra.refused("duplicate_name:same key") > 0 })
	<-time.After(3 * time.Second)
	if n := fra.refused("duplicate_name:same key"); n > 10 { // each end counts
		t.Errorf("it was refused %d times in 3s", n)
	}
	if n := fra.refused("duplicate_name:other key"); n > 0 {
		t.Errorf("its own key was taken for another %d times", n)
	}
}

// Whoever is refused all the time is heard of less and less.
func TestRefusalsAreToldRarely(t *testing.T) {
	told, now := 0, time.Now()
	next := fabric.Told()
	for range 24 * 3600 / 5 { // a day
		if next(now) {
			told++
		}
		now = now.Add(5 * time.Second)
	}
	if told < 24 || told > 40 {
		t.Errorf("%d events in a day", told)
	}
	if now = now.Add(11 * time.Minute); !next(now) || next(now.Add(time.Second)) || !next(now.Add(6*time.Second)) {
		t.Error("after a calm it does not begin anew")
	}
}

// The status says since when a peer is what it is.
func TestPeerSince(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 0, "fra", "iad")
	f.start()
	within(t, "full view", f.fullView)
	fra := f.nodes["fra"]
	peer := func() fabric.PeerStatus { return fra.Peers()[0] }
	if p := peer(); p.State != fabric.Up || p.Since.IsZero() {
		t.Errorf("at first %+v", p)
	}
	cut := time.Now()
	f.cut("fra", "iad", true)
	within(t, "down", func() bool { return peer().State == fabric.Down })
	if p := peer(); p.Since.Before(cut) {
		t.Errorf("down since %s before the cut", cut.Sub(p.Since))
	}
}
