package h2

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2/hpack"
)

const (
	writeTimeout = 30 * time.Second // for one write: a peer that reads nothing holds all streams up
	renewEvery   = time.Second      // the idle deadline
	maxControl   = 1000             // frames that ask for nothing, in a row
	maxResets    = 500              // streams that a client gave up, over those it let end
	maxRecent    = 128              // streams that we have reset
)

// A conn is a client's connection. serve reads it; streams write to it.
type conn struct {
	server      *Server
	nc          net.Conn
	secure      bool
	peer, local netip.AddrPort

	// Of the goroutine in serve.
	br      *bufio.Reader
	dec     *hpack.Decoder
	block   headerBlock
	control int // frames in a row that ask for nothing
	renewed time.Time

	writers atomic.Int32 // that wait for wmu or have it
	wmu     sync.Mutex   // guards what follows; taken before mu, never while mu is held
	wbuf    []byte
	urgent  bool // somebody wants wbuf to be sent
	enc     *hpack.Encoder
	encoded hpackBuffer

	mu         sync.Mutex // guards what follows, and the streams' states
	room       sync.Cond  // broadcast when a window grows or something ends
	streams    map[uint32]*stream
	running    int    // handlers, also of streams that are over
	maxID      uint32 // of the client's streams
	sendWindow int64
	recvWindow int64
	unacked    int64 // bytes that were read and not yet given back to the client
	peerWindow int64 // initial one of streams
	peerFrame  int   // largest frame that the client takes
	resets     int
	recent     []uint32 // streams that we have reset, the newest last
	leaving    bool     // a GOAWAY was sent that names the last stream
	lastID     uint32   // that is taken; maxStreamID until leaving
	dead       error    // nil while the connection lives
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{
		server: s, nc: nc, streams: map[uint32]*stream{}, lastID: maxStreamID,
		sendWindow: initialWindow, recvWindow: connectionWindow, peerWindow: initialWindow, peerFrame: maxFrame,
	}
	c.room.L = &c.mu
	c.peer, c.local = addrPort(nc.RemoteAddr()), addrPort(nc.LocalAddr())
	c.enc = hpack.NewEncoder(&c.encoded)
	c.dec = hpack.NewDecoder(firstTableSize, nil)
	return c
}

func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		ap := t.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}

// serve reads frames until the connection ends.
func (c *conn) serve() {
	err := c.begin()
	for err == nil {
		err = c.next()
	}
	bad, ok := errors.AsType[connError](err)
	if ok {
		c.server.log.Debug("connection ended", "peer", c.peer, "err", bad)
		c.mu.Lock()
		last := c.maxID
		c.mu.Unlock()
		_ = c.write(true, func(b []byte) []byte { return appendGoAway(b, last, bad.code, bad.why) })
		c.linger()
	}
	c.fail(errClientGone)
}

// lingerTime is how long a client may read why its connection ended.
const lingerTime = 200 * time.Millisecond

// linger takes in what still comes: a connection that is closed on unread bytes
// may take the GOAWAY with it.
func (c *conn) linger() {
	if t, ok := c.nc.(interface{ CloseWrite() error }); ok {
		_ = t.CloseWrite()
	}
	_ = c.nc.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.CopyN(io.Discard, c.nc, 1<<20)
}

// begin does the handshake and the exchange of prefaces (section 3.4).
func (c *conn) begin() error {
	_ = c.nc.SetDeadline(time.Now().Add(c.server.headerTimeout))
	if t, ok := c.nc.(*tls.Conn); ok {
		c.secure = true
		if err := t.HandshakeContext(c.server.base); err != nil {
			c.server.log.Debug("TLS handshake failed", "peer", c.peer, "err", err)
			return err
		}
	}
	c.br = bufio.NewReaderSize(c.nc, headerSize+maxFrame)
	if got, err := c.br.Peek(len(preface)); err != nil || string(got) != preface {
		return io.ErrUnexpectedEOF // it speaks something else
	}
	_, _ = c.br.Discard(len(preface))
	err := c.write(true, func(b []byte) []byte {
		b = appendHeader(b, 4*6, typeSettings, 0, 0)
		b = appendSetting(b, settingMaxStreams, uint32(c.server.streams))
		b = appendSetting(b, settingInitialWindow, uint32(streamWindow))
		b = appendSetting(b, settingMaxHeaderList, uint32(c.server.header))
		b = appendSetting(b, settingConnectAllowed, 1)
		return appendWindowUpdate(b, 0, connectionWindow-initialWindow)
	})
	if err != nil {
		return err
	}
	f, err := c.read()
	if err != nil {
		return err
	}
	if f.kind != typeSettings || f.has(flagAck) {
		return connError{protocolError, "the first frame is not SETTINGS"}
	}
	_ = c.nc.SetDeadline(time.Time{})
	return c.handle(f)
}

// next handles one frame.
func (c *conn) next() error {
	f, err := c.read()
	if err != nil {
		return err
	}
	err = c.handle(f)
	if bad, ok := errors.AsType[streamError](err); ok {
		c.server.log.Debug("stream ended", "peer", c.peer, "err", bad)
		return c.reset(bad.stream, bad.code)
	}
	return err
}

