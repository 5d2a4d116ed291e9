package dnsserver

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Bounds of the work that clients can cause.
const (
	packetWorkers = 4    // UDP queries answered at once
	maxQuery      = 4096 // bytes of a UDP query
	maxStreams    = 128  // TCP connections
	maxPerClient  = 32   // of these, from one address

	idleTimeout  = 10 * time.Second // between two queries of a connection
	queryTimeout = 2 * time.Second  // for the rest of a query whose first byte is here
	writeTimeout = 2 * time.Second
	errorPause   = 50 * time.Millisecond // after a socket's error: no more file descriptors, most likely
)

// servePackets answers UDP queries until ctx ends.
func (s *Server) servePackets(ctx context.Context, conn *net.UDPConn) {
	buf := make([]byte, maxQuery)
	for ctx.Err() == nil {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			s.pause(ctx, "reading queries", err)
			continue
		}
		if !s.known(from) {
			continue
		}
		if reply := s.respond(buf[:n], false); reply != nil {
			// A client that is gone is its own affair.
			_, _ = conn.WriteToUDPAddrPort(reply, from)
		}
	}
}

// pause logs a socket's error and waits a little, unless ctx has ended.
func (s *Server) pause(ctx context.Context, doing string, err error) {
	if ctx.Err() != nil {
		return
	}
	s.log.Warn("a socket failed; trying on", "doing", doing, "err", err)
	timer := time.NewTimer(errorPause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// serveStreams accepts TCP connections until ctx ends, and waits for theirs.
func (s *Server) serveStreams(ctx context.Context, l *net.TCPListener) {
	var running sync.WaitGroup
	defer running.Wait()
	var open census
	for ctx.Err() == nil {
		conn, err := l.AcceptTCP()
		if err != nil {
			s.pause(ctx, "accepting connections", err)
			continue
		}
		from := conn.RemoteAddr().(*net.TCPAddr).AddrPort()
		if !s.known(from) || !open.enter(from.Addr()) {
			_ = conn.Close()
			continue
		}
		running.Go(func() {
			defer open.leave(from.Addr())
			s.serveStream(ctx, conn)
		})
	}
}

// serveStream answers the queries of one connection in their order, until the
// client is done, too slow, or ctx ends (RFC 7766).
func (s *Server) serveStream(ctx context.Context, conn *net.TCPConn) {
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	for {
		query, err := readQuery(conn)
		if err != nil {
			return
		}
		reply := s.respond(query, true)
		if reply == nil {
			return
		}
		out := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(reply)), uint16(len(reply)))
		if err := conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return
		}
		if _, err := conn.Write(append(out, reply...)); err != nil {
			return
		}
	}
}

// readQuery reads one message: its length, then so many bytes (RFC 1035
// section 4.2.2).
func readQuery(conn net.Conn) ([]byte, error) {
	var length [2]byte
	if err := conn.SetReadDeadline(time.Now().Add(idleTimeout)); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(conn, length[:1]); err != nil {
		return nil, err
	}
	if err := conn.SetReadDeadline(time.Now().Add(queryTimeout)); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(conn, length[1:]); err != nil {
		return nil, err
	}
	query := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err := io.ReadFull(conn, query)
	return query, err
}

// A census counts connections by client; the zero census is empty.
type census struct {
	mu    sync.Mutex
	total int
	of    map[netip.Addr]int
}

// enter counts one more connection of a, and reports whether it may stay.
func (c *census) enter(a netip.Addr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.total >= maxStreams || c.of[a] >= maxPerClient {
		return false
	}
	if c.of == nil {
		c.of = map[netip.Addr]int{}
	}
	c.total++
	c.of[a]++
	return true
}

// leave forgets one connection of a.
func (c *census) leave(a netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total--
	if c.of[a]--; c.of[a] == 0 {
		delete(c.of, a)
	}
}

// limit returns how long a response may be, in bytes: all that TCP can carry;
// over UDP what the client takes and crosses any network whole.
func limit(tcp bool, opt *dns.OPT) int {
	switch {
	case tcp:
		return dns.MaxMsgSize
	case opt == nil:
		return dns.MinMsgSize
	}
	return min(max(int(opt.UDPSize()), dns.MinMsgSize), maxPayload)
}
