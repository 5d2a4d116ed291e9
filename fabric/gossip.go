package fabric

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
)

var _ memberlist.NodeAwareTransport = (*membership)(nil)

// deliver hands a packet to memberlist; when that is behind, it is dropped.
func (m *membership) deliver(b []byte, from Peer) {
	select {
	case m.packets <- &memberlist.Packet{Buf: b, From: peerAddr(from.Node), Timestamp: time.Now()}:
	default:
	}
}

// accept hands a stream to memberlist.
func (m *membership) accept(c *gossipConn) {
	select {
	case m.streams <- c:
	case <-c.l.conn.Context().Done():
	}
}

// FinalAdvertiseAddr returns where other nodes find this one.
func (m *membership) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	addr := m.f.Addr()
	return addr.Addr().AsSlice(), int(addr.Port()), nil
}

// WriteTo sends a packet to whoever is known by addr.
func (m *membership) WriteTo(b []byte, addr string) (time.Time, error) {
	return m.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// WriteToAddress queues a packet. It never dials and never blocks: memberlist
// calls it from its probe loop.
func (m *membership) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	now := time.Now()
	r := m.named(a)
	if r == nil {
		return now, nil // as lost as a packet to nowhere
	}
	l := r.best()
	if l == nil {
		signal(r.kick)
		return now, nil
	}
	l.send(append([]byte{datagramGossip}, b...))
	return now, nil
}

// PacketCh returns the packets of others.
func (m *membership) PacketCh() <-chan *memberlist.Packet { return m.packets }

// StreamCh returns the streams that others open.
func (m *membership) StreamCh() <-chan net.Conn { return m.streams }

// DialTimeout opens a stream to whoever is known by addr.
func (m *membership) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return m.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout opens a stream to a node.
func (m *membership) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	r := m.named(a)
	if r == nil {
		return nil, fmt.Errorf("no node is known by %s", a.String())
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	l, err := r.await(ctx, r.best)
	if err != nil {
		return nil, err
	}
	s, err := l.openStream(ctx, streamGossip)
	if err != nil {
		return nil, err
	}
	return &gossipConn{s, l}, nil
}

// Shutdown does nothing: the connections belong to the fabric.
func (m *membership) Shutdown() error { return nil }

// named finds the node that memberlist means.
func (m *membership) named(a memberlist.Address) *remote {
	if a.Name != "" {
		return m.f.roster.get(a.Name)
	}
	if r := m.f.roster.get(a.Addr); r != nil { // a peerAddr
		return r
	}
	addr, err := netip.ParseAddrPort(a.Addr)
	if err != nil {
		return nil
	}
	return m.f.roster.at(netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()))
}
