package lab

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxFlows  = 4096 // of one entry; datagrams of more are dropped
	flowIdle  = 60 * time.Second
	sweepTick = 5 * time.Second
	// maxDatagram is more than any QUIC packet on a path of 1500 bytes.
	maxDatagram = 2048
)

// A flow is one client socket's datagrams. It stays with its geo while that
// process lives, and follows the route when it does not.
type flow struct {
	client netip.AddrPort
	seen   atomic.Int64 // unix nanoseconds of the last datagram, either way

	mu   sync.Mutex // guards site and out
	site *Site
	out  *net.UDPConn // bound to the client's address, connected to the site
}

func (e *Entry) serveUDP(ctx context.Context) {
	buf := make([]byte, maxDatagram)
	for {
		n, from, err := e.udp.ReadFromUDPAddrPort(buf)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			continue // an ICMP error of an earlier datagram
		}
		f := e.flowOf(from)
		if f == nil {
			continue
		}
		if out := e.towards(ctx, f); out != nil {
			_, _ = out.Write(buf[:n]) // datagrams may be lost
		}
	}
}

// flowOf returns the client's flow, a new one if need be; nil when there are
// too many.
func (e *Entry) flowOf(client netip.AddrPort) *flow {
	e.mu.Lock()
	defer e.mu.Unlock()
	f := e.flows[client]
	if f == nil && len(e.flows) < maxFlows {
		f = &flow{client: client}
		e.flows[client] = f
	}
	if f != nil {
		f.seen.Store(time.Now().UnixNano()) // under mu: the sweep must not forget it now
	}
	return f
}

// towards returns f's socket towards its geo; nil when there is no route.
func (e *Entry) towards(ctx context.Context, f *flow) *net.UDPConn {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.site != nil && !f.site.dead() {
		return f.out
	}
	site := e.route()
	if site == nil || site.dead() {
		return nil
	}
	local := netip.AddrPortFrom(e.sourceOf(f.client.Addr()), 0)
	if f.out != nil { // the same client, wherever its packets go
		local = f.out.LocalAddr().(*net.UDPAddr).AddrPort()
		_ = f.out.Close()
		f.site, f.out = nil, nil
	}
	out, err := net.DialUDP("udp4", net.UDPAddrFromAddrPort(local), net.UDPAddrFromAddrPort(site.Addr))
	if err != nil {
		e.log.Warn("opening a flow", "client", f.client, "err", err)
		return nil
	}
	f.site, f.out = site, out
	e.wg.Go(func() { e.answer(ctx, f, out) })
	return out
}

// answer carries datagrams from the geo to the client until out is closed.
func (e *Entry) answer(ctx context.Context, f *flow, out *net.UDPConn) {
	defer context.AfterFunc(ctx, func() { _ = out.Close() })()
	buf := make([]byte, maxDatagram)
	for {
		n, err := out.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // port unreachable: the process is going or gone
		}
		f.seen.Store(time.Now().UnixNano())
		_, _ = e.udp.WriteToUDPAddrPort(buf[:n], f.client)
	}
}

// sweepFlows forgets flows that carried nothing for flowIdle, and all of them
// when ctx ends.
func (e *Entry) sweepFlows(ctx context.Context) {
	tick := time.NewTicker(sweepTick)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			e.dropFlows(time.Now().Add(-flowIdle))
		case <-ctx.Done():
			e.dropFlows(time.Now().Add(time.Hour))
			return
		}
	}
}

// dropFlows closes the flows that were last seen before t.
func (e *Entry) dropFlows(t time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for client, f := range e.flows {
		if f.seen.Load() > t.UnixNano() {
			continue
		}
		delete(e.flows, client)
		f.mu.Lock()
		if f.out != nil {
			_ = f.out.Close()
		}
		f.mu.Unlock()
	}
}
