package fabric

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
)

// A roster holds every other node that was ever heard of, by name.
type roster struct {
	f *Fabric

	mu    sync.RWMutex
	nodes map[string]*remote
	seeds map[netip.AddrPort]string // configured address → who answered there
}

func newRoster(f *Fabric) *roster {
	return &roster{f: f, nodes: map[string]*remote{}, seeds: map[netip.AddrPort]string{}}
}

// get returns the node of that name, nil when it was never heard of.
func (r *roster) get(name string) *remote {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.nodes[name]
}

// ensure returns the node of that name, and starts its goroutines when it is
// new.
func (r *roster) ensure(name string) *remote {
	r.mu.Lock()
	n := r.nodes[name]
	if n != nil {
		r.mu.Unlock()
		return n
	}
	n = newRemote(r.f, name)
	r.nodes[name] = n
	r.mu.Unlock()
	if name != r.f.setup.NodeName { // its own name appears here only to be refused
		r.f.crew.Go(n.run)
		r.f.crew.Go(n.sync)
	}
	return n
}

// maxGossiped bounds the nodes that are known by gossip alone: each costs two
// goroutines and is dialed for ever, and any member can make names up. Who shows
// a certificate always finds room.
const maxGossiped = 4096

// gossiped is ensure for a name that was only heard of; nil when there are too
// many.
func (r *roster) gossiped(name string) *remote {
	r.mu.RLock()
	n, full := r.nodes[name], len(r.nodes) >= maxGossiped
	r.mu.RUnlock()
	if n != nil || full {
		return n
	}
	return r.ensure(name)
}

// all returns every other node, by name.
func (r *roster) all() []*remote {
	r.mu.RLock()
	defer r.mu.RUnlock()
	list := make([]*remote, 0, len(r.nodes))
	for name, n := range r.nodes {
		if name != r.f.setup.NodeName {
			list = append(list, n)
		}
	}
	slices.SortFunc(list, func(a, b *remote) int { return cmp.Compare(a.name, b.name) })
	return list
}

// shuffle puts nodes into a random order, so that none gets more than others.
func shuffle(list []*remote) {
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] }) //nolint:gosec // nobody gains by guessing it
}

// up returns the nodes that answer probes.
func (r *roster) up() []*remote {
	return slices.DeleteFunc(r.all(), func(n *remote) bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return !n.pulse.alive
	})
}

// at returns the node that advertises addr or answered there, nil for none.
func (r *roster) at(addr netip.AddrPort) *remote {
	r.mu.RLock()
	name, ok := r.seeds[addr]
	nodes := slices.Collect(maps.Values(r.nodes))
	r.mu.RUnlock()
	if ok {
		return r.get(name)
	}
	for _, n := range nodes {
		n.mu.Lock()
		match := n.addr == addr
		n.mu.Unlock()
		if match {
			return n
		}
	}
	return nil
}

func (r *roster) forgetSeed(addr netip.AddrPort) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.seeds, addr)
}

// identify dials a configured address to learn who answers there. The
// connection is kept when the node is to be reached at that very address.
func (r *roster) identify(ctx context.Context, addr netip.AddrPort) error {
	l, err := r.f.dial(ctx, addr, "")
	if err != nil {
		return err
	}
	name := l.peer.Node
	r.mu.Lock()
	r.seeds[addr] = name
	r.mu.Unlock()
	if name == r.f.setup.NodeName && l.key == r.f.keyID {
		l.close(codeReplaced, "this node itself")
		r.f.refuse.add(DuplicateName, "same key", l.peer, fmt.Sprintf(
			"this node's own certificate answers at %s: either that is this node by another address, or its key is in use on a second machine", addr))
		return nil
	}
	n := r.ensure(name)
	n.mu.Lock()
	n.seed = addr
	taken := n.out != nil
	n.mu.Unlock()
	if via, ok := r.f.via[name]; taken || ok && via != addr {
		l.close(codeReplaced, "the node is reached another way")
		signal(n.kick)
		return nil
	}
	n.attach(l)
	return nil
}
