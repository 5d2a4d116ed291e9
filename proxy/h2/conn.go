package h2

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"time"

	"anyedge/internal/hpack"
	"anyedge/internal/message"
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
	secure      *message.Secure // nil: plain text
	peer, local netip.AddrPort

	// Of the goroutine that reads.
	br    *bufio.Reader
	dec   *hpack.Decoder
	block headerBlock
	owes  bool // replies are queued

	left   sync.Once  // leave has begun
	wmu    sync.Mutex // guards what follows; taken before mu, never while mu is held
	wbuf   []byte
	broken error // of a write: nothing more can be sent
	corked bool  // somebody is about to send wbuf
	begun  bool  // our SETTINGS were written
	ending bool  // a GOAWAY was or will be sent
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
	c.nc, c.streams, c.recvWindow = nc, map[uint32]*stream{}, c.window
	c.sendWindow, c.peerWindow, c.peerFrame = initialWindow, initialWindow, maxFrame
	c.room.L = &c.mu
	c.peer, c.local = message.AddrPort(nc.RemoteAddr()), message.AddrPort(nc.LocalAddr())
	c.enc, c.dec = hpack.NewEncoder(), hpack.NewDecoder()
}

// serve reads frames until the connection ends.
func (c *conn) serve() {
	err := c.begin()
	for err == nil {
		err = c.next()
	}
	c.finish(err, errClientGone)
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
		c.wbuf = appendGoAway(c.wbuf, last, bad.code, bad.why)
		_ = c.flush()
		c.wmu.Unlock()
		if c.end(cause) {
			c.linger()
		}
	}
	c.fail(cause)
}

// begin does the handshake and the exchange of prefaces (section 3.4).
func (c *conn) begin() error {
	_ = c.nc.SetDeadline(time.Now().Add(c.server.headerTimeout))
	if t, ok := c.nc.(*tls.Conn); ok {
		if err := t.HandshakeContext(c.server.base); err != nil {
			c.server.log.Debug("TLS handshake failed", "peer", c.peer, "err", err)
			return err
		}
		c.secure = message.SecureOf(t.ConnectionState())
	}
	c.br = bufio.NewReaderSize(c.nc, headerSize+maxFrame)
	if got, err := c.br.Peek(len(preface)); err != nil || string(got) != preface {
		return io.ErrUnexpectedEOF // it speaks something else
	}
	_, _ = c.br.Discard(len(preface))
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
	f, err := c.peek(1)
	if err != nil {
		return err
	}
	if f.kind != typeSettings || f.has(flagAck) {
		return connError{protocolError, "the first frame is not SETTINGS"}
	}
	c.mu.Lock()
	c.renew()
	c.mu.Unlock()
	return c.handle(f)
}

// next handles one frame.
func (c *conn) next() error {
	f, err := c.read()
	if err != nil {
		return err
	}
	err = c.handle(f)
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
	if f, err := c.peek(0); err == nil {
		return f, nil
	}
	if err := c.settle(); err != nil {
		return frame{}, err
	}
	for {
		c.mu.Lock()
		c.renew()
		c.mu.Unlock()
		f, err := c.peek(1)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return f, err
		}
		c.mu.Lock()
		busy := len(c.streams) > 0 && c.dead == nil
		c.renewed = time.Time{}
		c.mu.Unlock()
		switch {
		case c.backend != nil:
			if err := c.backend.silent(busy); err != nil {
				return frame{}, err
			}
		case !busy:
			return frame{}, connError{noError, "idle"}
		}
	}
}

var errNotWhole = errors.New("the frame is not there yet")

// peek returns the next frame out of the buffer; wait 0 means only if it is
// there whole.
func (c *conn) peek(wait int) (frame, error) {
	if wait == 0 && c.br.Buffered() < headerSize {
		return frame{}, errNotWhole
	}
	b, err := c.br.Peek(headerSize)
	if err != nil {
		return frame{}, err
	}
	f, length := parseHeader(b)
	if length > maxFrame {
		return f, connError{frameSizeError, "a frame is over 16 KiB"}
	}
	if wait == 0 && c.br.Buffered() < headerSize+length {
		return frame{}, errNotWhole
	}
	b, err = c.br.Peek(headerSize + length)
	if err != nil {
		return frame{}, err
	}
	f.payload = b[headerSize:]
	_, _ = c.br.Discard(headerSize + length) // the bytes stay until the next read
	return f, nil
}

// write appends frames. With flush they are sent once everybody has had a turn who
// can go on now: answers that are ready together leave together, and where nobody
// else is ready nothing is waited for.
func (c *conn) write(flush bool, frames func(b []byte) []byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.wbuf = frames(c.wbuf)
	if len(c.wbuf) >= 4*maxFrame {
		return c.flush()
	}
	if !flush || c.corked {
		return nil
	}
	c.corked = true
	c.wmu.Unlock()
	runtime.Gosched()
	c.wmu.Lock()
	c.corked = false
	return c.flush()
}

// send writes frames that somebody waits for.
func (c *conn) send(frames func(b []byte) []byte) error { return c.write(true, frames) }

// reply queues frames that the goroutine in serve has to send; they leave with
// the next ones, or when it waits for the client.
func (c *conn) reply(frames func(b []byte) []byte) error {
	c.owes = true
	return c.write(false, frames)
}

// settle sends replies that are still queued.
func (c *conn) settle() error {
	if !c.owes {
		return nil
	}
	c.owes = false
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.corked {
		return nil
	}
	return c.flush()
}

// flush sends what is queued; wmu is held.
func (c *conn) flush() error {
	if len(c.wbuf) == 0 || c.broken != nil {
		c.wbuf = c.wbuf[:0]
		return c.broken
	}
	_ = c.nc.SetWriteDeadline(time.Now().Add(c.stall))
	_, err := c.nc.Write(c.wbuf)
	c.wbuf = c.wbuf[:0]
	if cap(c.wbuf) > 8*maxFrame {
		c.wbuf = nil
	}
	c.broken = err
	switch {
	case err == nil:
	case c.backend != nil:
		c.backend.unwritable(err)
	case c.end(err):
		c.fail(err)
	}
	return err
}
