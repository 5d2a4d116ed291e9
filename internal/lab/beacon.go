package lab

import "sync"

// A beacon lets any number of goroutines wait for the next change of
// something. The zero beacon is ready to use.
type beacon struct {
	mu sync.Mutex
	ch chan struct{} // closed at the next change; nil: nobody waits
}

// next returns a channel that is closed at the next change. Take it before
// looking at what may change.
func (b *beacon) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

// light tells everyone who waits that something changed.
func (b *beacon) light() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}
