package h2

import "sync"

// maxResting is how many goroutines wait for a stream, at most: what they keep is
// their stack, which has grown to what an exchange needs.
const maxResting = 128

// A crew is the goroutines that serve streams. Each keeps its stack for the next
// stream.
type crew struct {
	mu      sync.Mutex
	resting []chan *stream // of one goroutine each; the last one to rest is the first to work
	over    bool
	running sync.WaitGroup
}

// serve has st served.
func (w *crew) serve(st *stream) {
	w.mu.Lock()
	if n := len(w.resting); n > 0 {
		next := w.resting[n-1]
		w.resting = w.resting[:n-1]
		w.mu.Unlock()
		next <- st
		return
	}
	w.mu.Unlock()
	next := make(chan *stream, 1)
	next <- st
	w.running.Go(func() {
		for st := range next {
			st.serve()
			if !w.rest(next) {
				return
			}
		}
	})
}

// rest offers a goroutine for the next stream; false: it is not needed.
func (w *crew) rest(next chan *stream) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over || len(w.resting) == maxResting {
		return false
	}
	w.resting = append(w.resting, next)
	return true
}

// end ends the goroutines that rest, and each that works after its stream; it
// waits for them.
func (w *crew) end() {
	w.mu.Lock()
	w.over = true
	for _, next := range w.resting {
		close(next)
	}
	w.resting = nil
	w.mu.Unlock()
	w.running.Wait()
}
