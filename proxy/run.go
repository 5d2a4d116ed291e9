package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"anyedge/internal/message"
)

// Run binds every listener and serves until ctx ends; ready is called when all
// accept. Then it takes no new connection, lets running requests end for at
// most ShutdownMax, and closes. A listener that cannot be bound is the error,
// but for an address of a VIP that is not on this machine: that one is bound when
// it comes.
func (p *Proxy) Run(ctx context.Context, ready func()) error {
	// Pools and engines outlive ctx: running requests need them.
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	err := p.bind(own)
	p.leftOver()
	if err != nil {
		p.close()
		return err
	}
	accepting, stopAccepting := context.WithCancel(own)
	defer stopAccepting()
	p.start(own, accepting, &running)
	ready()
	p.bindLate(ctx, own, accepting)
	p.drain(own, stopAccepting)
	return nil
}

// bind opens every socket, or none.
func (p *Proxy) bind(ctx context.Context) error {
	var errs []error
	for _, l := range p.listeners {
		for _, a := range l.addresses {
			if err := l.bind(ctx, a); err != nil {
				errs = append(errs, fmt.Errorf("listener %s: %w", l.cfg.Name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// bindTries is how often a port is picked anew when port 0 was asked for and
// the one of TCP is taken for UDP.
const bindTries = 10

// bind opens the listener's sockets at one address.
func (l *listener) bind(ctx context.Context, a netip.AddrPort) (err error) {
	for range bindTries {
		err = l.bindOnce(ctx, a)
		if a.Port() != 0 || !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	switch {
	case err == nil:
		return nil
	case l.waitsFor(err):
		l.wait(a)
		return nil
	}
	return explainBind(err, a)
}

// bindOnce opens a TCP and a UDP socket, as far as the protocols need them, on
// the same port; or none.
func (l *listener) bindOnce(ctx context.Context, a netip.AddrPort) error {
	version := "4"
	if a.Addr().Is6() {
		version = "6"
	}
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	lc.Control = l.clamp(a)
	var stream net.Listener
	if l.tls != nil || l.quic == nil {
		var err error
		if stream, err = l.openStream(ctx, lc, "tcp"+version, a); err != nil {
			return err
		}
		a = netip.AddrPortFrom(a.Addr(), stream.Addr().(*net.TCPAddr).AddrPort().Port())
	}
	if l.quic != nil {
		packets, err := l.openPackets(ctx, lc, "udp"+version, a)
		if err != nil {
			if stream != nil {
				_ = stream.Close()
			}
			return err
		}
		l.packets = append(l.packets, packets)
	}
	if stream != nil {
		l.sockets = append(l.sockets, stream)
	}
	return nil
}

// clamp returns what makes a socket at a VIP ask its clients for segments that
// leave the room in their packets that Setup.Room asks for; nil: nothing does.
func (l *listener) clamp(a netip.AddrPort) func(network, address string, c syscall.RawConn) error {
	if l.proxy.setup.Room == 0 || len(l.cfg.VIPs) == 0 || len(l.cfg.Bind) > 0 {
		return nil
	}
	size := ethernetMTU - l.proxy.setup.Room - 40 // IPv4 and TCP without options
	if a.Addr().Is6() {
		size -= 20
	}
	return func(network, _ string, c syscall.RawConn) (err error) {
		if !strings.HasPrefix(network, "tcp") {
			return nil
		}
		failed := c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, size) })
		return errors.Join(failed, err)
	}
}

// ethernetMTU is what clients' packets fit into.
const ethernetMTU = 1500

// close closes every socket.
func (p *Proxy) close() {
	for _, l := range p.listeners {
		l.close()
	}
}

func (l *listener) close() {
	l.bound.Store(nil)
	for _, s := range l.sockets {
		_ = s.Close()
	}
	for _, s := range l.packets {
		_ = s.Close()
	}
}

// start starts what serves requests. running counts what ends with ctx; accept
// loops and handshakes end with accepting.
func (p *Proxy) start(ctx, accepting context.Context, running *sync.WaitGroup) {
	for _, s := range p.services {
		running.Go(func() { p.runPool(ctx, s) })
		running.Go(func() { p.passOn(ctx, s.pool.Changed()) })
		if s.source != nil {
			running.Go(func() { s.source.Run(ctx, s.learn) })
		}
	}
	if p.setup.Sockets != nil { // clients wait there, or somebody still serves them
		p.await(ctx, verdictWait, func() bool {
			return !slices.ContainsFunc(p.services, func(s *service) bool { return s.pool.Total() > 0 && !s.pool.Reported() })
		})
	}
	for _, l := range p.listeners {
		l.serve(accepting, l.sockets, l.packets, l.missing())
	}
	running.Go(func() { p.heartbeat(ctx) })
	p.changed.set()
}

const (
	// verdictWait is how long clients of sockets that were passed in wait for the
	// first verdicts on backends.
	verdictWait = 5 * time.Second
	// settleWait is how long connections that were accepted before the end may take
	// to reach their engine.
	settleWait = time.Second
	awaitEvery = 5 * time.Millisecond
)

// await waits until something is so, at most for a time.
func (p *Proxy) await(ctx context.Context, most time.Duration, so func() bool) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	tick := time.NewTicker(awaitEvery)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (p *Proxy) runPool(ctx context.Context, s *service) {
	if err := s.pool.Run(ctx, func() {}); err != nil && ctx.Err() == nil {
		p.log.Error("upstream ended", "service", s.cfg.Name, "err", err)
	}
}

// passOn turns a pool's changes into the proxy's.
func (p *Proxy) passOn(ctx context.Context, from <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-from:
			p.changed.set()
		}
	}
}

// Hurry shortens the time that running requests have, once Run was told to
// stop, to d from now. It may be called before that, and more than once.
func (p *Proxy) Hurry(d time.Duration) {
	select {
	case <-p.hurry: // the newest word counts
	default:
	}
	select {
	case p.hurry <- d:
	default:
	}
}

// shorten ends the drain as Hurry says.
func (p *Proxy) shorten(ctx context.Context, end context.CancelFunc) {
	var limit <-chan time.Time
	for {
		select {
		case d := <-p.hurry:
			limit = time.After(d)
		case <-limit:
			end()
			return
		case <-ctx.Done():
			return
		}
	}
}

// drain takes nothing new and lets what runs end.
func (p *Proxy) drain(ctx context.Context, stopAccepting func()) {
	ctx, cancel := context.WithTimeout(ctx, p.setup.ShutdownMax)
	defer cancel()
	go p.shorten(ctx, cancel)
	for _, l := range p.listeners {
		l.bound.Store(nil)
		for _, s := range l.sockets {
			_ = s.Close()
		}
	}
	for _, l := range p.listeners {
		l.accepting.Wait()
	}
	p.changed.set()
	// An engine that is told to end takes no connection any more.
	p.await(ctx, settleWait, func() bool {
		return !slices.ContainsFunc(p.listeners, func(l *listener) bool { return l.greeting.Load() > 0 })
	})
	var wg sync.WaitGroup
	for _, l := range p.listeners {
		wg.Go(func() {
			if err := l.engines.shutdownStreams(ctx); err != nil {
				l.log.Warn("requests were cut off", "after", p.setup.ShutdownMax, "err", err)
			}
		})
	}
	wg.Go(func() { p.endQUIC(ctx) })
	p.webSockets.leave()
	wg.Wait()
	p.webSockets.stop()
	stopAccepting()
	for _, l := range p.listeners {
		l.close()
		l.serving.Wait()
	}
}

// beatEvery is the period of the heartbeat; ten that are missed withdraw every
// VIP.
const beatEvery = 100 * time.Millisecond

// heartbeat proves that the process handles requests: it sends one of its own
// through the checks of each listener, as an engine would, and notes the time
// when all were answered. It crosses no socket.
func (p *Proxy) heartbeat(ctx context.Context) {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		ok := true
		for _, l := range p.listeners {
			ok = ok && p.probe(ctx, l)
		}
		if ok {
			p.alive.Store(time.Now().UnixNano())
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// probe sends a request through the path of l and reports whether it was
// answered.
func (p *Proxy) probe(ctx context.Context, l *listener) bool {
	r := &message.Request{Version: message.HTTP1, Method: "OPTIONS", Scheme: "http", Authority: "localhost", Target: "*"}
	resp := p.begin(l, r).checked(ctx, l)
	resp.Close()
	return resp.Status < 500
}
