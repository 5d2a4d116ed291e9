package h3

import (
	"runtime"
	"sync"
)

// A ready gathers answers of one connection that are whole and small, so that they
// leave in as few packets and system calls as they can: QUIC sends what is there
// when it wakes up, and it wakes up with the first of them.
type ready struct {
	mu      sync.Mutex // guards what follows
	streams []*stream
	spare   []*stream
	sending bool // somebody will send what is in streams
}

// deliver sends the answer of st, and ends the stream, unless somebody is about to
// do so.
func (c *Conn) deliver(st *stream) {
	r := &c.ready
	r.mu.Lock()
	r.streams = append(r.streams, st)
	if r.sending {
		r.mu.Unlock()
		return
	}
	r.sending = true
	r.mu.Unlock()
	runtime.Gosched() // whose answer came meanwhile gets here
	r.mu.Lock()
	now := r.streams
	r.streams, r.spare = r.spare, nil
	r.sending = false
	r.mu.Unlock()
	for i, st := range now {
		if err := st.close(); err != nil {
			st.nothing = true
			st.reset(requestCancelled)
		}
		st.finish()
		now[i] = nil
	}
	r.mu.Lock()
	r.spare = now[:0]
	r.mu.Unlock()
}
