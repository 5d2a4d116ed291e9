// Package crew has goroutines that serve one thing after another and keep their
// stacks: what serves a request has a deep one, and growing it each time costs
// more than many a request.
package crew

import "sync"

// maxResting is how many goroutines wait for work, at most: what they keep is their
// stack, which has grown to what the work needs.
const maxResting = 128

// A Crew is goroutines that do the same work. Its methods may be called from any
// goroutine.
type Crew[T any] struct {
	work func(T)

	mu      sync.Mutex
	resting []chan T // of one goroutine each; the last one to rest is the first to work
	over    bool
	running sync.WaitGroup
}

// New returns a crew without goroutines.
func New[T any](work func(T)) *Crew[T] { return &Crew[T]{work: work} }

// Do has the work done to t. It waits for nothing.
func (w *Crew[T]) Do(t T) {
	w.mu.Lock()
	if n := len(w.resting); n > 0 {
		next := w.resting[n-1]
		w.resting = w.resting[:n-1]
		w.mu.Unlock()
		next <- t
		return
	}
	w.mu.Unlock()
	next := make(chan T, 1)
	next <- t
	w.running.Go(func() {
		for t := range next {
			w.work(t)
			if !w.rest(next) {
				return
			}
		}
	})
}

// rest offers a goroutine for the next work; false: it is not needed.
func (w *Crew[T]) rest(next chan T) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over || len(w.resting) == maxResting {
		return false
	}
	w.resting = append(w.resting, next)
	return true
}

// End ends the goroutines that rest, and each that works after its work; it waits
// for them.
func (w *Crew[T]) End() {
	w.mu.Lock()
	w.over = true
	for _, next := range w.resting {
		close(next)
	}
	w.resting = nil
	w.mu.Unlock()
	w.running.Wait()
}
