package h2

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"anyedge/internal/hpack"
	"anyedge/internal/message"
	"anyedge/proxy/wire"
)

const (
	writeTimeout = 30 * time.Second // for one write to a client
	stallTimeout = 2 * time.Minute  // for a window: a stream that nobody reads holds its backend up
	renewEvery   = time.Second      // the idle deadline
	maxRecent    = 128              // streams that we have reset
)

// A conn is a connection, of a client to us or of ours to a backend. One goroutine
// reads it; streams write to it.
type conn struct {
	server  *Server  // nil on a connection to a backend
	backend *backend // nil on a client's

	header int           // most bytes of a header section that is taken
	idle   time.Duration // of the connection without a stream
	stall  time.Duration // of one write: a peer that reads nothing holds all streams up
	window int64         // of the connection when it is whole
	log    *slog.Logger

	nc          net.Conn
	wire        *wire.Conn      // nc, or what it is around; nil: it is something else
	secure      *message.Secure // nil: plain text
	peer, local netip.AddrPort

	// Of the goroutine that reads.
	in    reader
	dec   *hpack.Decoder
	block headerBlock
	owes  bool // replies are queued

	left   sync.Once  // leave has begun
	wmu    sync.Mutex // guards what follows; taken before mu, never while mu is held
	wbuf   []byte
	out    *[]byte // what wbuf is of outs; nil: wbuf has nothing
	broken error   // of a write: nothing more can be sent
	corked bool    // somebody is about to send wbuf
	begun  bool    // our SETTINGS were written
	ending bool    // a GOAWAY was or will be sent
	enc    *hpack.Encoder

	mu         sync.Mutex // guards what follows, and the streams' states
	room       sync.Cond  // broadcast when a window grows or something ends
	streams    map[uint32]*stream
	running    int    // handlers, also of streams that are over
	over       int    // of streams: for the peer
	maxID      uint32 // of the streams that were opened
	sendWindow int64
	recvWindow int64
	unacked    int64     // bytes that were read and not yet given back to the peer
	wide       int64     // what streams have of wideWindows
	peerWindow int64     // initial one of streams
	peerFrame  int       // largest frame that the peer takes
	renewed    time.Time // the read deadline
	bored      bool      // a client that asks nothing was told that the connection will end
	control    flood     // of frames that ask for nothing
	resets     flood     // of streams that came to nothing
	refusals   flood
	recent     []uint32 // streams that we have reset, the newest last
	leaving    bool     // a GOAWAY was sent that names the last stream
	lastID     uint32   // that is taken; maxStreamID until leaving
	dead       error    // nil while the connection lives
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{server: s, header: s.header, idle: s.idle, stall: writeTimeout, window: s.window(), log: s.log, lastID: maxStreamID}
	c.init(nc)
	return c
}

// init makes c ready for nc.
func (c *conn) init(nc net.Conn) {
	c.wire = wire.Within(nc)
	if s, ok := nc.(wire.Socket); ok && c.wire == nil {
		if w, err := wire.New(s); err == nil {
			c.wire, nc = w, w
		}
	}
	c.nc, c.in.from = nc, nc
	c.streams, c.recvWindow = map[uint32]*stream{}, c.window
	c.sendWindow, c.peerWindow, c.peerFrame = initialWindow, initialWindow, maxFrame
	c.room.L = &c.mu
	c.peer, c.local = message.AddrPort(nc.RemoteAddr()), message.AddrPort(nc.LocalAddr())
	c.enc, c.dec = hpack.NewEncoder(), hpack.NewDecoder()
}

// serve reads frames until the connection ends.
func (c *conn) serve() {
	err := c.begin()
	if err == nil && c.wire != nil {
		err = c.attend()
	}
	for err == nil {
		err = c.next()
	}
	c.finish(err, errClientGone)
}

// attend handles frames until the connection ends. It waits outside of crypto/tls
// and without a buffer.
func (c *conn) attend() error {
	for {
		c.await()
		var failed error
		err := c.wire.Attend(func() bool {
			failed = c.step()
			return failed != nil
		})
		switch {
		case failed != nil:
			return failed
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		}
		if err := c.late(); err != nil {
			return err
		}
	}
}