// read reads one frame. While streams are open it waits for ever.
func (c *conn) read() (frame, error) {
	if f, err := c.peek(0); err == nil {
		return f, nil
	}
	for {
		if now := time.Now(); now.Sub(c.renewed) > renewEvery {
			c.renewed = now
			if err := c.nc.SetReadDeadline(now.Add(c.server.idle)); err != nil {
				return frame{}, err
			}
		}
		f, err := c.peek(1)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return f, err
		}
		c.mu.Lock()
		busy := len(c.streams) > 0 && c.dead == nil
		last := c.maxID
		c.mu.Unlock()
		if !busy {
			_ = c.write(true, func(b []byte) []byte { return appendGoAway(b, last, noError, "idle") })
			return frame{}, err
		}
		c.renewed = time.Time{}
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

// write appends frames, and sends what is queued unless another writer is about
// to.
func (c *conn) write(flush bool, frames func(b []byte) []byte) error {
	c.writers.Add(1)
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.wbuf = frames(c.wbuf)
	c.urgent = c.urgent || flush
	others := c.writers.Add(-1) > 0
	if len(c.wbuf) < 4*maxFrame && (others || !c.urgent) {
		return nil
	}
	c.urgent = false
	return c.flush()
}

// flush sends what is queued; wmu is held.
func (c *conn) flush() error {
	if len(c.wbuf) == 0 {
		return nil
	}
	_ = c.nc.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err := c.nc.Write(c.wbuf)
	c.wbuf = c.wbuf[:0]
	if cap(c.wbuf) > 8*maxFrame {
		c.wbuf = nil
	}
	if err != nil {
		c.fail(err)
	}
	return err
}

// fail ends the connection and everything on it.
func (c *conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead != nil {
		return
	}
	c.dead = err
	for _, st := range c.streams {
		st.abandon(errClientGone)
	}
	clear(c.streams)
	c.room.Broadcast()
	_ = c.nc.Close()
}

// reset ends one stream.
func (c *conn) reset(id uint32, why code) error {
	c.mu.Lock()
	if st := c.streams[id]; st != nil {
		st.abandon(errClientGone)
		c.forget(st)
	}
	c.recent = append(c.recent, id)
	if len(c.recent) > maxRecent {
		c.recent = append(c.recent[:0], c.recent[1:]...)
	}
	c.mu.Unlock()
	return c.write(true, func(b []byte) []byte { return appendReset(b, id, why) })
}

// forget takes a stream off the connection; mu is held.
func (c *conn) forget(st *stream) {
	delete(c.streams, st.id)
	c.room.Broadcast()
	if len(c.streams) == 0 && c.leaving {
		_ = c.nc.SetReadDeadline(time.Now()) // serve ends it
	}
}

// announceEnd tells the client that the connection will end (section 6.8).
func (c *conn) announceEnd() {
	_ = c.write(true, func(b []byte) []byte { return appendGoAway(b, maxStreamID, noError, "") })
}

// endSoon takes no more streams, and ends the connection with its last one.
func (c *conn) endSoon() {
	c.mu.Lock()
	c.leaving, c.lastID = true, c.maxID
	last, none := c.maxID, len(c.streams) == 0
	c.mu.Unlock()
	_ = c.write(true, func(b []byte) []byte { return appendGoAway(b, last, noError, "") })
	if none {
		_ = c.nc.SetReadDeadline(time.Now())
	}
}

// handleSettings takes the client's settings (section 6.5).
func (c *conn) handleSettings(f frame) error {
	switch {
	case f.stream != 0:
		return connError{protocolError, "SETTINGS on a stream"}
	case f.has(flagAck) && len(f.payload) > 0, len(f.payload)%6 != 0:
		return connError{frameSizeError, "SETTINGS of a wrong size"}
	case f.has(flagAck):
		return nil
	}
	table := -1
	for p := f.payload; len(p) > 0; p = p[6:] {
		value := binary.BigEndian.Uint32(p[2:])
		switch binary.BigEndian.Uint16(p) {
		case settingTableSize:
			table = int(min(value, firstTableSize))
		case settingEnablePush:
			if value > 1 {
				return connError{protocolError, "ENABLE_PUSH is neither 0 nor 1"}
			}
		case settingInitialWindow:
			if value > maxWindow {
				return connError{flowControlError, "INITIAL_WINDOW_SIZE is over 2^31-1"}
			}
			if err := c.resize(int64(value)); err != nil {
				return err
			}
		case settingMaxFrame:
			if value < maxFrame || value >= 1<<24 {
				return connError{protocolError, "MAX_FRAME_SIZE is out of bounds"}
			}
		}
	}
	return c.write(true, func(b []byte) []byte {
		if table >= 0 {
			c.enc.SetMaxDynamicTableSizeLimit(uint32(table))
			c.enc.SetMaxDynamicTableSize(uint32(table))
		}
		return appendHeader(b, 0, typeSettings, flagAck, 0)
	})
}

// resize changes the window of every stream (section 6.9.2).
func (c *conn) resize(window int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	grow := window - c.peerWindow
	c.peerWindow = window
	for _, st := range c.streams {
		if st.sendWindow += grow; st.sendWindow > maxWindow {
			return connError{flowControlError, "a window is over 2^31-1"}
		}
	}
	c.room.Broadcast()
	return nil
}
