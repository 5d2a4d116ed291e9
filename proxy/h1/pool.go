package h1

import (
	"errors"
	"os"
	"slices"
	"sync"
	"time"

	"anyedge/internal/message"
	"anyedge/proxy/wire"
)

// lookAfter is how long a connection must have been idle that it is looked at
// before it is used again, unless a failure would be the client's to bear, or the
// answer before had no content: some may follow that no answer has. What comes with
// the answer before, its end too, has been seen with that.
const lookAfter = time.Millisecond

// errStale means that a pooled connection cannot be used: its peer has closed it,
// or sent what nobody asked for.
var errStale = errors.New("the pooled connection has ended")

// A backendConn is a connection to a backend. It belongs to one exchange at a
// time.
type backendConn struct {
	wire     *wire.Conn
	in       reader
	since    time.Time     // that it is idle
	hook     *message.Hook // abort, when the exchange is given up
	preamble string        // what it began with
	bare     bool          // the answer before had no content

	mu      sync.Mutex // guards what follows, with the deadlines
	armed   time.Time  // the deadline of reads and writes; zero: none
	due     time.Time  // what it is to be; armed may be earlier
	aborted bool       // the exchange was given up
}

// newBackendConn returns a connection for its first exchange. What every exchange
// needs is made once.
func newBackendConn(s wire.Socket) (*backendConn, error) {
	w, err := wire.New(s)
	if err != nil {
		return nil, err
	}
	b := &backendConn{wire: w}
	b.in.from = b
	b.hook = message.NewHook(b.abort)
	return b, nil
}

// abort ends every read and write, for good.
func (b *backendConn) abort() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.aborted = true
	_ = b.wire.SetDeadline(past)
}

// deadline sets that of reads and writes, unless the exchange was given up; zero
// for none. One that is armed for an earlier time is left alone: late sets it right
// when it has passed.
func (b *backendConn) deadline(t time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.due = t
	if !b.aborted && !t.IsZero() && (b.armed.IsZero() || t.Before(b.armed)) {
		b.armed = t
		_ = b.wire.SetDeadline(t)
	}
}

// late reports whether err is that of a deadline which is none any more: what
// failed may be tried again.
func (b *backendConn) late(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.aborted || !b.due.IsZero() && !time.Now().Before(b.due) {
		return false
	}
	b.armed = b.due
	return b.wire.SetDeadline(b.due) == nil
}

// Read reads from the backend.
func (b *backendConn) Read(p []byte) (int, error) {
	for {
		n, err := b.wire.Read(p)
		if n > 0 || !b.late(err) {
			return n, err
		}
	}
}

// Write sends p.
func (b *backendConn) Write(p []byte) (int, error) {
	sent := 0
	for {
		n, err := b.wire.Write(p[sent:])
		if sent += n; !b.late(err) {
			return sent, err
		}
	}
}

// attend is wire.Conn.Attend.
func (b *backendConn) attend(step func() bool) error {
	for {
		if err := b.wire.Attend(step); !b.late(err) {
			return err
		}
	}
}

// stale reports whether something came, or the end, while b was idle. It is called
// while b is attended, so that whatever comes later is a wake-up.
func (b *backendConn) stale() bool {
	var one [1]byte
	_, err := b.wire.Read(one[:])
	return !errors.Is(err, wire.ErrNothing)
}

// close closes b. Its buffer is left to the collector: an upgrade's other direction
// may still read from it.
func (b *backendConn) close() { _ = b.wire.Close() }

// A pool keeps idle connections; the last one used is the first one used again,
// so that those that are not needed grow old.
type pool struct {
	idle time.Duration // how long one is kept

	mu     sync.Mutex
	conns  []*backendConn // by since
	reaper *time.Timer    // nil: nothing is kept
	closed bool
}

// get returns a connection with a preamble that may live; nil: there is none.
func (p *pool) get(preamble string) *backendConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := len(p.conns) - 1
	for i >= 0 && p.conns[i].preamble != preamble {
		i--
	}
	if i < 0 {
		return nil
	}
	b := p.conns[i]
	p.conns = slices.Delete(p.conns, i, i+1)
	return b
}

// put keeps a connection on which nothing is under way.
func (p *pool) put(b *backendConn) {
	b.in.release()
	b.since = time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		b.close()
		return
	}
	if len(p.conns) >= maxIdleConns { // the oldest, which may be nobody's any more
		p.conns[0].close()
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
		p.conns[old].close()
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
		b.close()
	}
	p.conns = nil
	if p.reaper != nil {
		p.reaper.Stop()
		p.reaper = nil
	}
}