// step handles the frames that are there.
func (c *conn) step() error {
	for {
		f, whole, err := c.in.frame()
		if err == nil && whole {
			err = c.take(f)
		} else if err == nil {
			if err = c.settle(); err == nil {
				err = c.in.fill()
			}
		}
		if errors.Is(err, wire.ErrNothing) {
			c.in.release()
			c.await()
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// finish ends a connection that err has ended: its peer hears why, if that is
// its own fault, and its streams end with cause.
func (c *conn) finish(err, cause error) {
	if bad, ok := errors.AsType[connError](err); ok {
		c.log.Debug("connection ended", "peer", c.peer, "err", bad)
		c.refuseBy(err)
		c.mu.Lock()
		last := c.lastTaken()
		c.mu.Unlock()
		c.wmu.Lock() // at once: who writes next may come too late
		c.queue(func(b []byte) []byte { return appendGoAway(b, last, bad.code, bad.why) })
		_ = c.flush()
		c.wmu.Unlock()
		if c.end(cause) {
			c.linger()
		}
	}
	c.fail(cause)
	if c.wire != nil { // nobody attends to it any more
		_ = c.wire.Close()
	}
	c.in.r = c.in.w
	c.in.release()
}

// begin does the handshake and the exchange of prefaces (section 3.4).
func (c *conn) begin() error {
	c.within(c.server.headerTimeout)
	if t, ok := c.nc.(*tls.Conn); ok {
		if err := t.HandshakeContext(c.server.base); err != nil {
			c.server.log.Debug("TLS handshake failed", "peer", c.peer, "err", err)
			return err
		}
		c.secure = message.SecureOf(t.ConnectionState())
	}
	if !c.in.starts(preface) {
		return io.ErrUnexpectedEOF // it speaks something else
	}
	err := c.write(true, func(b []byte) []byte {
		b = appendHeader(b, 4*6, typeSettings, 0, 0)
		b = appendSetting(b, settingMaxStreams, uint32(c.server.streams))
		b = appendSetting(b, settingInitialWindow, uint32(firstWindow))
		b = appendSetting(b, settingMaxHeaderList, uint32(c.server.header))
		b = appendSetting(b, settingConnectAllowed, 1)
		b = appendWindowUpdate(b, 0, c.recvWindow-initialWindow)
		if c.begun = true; c.ending {
			b = appendGoAway(b, maxStreamID, noError, "")
		}
		return b
	})
	if err != nil {
		return err
	}
	f, err := c.first()
	if err != nil {
		return err
	}
	if f.kind != typeSettings || f.has(flagAck) {
		return connError{protocolError, "the first frame is not SETTINGS"}
	}
	return c.handle(f)
}

// next handles one frame.
func (c *conn) next() error {
	f, err := c.read()
	if err != nil {
		return err
	}
	return c.take(f)
}

// take handles a frame, and ends the stream that it breaks.
func (c *conn) take(f frame) error {
	err := c.handle(f)
	bad, ok := errors.AsType[streamError](err)
	if !ok {
		return err
	}
	c.log.Debug("stream ended", "peer", c.peer, "err", bad)
	c.refuseBy(err)
	if err := c.reset(bad); err != nil || bad.code == refusedStream {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gaveUp()
}

// read reads one frame. While streams are open it waits for ever.
func (c *conn) read() (frame, error) {
	for {
		f, whole, err := c.in.frame()
		if whole || err != nil {
			return f, err
		}
		if err := c.settle(); err != nil {
			return frame{}, err
		}
		c.await()
		if err = c.in.fill(); errors.Is(err, os.ErrDeadlineExceeded) {
			err = c.late()
		}
		if err != nil {
			return frame{}, err
		}
	}
}

// first reads a frame, with the deadline that is set.
func (c *conn) first() (frame, error) {
	for {
		f, whole, err := c.in.frame()
		if whole || err != nil {
			return f, err
		}
		if err := c.in.fill(); err != nil {
			return frame{}, err
		}
	}
}

// within sets the deadline of the exchange of prefaces.
func (c *conn) within(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead == nil {
		_ = c.nc.SetDeadline(time.Now().Add(d))
	}
}

// await sets the deadline of the next wait.
func (c *conn) await() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.renew()
}

// late is called when nothing has come until the deadline; an error ends the
// connection.
func (c *conn) late() error {
	c.mu.Lock()
	busy, leaving, dead := len(c.streams) > 0, c.leaving, c.dead
	c.renewed = time.Time{}
	c.mu.Unlock()
	switch {
	case dead != nil:
		return dead
	case c.backend != nil:
		return c.backend.silent(busy)
	case !busy && !c.bored && !leaving: // a request may be on its way: the client is told before
		c.bored = true
		c.leave()
	case !busy:
		return connError{noError, "idle"}
	}
	return nil
}
