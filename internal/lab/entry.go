package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
)

// An Entry is the way from one region's clients to the anycast address. Each
// new connection, TCP or UDP, goes where the region's best route points, and
// the geo sees the client's own address.
type Entry struct {
	log   *slog.Logger
	route func() *Site // nil: there is no route
	tcp   *net.TCPListener
	udp   *net.UDPConn
	next  *sources
	conns atomic.Int64 // TCP connections now
	wg    sync.WaitGroup

	mu    sync.Mutex // guards flows
	flows map[netip.AddrPort]*flow
}

// NewEntry binds addr for TCP and UDP; port 0 is one that is free for both.
// route is asked once per connection.
func NewEntry(addr netip.AddrPort, route func() *Site, log *slog.Logger) (*Entry, error) {
	tcp, udp, err := listenBoth(addr)
	if err != nil {
		return nil, err
	}
	// As much as the kernel lets us have: a burst of datagrams must survive
	// until this process is scheduled.
	_ = udp.SetReadBuffer(4 << 20)
	_ = udp.SetWriteBuffer(4 << 20)
	return &Entry{
		log: log, route: route, tcp: tcp, udp: udp,
		next:  &sources{},
		flows: make(map[netip.AddrPort]*flow),
	}, nil
}

// Addr returns the address that clients connect to.
func (e *Entry) Addr() netip.AddrPort { return e.tcp.Addr().(*net.TCPAddr).AddrPort() }

// Close closes the sockets of an entry that does not run.
func (e *Entry) Close() error { return errors.Join(e.tcp.Close(), e.udp.Close()) }

// Run carries connections until ctx ends; then it resets them.
func (e *Entry) Run(ctx context.Context, ready func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = e.Close() })
	defer stop()
	e.wg.Go(func() { e.sweepFlows(ctx) })
	e.wg.Go(func() { e.serveUDP(ctx) })
	ready()
	err := e.serveTCP(ctx)
	cancel()
	e.wg.Wait()
	return err
}

// sources hands out client addresses: 127.64.0.1 to 127.127.255.254, one after
// the other.
type sources struct{ n atomic.Uint32 }

func (s *sources) take() netip.Addr {
	n := s.n.Add(1) % (64 * 65536)
	if n&0xff == 0 || n&0xff == 0xff { // look like hosts
		return s.take()
	}
	return netip.AddrFrom4([4]byte{127, 64 + byte(n>>16), byte(n >> 8), byte(n)})
}

// sourceOf returns the address that a geo sees of client: its own, or a new
// one where all clients would share 127.0.0.1.
func (e *Entry) sourceOf(client netip.Addr) netip.Addr {
	client = client.Unmap()
	if client == netip.AddrFrom4([4]byte{127, 0, 0, 1}) {
		return e.next.take()
	}
	return client
}

// describe names the entry in errors.
func describe(region string, addr netip.AddrPort) string {
	return fmt.Sprintf("%s (the entry of %s)", addr, region)
}
