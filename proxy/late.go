package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

// lateEvery is how often a listener tries again to bind an address of a VIP
// that was not on this machine.
const lateEvery = 200 * time.Millisecond

// waitsFor reports whether an address that could not be bound may come later:
// it is a VIP's, which somebody still has to assign.
func (l *listener) waitsFor(err error) bool {
	return errors.Is(err, syscall.EADDRNOTAVAIL) && len(l.cfg.Bind) == 0 && len(l.cfg.VIPs) > 0
}

// wait notes an address to bind later.
func (l *listener) wait(a netip.AddrPort) {
	next := append(slices.Clone(l.missing()), a)
	l.late.Store(&next)
}

// missing returns the addresses that are still to be bound.
func (l *listener) missing() []netip.AddrPort {
	if all := l.late.Load(); all != nil {
		return *all
	}
	return nil
}

// bindLate binds what waits for its address, as it comes, until ctx ends.
// Sockets outlive ctx as own and accepting do.
func (p *Proxy) bindLate(ctx, own, accepting context.Context) {
	tick := time.NewTicker(lateEvery)
	defer tick.Stop()
	waits := func(l *listener) bool { return len(l.missing()) > 0 }
	for slices.ContainsFunc(p.listeners, waits) {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, l := range p.listeners {
			if l.retry(own, accepting) {
				p.changed.set()
			}
		}
	}
	<-ctx.Done()
}

// retry binds and serves the missing addresses that are there now, and reports
// whether one was.
func (l *listener) retry(own, accepting context.Context) bool {
	before := l.missing()
	if len(before) == 0 {
		return false
	}
	sockets, packets := len(l.sockets), len(l.packets)
	var still []netip.AddrPort
	for _, a := range before {
		err := l.bindOnce(own, a)
		if err == nil {
			continue
		}
		still = append(still, a)
		if text := explainBind(err, a).Error(); !l.waitsFor(err) && text != l.refused {
			l.refused = text
			l.log.Error("the address is there now and cannot be bound; tried again", "err", text)
		}
	}
	if len(still) == len(before) {
		return false
	}
	l.serve(accepting, l.sockets[sockets:], l.packets[packets:], still)
	return true
}

// serve serves sockets and tells that they are bound, and what is still late.
func (l *listener) serve(ctx context.Context, sockets []net.Listener, packets []net.PacketConn, late []netip.AddrPort) {
	bound := l.boundTo()
	open := l.filers()
	l.bound.Store(&bound)
	l.open.Store(&open)
	l.late.Store(&late)
	for _, s := range sockets {
		l.accepting.Go(func() { l.accept(ctx, s) })
	}
	for _, s := range packets {
		l.serving.Go(func() { l.servePackets(ctx, s) })
	}
	if len(bound) > 0 {
		l.log.Info("listening", "addresses", bound, "protocols", l.protocols)
	}
	if len(late) > 0 {
		l.log.Info("waits for addresses of its VIPs", "addresses", late)
	}
}

// boundTo returns the addresses of the sockets.
func (l *listener) boundTo() []netip.AddrPort {
	bound := []netip.AddrPort{}
	for _, s := range l.sockets {
		bound = append(bound, s.Addr().(*net.TCPAddr).AddrPort())
	}
	for _, s := range l.packets {
		if len(l.sockets) == 0 {
			bound = append(bound, s.LocalAddr().(*net.UDPAddr).AddrPort())
		}
	}
	return bound
}
