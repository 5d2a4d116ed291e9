package lab

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// queueLength bounds the datagrams that are under way on one link in one
// direction; more are dropped, as a full router would.
const queueLength = 8192

// Links are the paths between geos. To every other geo, a geo's fabric is at
// its public address here: a datagram that arrives there is known by its source,
// spends half a round trip on the way and comes out towards the geo, from the
// sender's public address. Order is kept. A link that is cut loses everything,
// also what is under way.
type Links struct {
	log   *slog.Logger
	ends  []linkEnd
	wires map[[2]string]*wire // by sender and receiver
}

// A LinkEnd is one geo as the links see it.
type LinkEnd struct {
	Geo    string
	Public netip.AddrPort // where others reach its fabric; port 0 is chosen
	Fabric netip.AddrPort // where its fabric listens, and the source of what it sends
}

type linkEnd struct {
	LinkEnd
	conn *net.UDPConn
}

// A wire is one direction of a link.
type wire struct {
	delay  time.Duration
	cut    *atomic.Bool // shared by both directions
	out    *net.UDPConn // the sender's public socket
	to     netip.AddrPort
	queue  chan datagram
	passed atomic.Int64
	lost   atomic.Int64
}

type datagram struct {
	due  time.Time
	data *[]byte
}

// NewLinks binds every end's public address. Ends without a link between them
// cannot reach each other.
func NewLinks(ends []LinkEnd, log *slog.Logger) (*Links, error) {
	l := &Links{log: log, wires: make(map[[2]string]*wire)}
	for _, e := range ends {
		conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(e.Public))
		if err != nil {
			return nil, fmt.Errorf("links of %s: %w", e.Geo, err)
		}
		_ = conn.SetReadBuffer(4 << 20) // as much as the kernel lets us have
		e.Public = conn.LocalAddr().(*net.UDPAddr).AddrPort()
		l.ends = append(l.ends, linkEnd{LinkEnd: e, conn: conn})
	}
	return l, nil
}

// Connect puts a link between two ends. Call it before Run.
func (l *Links) Connect(a, b string, rtt time.Duration) error {
	ea, eb := l.end(a), l.end(b)
	if ea == nil || eb == nil || a == b {
		return fmt.Errorf("no link is possible between %q and %q", a, b)
	}
	cut := new(atomic.Bool)
	l.wires[[2]string{a, b}] = &wire{delay: rtt / 2, cut: cut, out: ea.conn, to: eb.Fabric, queue: make(chan datagram, queueLength)}
	l.wires[[2]string{b, a}] = &wire{delay: rtt / 2, cut: cut, out: eb.conn, to: ea.Fabric, queue: make(chan datagram, queueLength)}
	return nil
}

// Public returns where other geos reach geo's fabric.
func (l *Links) Public(geo string) netip.AddrPort {
	if e := l.end(geo); e != nil {
		return e.Public
	}
	return netip.AddrPort{}
}

// SetCut cuts or joins the link between two geos.
func (l *Links) SetCut(a, b string, cut bool) error {
	w := l.wires[[2]string{a, b}]
	if w == nil {
		return fmt.Errorf("there is no link %s-%s", a, b)
	}
	w.cut.Store(cut)
	return nil
}

// IsCut reports whether the link between two geos is cut.
func (l *Links) IsCut(a, b string) bool {
	w := l.wires[[2]string{a, b}]
	return w != nil && w.cut.Load()
}

// Passed returns how many datagrams went from a to b.
func (l *Links) Passed(a, b string) int64 {
	w := l.wires[[2]string{a, b}]
	if w == nil {
		return 0
	}
	return w.passed.Load()
}

func (l *Links) end(geo string) *linkEnd {
	for i := range l.ends {
		if l.ends[i].Geo == geo {
			return &l.ends[i]
		}
	}
	return nil
}

// Close closes the sockets of links that do not run.
func (l *Links) Close() {
	for _, e := range l.ends {
		_ = e.conn.Close()
	}
}

// Run carries datagrams until ctx ends.
func (l *Links) Run(ctx context.Context, ready func()) error {
	var wg sync.WaitGroup
	pool := &sync.Pool{New: func() any { b := make([]byte, maxDatagram); return &b }}
	for _, w := range l.wires {
		wg.Go(func() { w.run(ctx, pool) })
	}
	for _, e := range l.ends {
		wg.Go(func() { l.receive(ctx, e, pool) })
	}
	ready()
	<-ctx.Done()
	l.Close()
	wg.Wait()
	return nil
}

// receive puts what arrives for one geo on the wire that leads to it.
func (l *Links) receive(ctx context.Context, to linkEnd, pool *sync.Pool) {
	wires := make(map[netip.Addr]*wire)
	for _, from := range l.ends {
		if w := l.wires[[2]string{from.Geo, to.Geo}]; w != nil {
			wires[from.Fabric.Addr()] = w
		}
	}
	for {
		data := pool.Get().(*[]byte)
		*data = (*data)[:maxDatagram]
		n, from, err := to.conn.ReadFromUDPAddrPort(*data)
		if ctx.Err() != nil {
			return
		}
		w := wires[from.Addr().Unmap()]
		if err != nil || w == nil { // an ICMP error, or nobody we know
			pool.Put(data)
			continue
		}
		*data = (*data)[:n]
		select {
		case w.queue <- datagram{due: time.Now().Add(w.delay), data: data}:
		default:
			w.lost.Add(1)
			pool.Put(data)
		}
	}
}

// run delivers what is on the wire, each datagram in its time.
func (w *wire) run(ctx context.Context, pool *sync.Pool) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var d datagram
		select {
		case d = <-w.queue:
		case <-ctx.Done():
			return
		}
		if wait := time.Until(d.due); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				return
			}
		}
		if w.cut.Load() {
			w.lost.Add(1)
		} else if _, err := w.out.WriteToUDPAddrPort(*d.data, w.to); err == nil {
			w.passed.Add(1)
		}
		pool.Put(d.data)
	}
}
