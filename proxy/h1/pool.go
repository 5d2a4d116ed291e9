package h1

import (
	"net"
	"slices"
	"sync"
	"syscall"
	"time"
)

// A backendConn is a connection to a backend. It belongs to one exchange at a
// time.
type backendConn struct {
	nc       net.Conn
	in       reader
	since    time.Time // that it is idle
	preamble string    // that it began with
	abort    func()    // ends every read and write, for good

	raw     syscall.RawConn
	look    func(fd uintptr) bool // sets waiting
	waiting bool                  // for a request: open, and nothing to be read

	mu      sync.Mutex // guards what follows, with the deadlines
	aborted bool       // the exchange was given up
}

// newBackendConn returns nc for its first exchange. What every exchange needs
// is made once.
func newBackendConn(nc net.Conn) *backendConn {
	b := &backendConn{nc: nc, in: reader{from: nc}}
	b.abort = func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.aborted = true
		_ = b.nc.SetDeadline(past)
	}
	if sc, ok := nc.(syscall.Conn); ok {
		b.raw, _ = sc.SyscallConn() // nil: never used again
	}
	b.look = func(fd uintptr) bool {
		var one [1]byte
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		b.waiting = err == syscall.EAGAIN
		return true
	}
	return b
}

// deadline sets that of reads and writes, unless the exchange was given up; zero
// for none.
func (b *backendConn) deadline(t time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.aborted {
		_ = b.nc.SetDeadline(t)
	}
}

// dead reports whether an idle connection cannot be used: its peer has closed
// it, or sent what nobody asked for.
func (b *backendConn) dead() bool {
	b.waiting = false
	return b.raw == nil || b.raw.Read(b.look) != nil || !b.waiting
}

// A pool keeps idle connections; the last one used is the first one used again,
// so that those that are not needed grow old.
type pool struct {
	idle time.Duration // how long one is kept

	mu     sync.Mutex
	conns  []*backendConn // by since
	reaper *time.Timer    // nil: nothing is kept
	closed bool
}

// get returns a connection with a preamble that seems to live; nil: there is
// none.
func (p *pool) get(preamble string) *backendConn {
	for {
		p.mu.Lock()
		i := len(p.conns) - 1
		for i >= 0 && p.conns[i].preamble != preamble {
			i--
		}
		if i < 0 {
			p.mu.Unlock()
			return nil
		}
		b := p.conns[i]
		p.conns = slices.Delete(p.conns, i, i+1)
		p.mu.Unlock()
		if !b.dead() {
			return b
		}
		_ = b.nc.Close()
	}
}

// put keeps a connection on which nothing is under way.
func (p *pool) put(b *backendConn) {
	b.in.release()
	b.since = time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = b.nc.Close()
		return
	}
	if len(p.conns) >= maxIdleConns { // the oldest, which may be nobody's any more
		_ = p.conns[0].nc.Close()
		p.conns = slices.Delete(p.conns, 0, 1)
	}
	p.conns = append(p.conns, b)
	if p.reaper == nil {
		p.reaper = time.AfterFunc(p.idle, p.reap)
	}
}

// reap closes connections that have been idle for too long.
func (p *pool) reap() {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := 0
	for old < len(p.conns) && time.Since(p.conns[old].since) >= p.idle {
		_ = p.conns[old].nc.Close()
		old++
	}
	p.conns = append(p.conns[:0:0], p.conns[old:]...)
	p.reaper = nil
	if len(p.conns) > 0 && !p.closed {
		p.reaper = time.AfterFunc(p.idle-time.Since(p.conns[0].since), p.reap)
	}
}

// close closes what is idle, and whatever is put back later.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, b := range p.conns {
		_ = b.nc.Close()
	}
	p.conns = nil
	if p.reaper != nil {
		p.reaper.Stop()
		p.reaper = nil
	}
}
