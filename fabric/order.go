package fabric

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/renameio/v2"

	"anyedge/internal/world"
)

// ErrNoOrder means that no order of that ID is in force.
var ErrNoOrder = errors.New("no such order is in force")

// ordersFile is where the orders are kept in the state directory.
const ordersFile = "orders.json"

// An ordersOnDisk is the content of ordersFile: the records as they travel.
type ordersOnDisk struct {
	Records []envelope `json:"records"`
}

// PutOrder brings an order into force in the whole fleet. It is on disk when
// PutOrder returns nil; the nodes that cannot be reached hear of it later.
func (f *Fabric) PutOrder(o world.Order) error {
	if o.ID == "" || len(o.ID) > maxName {
		return errors.New("order: an ID of 1-128 bytes is required")
	}
	if o.Kind != world.DrainGeo && o.Kind != world.DrainNode {
		return fmt.Errorf("order %s: unknown kind %q", o.ID, o.Kind)
	}
	if o.At.IsZero() {
		o.At = time.Now()
	}
	r, err := f.records.writeOrder(o.ID, &o)
	if err != nil {
		return fmt.Errorf("order %s: %w", o.ID, err)
	}
	return f.decree(r)
}

// DropOrder ends an order in the whole fleet, whoever gave it.
func (f *Fabric) DropOrder(id string) error {
	if !slices.ContainsFunc(f.records.orders(time.Now()), func(o world.Order) bool { return o.ID == id }) {
		return fmt.Errorf("order %s: %w", id, ErrNoOrder)
	}
	r, err := f.records.writeOrder(id, nil)
	if err != nil {
		return fmt.Errorf("order %s: %w", id, err)
	}
	return f.decree(r)
}

// decree spreads an order of this node and puts it on disk.
func (f *Fabric) decree(r *record) error {
	f.spread([]*record{r}, "")
	if err := f.saveOrders(); err != nil {
		return fmt.Errorf("order %s is in force, but it is not kept over a restart: %w", r.Name, err)
	}
	return nil
}

// writeOrder writes this node's record of an order; nil drops it. It is later
// than every record of that order which this node knows, whoever wrote it.
func (s *store) writeOrder(id string, o *world.Order) (*record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := time.Now().UnixMilli()
	for k, r := range s.records {
		if k.kind == kindOrder && k.name == id && r.At >= at {
			at = r.At + 1
		}
	}
	return s.write(kindOrder, id, at, o == nil, func(world.Version) any { return o })
}

// orders returns what is in force, by ID. Of several writers' records of one
// order the latest counts; of two that are equally late, the greater writer's.
func (s *store) orders(now time.Time) []world.Order {
	latest := map[string]*record{}
	for _, r := range s.all(kindOrder) { // by writer within a name
		if old := latest[r.Name]; old == nil || r.At >= old.At {
			latest[r.Name] = r
		}
	}
	var list []world.Order
	for _, r := range latest {
		if r.order != nil && (r.order.Until.IsZero() || now.Before(r.order.Until)) {
			list = append(list, *r.order)
		}
	}
	slices.SortFunc(list, func(a, b world.Order) int { return compareText(a.ID, b.ID) })
	return list
}

// saveAgain is the pause after orders could not be written to disk.
const saveAgain = 2 * time.Second

// keepOrders writes orders of others to disk as they come, and those again that
// could not be written, until ctx ends.
func (f *Fabric) keepOrders(ctx context.Context) {
	var again <-chan time.Time
	for {
		select {
		case <-f.unsaved:
		case <-again:
		case <-ctx.Done():
			return
		}
		err := f.saveOrders()
		switch {
		case err != nil && again == nil:
			f.log.Error("orders are not kept on disk; trying again until they are", "err", err)
		case err == nil && again != nil:
			f.log.Info("orders are kept on disk again")
		}
		again = nil
		if err != nil {
			again = time.After(saveAgain)
		}
	}
}

// saveOrders writes all order records to disk.
func (f *Fabric) saveOrders() error {
	if f.setup.StateDir == "" {
		return nil
	}
	f.saving.Lock()
	defer f.saving.Unlock()
	var file ordersOnDisk
	for _, r := range f.records.all(kindOrder) {
		file.Records = append(file.Records, r.envelope)
	}
	b, err := json.Marshal(file)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(f.setup.StateDir, 0o700); err != nil {
		return err
	}
	return renameio.WriteFile(filepath.Join(f.setup.StateDir, ordersFile), b, 0o600)
}

// loadOrders reads the orders that were kept. Records that do not verify any
// more are left out; a file that cannot be read as such is put aside, because a
// node that does not start is worse.
func (f *Fabric) loadOrders() error {
	if f.setup.StateDir == "" {
		return nil
	}
	path := filepath.Join(f.setup.StateDir, ordersFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("orders kept on disk: %w", err)
	}
	var file ordersOnDisk
	if err := json.Unmarshal(b, &file); err != nil {
		f.log.Error("orders kept on disk are unreadable and put aside", "path", path+".bad", "err", err)
		return os.Rename(path, path+".bad")
	}
	now := time.Now()
	for _, e := range file.Records {
		r, err := verify(f.id, e, now)
		if err == nil && r.Kind == kindOrder {
			_, err = f.records.apply(r, now)
		}
		if err != nil {
			f.log.Error("an order kept on disk is left out", "err", err)
		}
	}
	return f.records.renew()
}

// renew signs this node's own records again, with its present certificate.
func (s *store) renew() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, r := range s.records {
		if id.writer == s.id.Peer.Node && !r.Version.Less(s.version) {
			s.version = world.Version{Epoch: r.Version.Epoch + 1}
		}
	}
	_, err := s.resign()
	return err
}
