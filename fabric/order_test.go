package fabric_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"anyedge/fabric"
	"anyedge/internal/world"
)

func drain(id, geo string) world.Order {
	return world.Order{ID: id, Kind: world.DrainGeo, Target: geo, Who: "ana", Reason: "disk swap"}
}

func TestOrders(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 0, "fra", "iad", "nrt")
	f.start()
	within(t, "full view", f.fullView)
	fra, iad, nrt := f.nodes["fra"], f.nodes["iad"], f.nodes["nrt"]
	inForce := func(want int) func() bool {
		return func() bool {
			return len(fra.World().Orders) == want && len(iad.World().Orders) == want && len(nrt.World().Orders) == want
		}
	}
	for _, bad := range []world.Order{{}, {ID: "x", Kind: "explode"}, {ID: "x", Kind: world.DrainGeo, Target: "No Geo"}} {
		if err := fra.PutOrder(bad); err == nil {
			t.Errorf("order %+v was taken", bad)
		}
	}
	if err := fra.PutOrder(drain("o1", "nrt")); err != nil {
		t.Fatal(err)
	}
	short := drain("o2", "iad")
	short.Until = time.Now().Add(700 * time.Millisecond)
	if err := iad.PutOrder(short); err != nil {
		t.Fatal(err)
	}
	within(t, "orders spread", inForce(2))
	if o := nrt.World().Orders[0]; o.ID != "o1" || o.Target != "nrt" || o.Who != "ana" || o.At.IsZero() {
		t.Errorf("order %+v", o)
	}
	within(t, "one ends at its time", inForce(1))

	nrt.stop()
	if _, err := os.Stat(filepath.Join(nrt.setup.StateDir, "orders.json")); err != nil {
		t.Fatal(err)
	}
	alone, err := fabric.New(nrt.setup, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(alone.World().Orders); n != 1 {
		t.Errorf("%d orders right after the start of a node alone", n)
	}
	nrt.start()
	within(t, "back", f.fullView)

	// Dropped by another node than the one that took it, which restarts later
	// than the drop: its record must not come back.
	if err := iad.DropOrder("o1"); err != nil {
		t.Fatal(err)
	}
	within(t, "dropped everywhere", inForce(0))
	fra.stop()
	fra.start()
	within(t, "back", f.fullView)
	within(t, "still dropped", inForce(0))
	if err := fra.DropOrder("o1"); !errors.Is(err, fabric.ErrNoOrder) {
		t.Errorf("dropping it twice: %v", err)
	}
	if err := fra.PutOrder(drain("o1", "iad")); err != nil {
		t.Fatal(err)
	}
	within(t, "given again", inForce(1))
}

func TestUnreadableOrdersArePutAside(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 0, "fra")
	setup := f.nodes["fra"].setup
	if err := os.MkdirAll(setup.StateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(setup.StateDir, "orders.json")
	if err := os.WriteFile(path, []byte(`{"records":[{"bo`), 0o600); err != nil {
		t.Fatal(err)
	}
	fab, err := fabric.New(setup, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + ".bad"); err != nil {
		t.Error(err)
	}
	if err := fab.PutOrder(drain("o1", "fra")); err != nil {
		t.Fatal(err)
	}
	again, err := fabric.New(setup, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(again.World().Orders) != 1 {
		t.Error("the order was not kept")
	}
}
