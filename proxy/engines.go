package proxy

import (
	"context"
	"errors"
	"net"
	"sync"

	"anyedge/internal/message"
	"anyedge/proxy/h1"
	"anyedge/proxy/h2"
	"anyedge/proxy/h3"
)

// A connServer is an engine for connections; h1 and h2 have one.
type connServer interface {
	ServeConn(c net.Conn)
	Shutdown(ctx context.Context) error
}

// A packetServer is an engine for datagrams; h3 has one.
type packetServer interface {
	Serve(c net.PacketConn) error
	Shutdown(ctx context.Context) error
}

// engines are those of one listener; nil ones are not spoken.
type engines struct {
	h1, h2 connServer
	h3     packetServer
}

// newEngines makes the engines that a listener's protocols need.
func (l *listener) newEngines() engines {
	handler := message.RoundTripFunc(func(ctx context.Context, r *message.Request) (*message.Response, error) {
		return l.proxy.serve(ctx, l, r)
	})
	limits := l.cfg.Limits
	var e engines
	if l.has(protoH1) {
		c := h1.Config{HeaderTimeout: h1.DefaultHeaderTimeout, Refused: l.refusedBy(protoH1)}
		if limits.Header != nil {
			c.Header = *limits.Header
		}
		if limits.Idle != nil {
			c.Idle = *limits.Idle
		}
		e.h1 = h1.NewServer(c, handler, l.log)
	}
	if l.has(protoH2) {
		c := h2.Config{HeaderTimeout: h2.DefaultHeaderTimeout, Refused: l.refusedBy(protoH2)}
		if limits.Header != nil {
			c.Header = *limits.Header
		}
		if limits.Idle != nil {
			c.Idle = *limits.Idle
		}
		e.h2 = h2.NewServer(c, handler, l.log)
	}
	if l.has(protoH3) {
		c := h3.Config{TLS: l.quic, StatelessResetKey: l.proxy.setup.ResetKey, Refused: l.refusedBy(protoH3), EarlyData: l.cfg.TLS.EarlyData}
		if limits.Header != nil {
			c.Header = *limits.Header
		}
		if limits.Idle != nil {
			c.Idle = *limits.Idle
		}
		c.Admit, c.Verify = l.gate.admitQUIC, l.gate.doubts
		e.h3 = h3.NewServer(c, handler, l.log)
	}
	return e
}

// plain is the engine of a listener without TLS.
func (e engines) plain() connServer {
	if e.h1 != nil {
		return e.h1
	}
	return e.h2
}

// shutdownStreams lets running requests end in the engines of TCP, at most until
// ctx ends.
func (e engines) shutdownStreams(ctx context.Context) error {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs []error
	)
	stop := func(f func(context.Context) error) {
		wg.Go(func() {
			err := f(ctx)
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	if e.h1 != nil {
		stop(e.h1.Shutdown)
	}
	if e.h2 != nil {
		stop(e.h2.Shutdown)
	}
	wg.Wait()
	return errors.Join(errs...)
}
