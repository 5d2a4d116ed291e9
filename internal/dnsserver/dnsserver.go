// Package dnsserver tells the apps of a geo where its services are: it is
// authoritative for the zone internal. (reserved for private use by ICANN).
//
//	SERVICE.internal  A, AAAA, SRV   the healthy backends of this geo alone
//	GEO.SERVICE.internal             this edge's private listener, which takes
//	                                 a request with that host to that geo
//	geos.internal     TXT            every geo, its state and round-trip time
//
// A [Server] listens on one private address, UDP and TCP, and takes what it
// says from a [Source]: snapshots, read without a lock for every query. Records
// live one second and start at a random backend.
//
// A service without a healthy backend has no data (NOERROR with the SOA,
// RFC 2308 section 2.2), as a name with records of other types alone: the name
// exists, and a resolver neither takes this server for broken nor its answers
// about other services for doubtful, which SERVFAIL would do. Only before the
// first verdict of its health checks the answer is SERVFAIL, so that a resolver
// asks another edge. Whoever speaks EDNS reads the reason (RFC 8914).
//
// The package resolves nothing for others (no recursion), transfers no zone,
// signs nothing, and leaves sources alone that are not private: it is no use
// for amplification.
package dnsserver

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"

	"anyedge/internal/world"
)

// A Source is what the answers are made from. Both methods are called for
// every query by several goroutines at once, so they return snapshots, which
// nobody changes.
type Source interface {
	// Services returns every service, also those without a backend here.
	Services() []ServiceAnswer
	// World returns what is known of all geos; never nil.
	World() *world.World
}

// A ServiceAnswer is what is known of one service in this geo.
type ServiceAnswer struct {
	Name     string
	Backends []Backend // those that an address record can name
	LeftOut  int       // further backends: their URL has a host name or a socket
	Reported bool      // every backend has been judged at least once
	// Private is where this edge takes requests for GEO.SERVICE.internal: a
	// listener's addresses, all with the same port; empty: nowhere.
	Private []netip.AddrPort
}

// A Backend is one instance of a service.
type Backend struct {
	Address netip.AddrPort // without a zone
	Weight  uint16         // relative, for SRV
	Healthy bool
}

// A Server answers at one address.
type Server struct {
	addr netip.AddrPort
	src  Source
	log  *slog.Logger

	strange atomic.Bool // a stranger has asked; said once
}

// New returns a server that does not listen yet.
func New(c Config, src Source, log *slog.Logger) (*Server, error) {
	a, err := c.address()
	if err != nil {
		return nil, err
	}
	return &Server{addr: a, src: src, log: log}, nil
}

// Run binds the address for UDP and TCP, calls ready and answers until ctx
// ends. A socket that cannot be bound is the error.
func (s *Server) Run(ctx context.Context, ready func()) error {
	packets, streams, err := s.bind(ctx)
	if err != nil {
		return err
	}
	var running sync.WaitGroup
	for range packetWorkers {
		running.Go(func() { s.servePackets(ctx, packets) })
	}
	running.Go(func() { s.serveStreams(ctx, streams) })
	s.log.Info("answering", "address", s.addr.String(), "zone", zone)
	ready()
	<-ctx.Done()
	_ = packets.Close()
	_ = streams.Close()
	running.Wait()
	return nil
}

// known reports whether a query's source may be answered; the first that may
// not is logged.
func (s *Server) known(from netip.AddrPort) bool {
	if private(from.Addr()) {
		return true
	}
	if !s.strange.Swap(true) {
		s.log.Warn("a query from a public address was dropped; further ones are, too", "from", from.String())
	}
	return false
}
