package fabric

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"anyedge/fabric/identity"
	"anyedge/internal/world"
)

// Bounds of the store.
const (
	maxRecords   = 16384
	maxPerWriter = 1024
)

// A store is the set of records that this node holds, its own and others'. Last
// writer wins, so that merging is commutative and idempotent.
type store struct {
	id *identity.Identity

	mu      sync.Mutex
	version world.Version // of the last record that this node signed
	node    world.Version // of this node's node record
	payload []byte        // of it, without its version
	records map[recordKey]*record
	writers map[string]int       // records by writer
	seen    map[string]time.Time // when a writer's node record was last confirmed
}

func newStore(id *identity.Identity, epoch uint64) *store {
	return &store{
		id: id, version: world.Version{Epoch: epoch}, records: map[recordKey]*record{},
		writers: map[string]int{}, seen: map[string]time.Time{},
	}
}

// own returns the version of this node's node record; zero before the first.
func (s *store) own() world.Version {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.node
}

// write signs and enters a record of this node; s.mu is held. The payload is
// made for the version that the record gets.
func (s *store) write(kind, name string, at int64, deleted bool, payload func(world.Version) any) (*record, error) {
	v := s.version
	v.Counter++
	c := content{
		Kind: kind, Name: name, Writer: s.id.Peer.Node, Geo: s.id.Peer.Geo,
		Version: v, At: at, Deleted: deleted,
	}
	if !deleted {
		var err error
		if c.Payload, err = json.Marshal(payload(v)); err != nil {
			return nil, err
		}
	}
	r, err := sign(s.id, c)
	if err != nil {
		return nil, err
	}
	s.version = v
	s.enter(r)
	return r, nil
}

// enter puts r in its place; s.mu is held.
func (s *store) enter(r *record) {
	if s.records[r.id()] == nil {
		s.writers[r.Writer]++
	}
	s.records[r.id()] = r
	if r.Kind == kindNode && r.Writer == s.id.Peer.Node {
		s.node = r.Version
	}
}

// publish writes this node's node record. It returns nil when the content has
// not changed.
func (s *store) publish(n world.NodeRecord) (*record, error) {
	n.Version = world.Version{}
	payload, err := json.Marshal(n)
	if err != nil {
		return nil, fmt.Errorf("node record: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if bytes.Equal(payload, s.payload) {
		return nil, nil
	}
	r, err := s.write(kindNode, n.Node, time.Now().UnixMilli(), false, func(v world.Version) any {
		n.Version = v
		return n
	})
	if err != nil {
		return nil, fmt.Errorf("node record: %w", err)
	}
	s.payload = payload
	return r, nil
}

// supersede makes this node's versions later than v, which an earlier life of
// it used while its clock was ahead, and returns its records written anew.
func (s *store) supersede(v world.Version) ([]*record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v.Less(s.version) {
		return nil, nil
	}
	s.version = world.Version{Epoch: max(v.Epoch, s.version.Epoch) + 1}
	return s.resign()
}

// resign writes every record of this node anew, with the time it had; s.mu is
// held.
func (s *store) resign() ([]*record, error) {
	var list []*record
	for id, old := range s.records {
		if id.writer != s.id.Peer.Node {
			continue
		}
		r, err := s.write(id.kind, id.name, old.At, old.Deleted, func(v world.Version) any {
			if old.node == nil {
				return old.Payload
			}
			n := *old.node
			n.Version = v
			return n
		})
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, nil
}

// verdict is what apply made of a record.
type verdict int

const (
	isNew verdict = iota
	isKnown
	isOld  // a later one is held
	isMine // a later one of an earlier life of this node; what it says is taken, but for the node record
	isOver // it would be forgotten at once
)

// apply merges a verified record of another node. The error is a *refusal.
func (s *store) apply(r *record, now time.Time) (verdict, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := s.records[r.id()]
	mine := r.Writer == s.id.Peer.Node
	switch {
	case held != nil && r.Version.Less(held.Version):
		return isOld, nil
	case held != nil && r.Version == held.Version && held.same(r):
		return isKnown, nil
	case held != nil && r.Version == held.Version:
		return 0, refused("two of one version", "%s %s of %s, version %v", r.Kind, r.Name, r.Writer, r.Version)
	case r.over(now):
		return isOver, nil
	case mine && r.Kind == kindNode:
		return isMine, nil
	case mine && s.version.Less(r.Version):
		s.enter(r)
		return isMine, nil
	case held == nil && (len(s.records) >= maxRecords || s.writers[r.Writer] >= maxPerWriter):
		return 0, refused("too many", "%s has %d records, all nodes %d", r.Writer, s.writers[r.Writer], len(s.records))
	}
	s.enter(r)
	return isNew, nil
}

// confirm takes note that a writer's node record was v at a time, and reports
// whether this node holds an older one or none.
func (s *store) confirm(writer string, v world.Version, at time.Time) (missing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := s.records[recordKey{kindNode, writer, writer}]
	switch {
	case v == world.Version{}:
		return false // it has published none
	case held == nil || held.Version.Less(v):
		return true
	case held.Version == v && at.After(s.seen[writer]):
		s.seen[writer] = at
	}
	return false
}

// get returns the records under keys, as far as they are held.
func (s *store) get(keys []recordKey) []*record {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*record
	for _, k := range keys {
		if r := s.records[k]; r != nil {
			list = append(list, r)
		}
	}
	return list
}

// all returns every record of the kind, or of all kinds for "", in a fixed
// order.
func (s *store) all(kind string) []*record {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*record
	for _, r := range s.records {
		if kind == "" || r.Kind == kind {
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(a, b *record) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Writer, b.Writer))
	})
	return list
}

// nodeRecord returns a node's record and when it was last confirmed.
func (s *store) nodeRecord(name string) (*world.NodeRecord, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.records[recordKey{kindNode, name, name}]
	if r == nil {
		return nil, time.Time{}
	}
	return r.node, s.seen[name]
}

// ages returns how long ago each node record was confirmed.
func (s *store) ages(now time.Time) map[string]time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	ages := make(map[string]time.Duration, len(s.seen))
	for name, at := range s.seen {
		ages[name] = now.Sub(at)
	}
	return ages
}

// prune forgets what is over, and reports whether there was any.
func (s *store) prune(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.records)
	for id, r := range s.records {
		if r.over(now) {
			delete(s.records, id)
			s.writers[r.Writer]--
		}
	}
	return len(s.records) < n
}
