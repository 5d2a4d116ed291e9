package lab

import (
	"net/netip"
	"sync"
)

// A Site is one life of a geo's edge process, as the Internet sees it: where
// its packets go, and whether anybody is left to answer them.
type Site struct {
	Geo  string
	Addr netip.AddrPort // of its listener, TCP and UDP

	gone chan struct{}
	mu   sync.Mutex // guards hooks
	next int
	// hooks run when the site dies; nil once it has.
	hooks map[int]func()
}

// NewSite returns a living site.
func NewSite(geo string, addr netip.AddrPort) *Site {
	return &Site{Geo: geo, Addr: addr, gone: make(chan struct{}), hooks: make(map[int]func())}
}

// Gone returns a channel that is closed when the process is dead.
func (s *Site) Gone() <-chan struct{} { return s.gone }

// Die says that the process is dead, or is about to be killed.
func (s *Site) Die() {
	s.mu.Lock()
	hooks := s.hooks
	s.hooks = nil
	if hooks != nil {
		close(s.gone)
	}
	s.mu.Unlock()
	for _, f := range hooks {
		f()
	}
}

// dead reports whether Die was called.
func (s *Site) dead() bool {
	select {
	case <-s.gone:
		return true
	default:
		return false
	}
}

// onDeath calls f when the site dies, at once if it has, unless the returned
// function is called first.
func (s *Site) onDeath(f func()) (cancel func()) {
	s.mu.Lock()
	if s.hooks == nil {
		s.mu.Unlock()
		f()
		return func() {}
	}
	id := s.next
	s.next++
	s.hooks[id] = f
	s.mu.Unlock()
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.hooks, id)
	}
}
