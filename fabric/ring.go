package fabric

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"anyedge/internal/world"
)

// Bounds of a ring, those of the packet path's tables.
const (
	maxMembers = 1023
	maxWeight  = 1 << 20
)

// PublishRing writes this geo's ring. Nothing happens when this node has written
// that generation or a later one already: what followed it must not mean another
// ring. Which of several writers' rings is in force is every
// reader's choice: the highest generation, then the latest writer.
func (f *Fabric) PublishRing(ring world.Ring) error {
	if err := checkRing(&ring); err != nil {
		return fmt.Errorf("ring of %s: %w", f.setup.Geo, err)
	}
	r, err := f.records.writeRing(&ring)
	if err != nil {
		return fmt.Errorf("ring of %s: %w", f.setup.Geo, err)
	}
	if r != nil {
		f.spread([]*record{r}, "")
	}
	return nil
}

// writeRing writes this node's record of its geo's ring. It returns nil when
// there is one of that generation.
func (s *store) writeRing(ring *world.Ring) (*record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := s.records[recordKey{kindRing, s.id.Peer.Geo, s.id.Peer.Node}]
	if held != nil && held.ring != nil && held.ring.Generation >= ring.Generation {
		return nil, nil
	}
	return s.write(kindRing, s.id.Peer.Geo, time.Now().UnixMilli(), false, func(world.Version) any { return ring })
}

// ring returns the geo's ring in force, nil when there is none.
func (s *store) ring(geo string) *world.Ring {
	s.mu.Lock()
	defer s.mu.Unlock()
	var best *record
	for k, r := range s.records {
		if k.kind == kindRing && k.name == geo && r.ring != nil && (best == nil || r.supersedes(best)) {
			best = r
		}
	}
	if best == nil {
		return nil
	}
	return best.ring
}

// supersedes orders the rings of several writers.
func (r *record) supersedes(o *record) bool {
	switch {
	case r.ring.Generation != o.ring.Generation:
		return r.ring.Generation > o.ring.Generation
	case r.Version.Epoch != o.Version.Epoch:
		return r.Version.Epoch > o.Version.Epoch
	}
	return r.Writer > o.Writer
}

func (r *record) interpretRing() error {
	if r.Name != r.Geo {
		return fmt.Errorf("it is of geo %.40q, its writer is not", r.Name)
	}
	if r.Deleted {
		return nil
	}
	ring := &world.Ring{}
	if err := json.Unmarshal(r.Payload, ring); err != nil {
		return err
	}
	if err := checkRing(ring); err != nil {
		return err
	}
	r.ring = ring
	return nil
}

// checkRing reports what is wrong with a ring.
func checkRing(r *world.Ring) error {
	switch {
	case r.Generation == 0 || r.Generation > maxEpoch:
		return fmt.Errorf("generation %d", r.Generation)
	case r.Phase != world.RingStable && r.Phase != world.RingPrepare && r.Phase != world.RingDrain:
		return fmt.Errorf("unknown phase %.20q", r.Phase)
	case (r.Phase == world.RingStable) != (len(r.Other) == 0):
		return fmt.Errorf("phase %s, other members %d", r.Phase, len(r.Other))
	case len(r.Members) == 0:
		return errors.New("no members")
	case len(r.Reason) > 1024:
		return fmt.Errorf("a reason of %d bytes", len(r.Reason))
	}
	for _, ms := range [][]world.RingMember{r.Members, r.Other} {
		if len(ms) > maxMembers {
			return fmt.Errorf("%d members, at most %d fit", len(ms), maxMembers)
		}
		seen := map[string]bool{}
		for _, m := range ms {
			switch {
			case world.CheckName(m.Node) != nil:
				return fmt.Errorf("member %.40q: %w", m.Node, world.CheckName(m.Node))
			case seen[m.Node]:
				return fmt.Errorf("member %s is named twice", m.Node)
			case m.Weight == 0 || m.Weight > maxWeight:
				return fmt.Errorf("member %s has weight %d", m.Node, m.Weight)
			}
			seen[m.Node] = true
		}
	}
	return nil
}
