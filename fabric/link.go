package fabric

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"

	workers "anyedge/internal/crew"
	"anyedge/proxy/h3"
)

// Types that our own streams begin with. They are four-byte varints, which no
// HTTP/3 stream of ours begins with: a request begins with a HEADERS frame
// (0x01), a unidirectional stream with its type (0x00-0x03; RFC 9114 section 6).
const (
	streamGossip  = 0x25640001 // memberlist's byte stream, or one large packet
	streamRecords = 0x25640002 // one exchange of records
)

// The first byte of a datagram says what it is.
const (
	datagramGossip byte = 1
	datagramProbe  byte = 2
	datagramEcho   byte = 3
)

// maxGossip bounds one gossip packet that came on a stream.
const maxGossip = 1 << 20

// typeWait is how long a stream may wait with its first bytes.
const typeWait = 5 * time.Second

// A link is one QUIC connection to a peer whose certificate was verified.
// Requests go from the side that dialed to the other; everything else both
// ways.
type link struct {
	f      *Fabric
	conn   *quic.Conn
	peer   Peer
	key    [32]byte // of its certificate's public key
	dialed bool
	opened time.Time

	client *h3.Client  // of a dialed link
	server *h3.Conn    // of an accepted one
	out    chan []byte // datagrams to be sent

	exchanges chan struct{} // holds a token for each exchange of records that is being served

	requests atomic.Int64 // in flight on this link, sent by this node
}

// run serves the connection until it is closed, and returns when everything
// that it started has ended.
func (l *link) run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(l.sendDatagrams)
	wg.Go(func() { l.receiveDatagrams(ctx) })
	wg.Go(func() { l.acceptUni(ctx, &wg) })
	streams := workers.New(l.stream)
	for {
		s, err := l.conn.AcceptStream(ctx)
		if err != nil {
			break
		}
		streams.Do(s)
	}
	l.close(codeLeaving, "the node is stopping") // else it is closed already
	streams.End()
	wg.Wait()
}

// alive reports whether the connection is open.
func (l *link) alive() bool { return l.conn.Context().Err() == nil }

// close ends the connection and tells the peer why.
func (l *link) close(code quic.ApplicationErrorCode, why string) {
	_ = l.conn.CloseWithError(code, why)
}

// cause returns what ended the connection, nil while it is open.
func (l *link) cause() error { return context.Cause(l.conn.Context()) }

// send queues a datagram; it never blocks. A full queue drops it.
func (l *link) send(b []byte) {
	select {
	case l.out <- b:
	default:
	}
}

func (l *link) sendDatagrams() {
	for {
		select {
		case b := <-l.out:
			err := l.conn.SendDatagram(b)
			if _, tooLarge := errors.AsType[*quic.DatagramTooLargeError](err); tooLarge && b[0] == datagramGossip {
				l.sendLarge(b[1:])
			}
		case <-l.conn.Context().Done():
			return
		}
	}
}

// sendLarge sends a gossip packet that fits into no datagram.
func (l *link) sendLarge(b []byte) {
	s, err := l.conn.OpenUniStream()
	if err != nil {
		return
	}
	_ = s.SetWriteDeadline(time.Now().Add(time.Second))
	if _, err := s.Write(append(quicvarint.Append(nil, streamGossip), b...)); err != nil {
		s.CancelWrite(0)
		return
	}
	_ = s.Close()
}

func (l *link) receiveDatagrams(ctx context.Context) {
	for {
		b, err := l.conn.ReceiveDatagram(ctx)
		if err != nil {
			return
		}
		if len(b) == 0 {
			continue
		}
		switch b[0] {
		case datagramGossip:
			l.f.members.deliver(b[1:], l.peer)
		case datagramProbe, datagramEcho:
			l.probe(b)
		}
	}
}

func (l *link) acceptUni(ctx context.Context, wg *sync.WaitGroup) {
	for {
		s, err := l.conn.AcceptUniStream(ctx)
		if err != nil {
			return
		}
		wg.Go(func() { l.uni(s) })
	}
}

// uni serves a unidirectional stream: a large gossip packet, or HTTP/3's own.
func (l *link) uni(s *quic.ReceiveStream) {
	switch kind := streamType(s); {
	case kind == streamGossip:
		_ = s.SetReadDeadline(time.Now().Add(typeWait))
		b, err := io.ReadAll(io.LimitReader(s, maxGossip))
		if err == nil {
			l.f.members.deliver(b, l.peer)
		}
	case kind != 0:
		s.CancelRead(0)
	case l.dialed:
		l.client.ServeUniStream(s)
	default:
		l.server.ServeUniStream(s)
	}
}

// stream serves a bidirectional stream that the peer opened.
func (l *link) stream(s *quic.Stream) {
	switch kind := streamType(s); {
	case kind == streamGossip:
		l.f.members.accept(&gossipConn{s, l})
	case kind == streamRecords:
		l.serveRecords(s)
	case kind == 0 && !l.dialed:
		l.server.ServeStream(s)
	default:
		s.CancelRead(0)
		s.CancelWrite(0)
	}
}

// A typedStream is a stream whose first bytes can be looked at.
type typedStream interface {
	io.Reader
	Peek(b []byte) (int, error)
	SetReadDeadline(t time.Time) error
}

// streamType takes our own type off the front of s. It returns 0 and takes
// nothing when s does not begin with one.
func streamType(s typedStream) uint32 {
	_ = s.SetReadDeadline(time.Now().Add(typeWait))
	defer func() { _ = s.SetReadDeadline(time.Time{}) }()
	var b [4]byte
	if n, err := s.Peek(b[:1]); n < 1 || err != nil || b[0]>>6 != 2 { // RFC 9000 section 16: 4 bytes
		return 0
	}
	if n, _ := s.Peek(b[:]); n < len(b) {
		return 0
	}
	_, _ = io.ReadFull(s, b[:])
	return binary.BigEndian.Uint32(b[:]) &^ (0b11 << 30)
}

// openStream opens a stream of one of our own types.
func (l *link) openStream(ctx context.Context, kind uint64) (*quic.Stream, error) {
	s, err := l.conn.OpenStreamSync(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := s.Write(quicvarint.Append(nil, kind)); err != nil {
		s.CancelRead(0)
		return nil, err
	}
	return s, nil
}

// A gossipConn is a stream that memberlist takes for a TCP connection.
type gossipConn struct {
	*quic.Stream
	l *link
}

func (c *gossipConn) LocalAddr() net.Addr  { return c.l.conn.LocalAddr() }
func (c *gossipConn) RemoteAddr() net.Addr { return peerAddr(c.l.peer.Node) }

// Close ends both directions.
func (c *gossipConn) Close() error {
	c.CancelRead(0)
	return c.Stream.Close()
}

// peerAddr is the name of a node where a library wants an address.
type peerAddr string

func (peerAddr) Network() string  { return "fabric" }
func (a peerAddr) String() string { return string(a) }
