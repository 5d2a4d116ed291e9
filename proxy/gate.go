package proxy

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"anyedge/proxy/limits"
)

// defaultHandshakes is how many connections of a listener may be on their way to
// an engine at once.
const defaultHandshakes = 4096

// A gate counts what a listener holds, and refuses what is too much before it
// costs anything.
type gate struct {
	refusals refusals
	accepted atomic.Uint64

	most    int64 // connections
	conns   atomic.Int64
	clients *limits.Counter // nil: a client may have any number
	exempt  []netip.Prefix  // carry the connections of many clients

	arriving arrivals
	patience time.Duration // with one of them
}

// newGate returns the gate that c asks for.
func newGate(c ListenerConfig) *gate {
	g := &gate{most: int64(defaultConnections()), exempt: c.TrustedProxies, patience: handshakeTimeout}
	if d := c.Limits.HandshakeTimeout; d != nil {
		g.patience = *d
	}
	if n := c.Limits.Connections; n != nil && *n > 0 {
		g.most = int64(*n)
	}
	if n := c.Limits.ConnsPerIP; n != nil && *n > 0 {
		g.clients = limits.NewCounter(*n)
	}
	g.arriving.most = defaultHandshakes
	if n := c.Limits.Handshakes; n != nil && *n > 0 {
		g.arriving.most = *n
	}
	return g
}

// defaultConnections is half of the files that this process may open: each
// client's connection may need another one to a backend.
func defaultConnections() int {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil || r.Cur > 1<<21 {
		return 1 << 20
	}
	return int(r.Cur / 2)
}

// enter takes a connection in, or refuses it: nil.
func (g *gate) enter(nc *net.TCPConn) *clientConn {
	g.accepted.Add(1)
	if g.conns.Add(1) > g.most {
		g.conns.Add(-1)
		g.refuse(nc, RuleConnections)
		return nil
	}
	return &clientConn{TCPConn: nc, gate: g}
}

// refuse ends a connection with a reset: nothing of it stays.
func (g *gate) refuse(nc *net.TCPConn, why Rule) {
	g.refusals.add(why)
	_ = nc.SetLinger(0)
	_ = nc.Close()
}

// admit counts a connection against its client, and reports false when it has
// too many.
func (g *gate) admit(c *clientConn) bool {
	if g.clients == nil {
		return true
	}
	a := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap().WithZone("")
	if within(g.exempt, a) {
		return true
	}
	c.client = limits.ClientOf(a)
	c.counted = g.clients.Take(c.client)
	return c.counted
}

// admitQUIC is enter and admit for a QUIC connection.
func (g *gate) admitQUIC(peer netip.AddrPort) (release func(), ok bool) {
	if g.conns.Add(1) > g.most {
		g.conns.Add(-1)
		g.refusals.add(RuleConnections)
		return nil, false
	}
	a := peer.Addr().Unmap().WithZone("")
	if g.clients == nil || within(g.exempt, a) {
		return func() { g.conns.Add(-1) }, true
	}
	client := limits.ClientOf(a)
	if !g.clients.Take(client) {
		g.conns.Add(-1)
		g.refusals.add(RuleClientConnections)
		return nil, false
	}
	return func() {
		g.clients.Give(client)
		g.conns.Add(-1)
	}, true
}

// doubts reports whether a QUIC client has to prove its address: whoever forges
// one could use up what its owner may have.
func (g *gate) doubts(peer netip.AddrPort) bool {
	return 2*g.conns.Load() > g.most || g.clients != nil && g.clients.Half(limits.ClientOf(peer.Addr()))
}

// A clientConn is a client's TCP connection, known under the addresses that a
// PROXY header gave. Its Close gives back what the gate counted.
type clientConn struct {
	*net.TCPConn
	gate          *gate
	remote, local net.Addr // of the header; nil: the socket's

	client  limits.Client
	counted bool
	once    sync.Once

	// Of the list of arrivals.
	older, newer *clientConn
	listed       bool
	evicted      bool
}

// RemoteAddr returns the client's address.
func (c *clientConn) RemoteAddr() net.Addr {
	if c.remote != nil {
		return c.remote
	}
	return c.TCPConn.RemoteAddr()
}

// LocalAddr returns where the client connected to.
func (c *clientConn) LocalAddr() net.Addr {
	if c.local != nil {
		return c.local
	}
	return c.TCPConn.LocalAddr()
}

// Close closes the connection.
func (c *clientConn) Close() error {
	err := c.TCPConn.Close()
	c.once.Do(func() {
		if c.counted {
			c.gate.clients.Give(c.client)
		}
		c.gate.conns.Add(-1)
	})
	return err
}

// arrivals are the connections on their way to an engine, the oldest first.
// When there are too many the oldest makes room: a client that means it is
// through in some round trips, one that holds its place is not.
type arrivals struct {
	most int

	mu             sync.Mutex
	count          int
	oldest, newest *clientConn
}

// add puts a connection on the list, and ends the oldest one when it is full.
func (a *arrivals) add(c *clientConn) {
	a.mu.Lock()
	var out *clientConn
	if a.count >= a.most {
		out = a.oldest
		out.evicted = true
		a.unlink(out)
	}
	if c.older = a.newest; c.older != nil {
		c.older.newer = c
	} else {
		a.oldest = c
	}
	a.newest, c.listed = c, true
	a.count++
	a.mu.Unlock()
	if out != nil {
		c.gate.refusals.add(RuleHandshakes)
		_ = out.SetLinger(0)
		_ = out.TCPConn.Close() // the one who waits for it gives back the rest
	}
}

// remove takes a connection off the list, and reports false when it had to make
// room.
func (a *arrivals) remove(c *clientConn) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unlink(c)
	return !c.evicted
}

// unlink takes c off the list if it is there. mu is held.
func (a *arrivals) unlink(c *clientConn) {
	if !c.listed {
		return
	}
	if c.older != nil {
		c.older.newer = c.newer
	} else {
		a.oldest = c.newer
	}
	if c.newer != nil {
		c.newer.older = c.older
	} else {
		a.newest = c.older
	}
	c.older, c.newer, c.listed = nil, nil, false
	a.count--
}

// len returns how many there are.
func (a *arrivals) len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.count
}
