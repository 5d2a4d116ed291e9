package dnsserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
)

// bind opens both sockets, or none.
func (s *Server) bind(ctx context.Context) (*net.UDPConn, *net.TCPListener, error) {
	version := "4"
	if s.addr.Addr().Is6() {
		version = "6"
	}
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	streams, err := lc.Listen(ctx, "tcp"+version, s.addr.String())
	if err != nil {
		return nil, nil, s.explain(err)
	}
	packets, err := lc.ListenPacket(ctx, "udp"+version, s.addr.String())
	if err != nil {
		_ = streams.Close()
		return nil, nil, s.explain(err)
	}
	return packets.(*net.UDPConn), streams.(*net.TCPListener), nil
}

// explain adds to an error of bind what helps.
func (s *Server) explain(err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w: another DNS server has it (ss -lntup 'sport = :%d' names it); choose another address or port in node.dns.listen", err, s.addr.Port())
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%w: ports below 1024 need CAP_NET_BIND_SERVICE (AmbientCapabilities= in the unit); give it, or a port from 1024 on in node.dns.listen", err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%w: this machine has no address %s; add it to an interface, or name another one in node.dns.listen", err, s.addr.Addr())
	}
	return err
}
