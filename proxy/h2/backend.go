package h2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"time"
)

// A backend is one of a Client's connections.
type backend struct {
	conn
	client *Client

	// Of the goroutine that reads.
	pinged bool   // a PING was sent since the last frame came
	goneTo uint32 // what the last GOAWAY named

	// Guarded by conn.mu.
	nextID uint32
	stale  int64 // bytes that may still come on streams that we have reset

	// Guarded by client.mu.
	used    int // streams, also those that are about to be opened
	most    int
	connect bool      // it takes extended CONNECT
	resting time.Time // without a stream; zero: it was never used
}

// Why streams end.
var (
	errSilent = errors.New("the backend does not answer PING")
	errClosed = errors.New("the backend closed the connection")
	errLeft   = errors.New("the backend takes no more requests on this connection")
)

func newBackend(c *Client, nc net.Conn) *backend {
	b := &backend{client: c, nextID: 1, goneTo: maxStreamID, most: maxCalls, resting: time.Now()}
	b.backend = b
	b.header, b.idle, b.stall = maxResponseHeader, min(pingAfter, c.since), backendStall
	b.window = maxCalls*firstWindow + wideWindows + updateBatch
	b.log = slog.New(slog.DiscardHandler) // whoever asked gets the error
	b.init(nc)
	// What one client says is no help in finding out what another one said (RFC 7541
	// section 7.1), and the strings live no longer than their exchange.
	b.enc.Resize(0)
	return b
}

// begin exchanges prefaces (section 3.4). That the backend's is there before the
// first request is what makes its limits known, and an error mean that nothing
// was sent.
func (b *backend) begin() error {
	err := b.greet()
	if err == nil {
		return nil
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	err = fmt.Errorf("the backend does not begin HTTP/2: %w", err)
	b.finish(err, err)
	return err
}

func (b *backend) greet() error {
	b.within(b.client.connect)
	err := b.write(true, func(out []byte) []byte {
		out = append(out, preface...)
		out = appendHeader(out, 3*6, typeSettings, 0, 0)
		out = appendSetting(out, settingEnablePush, 0)
		out = appendSetting(out, settingInitialWindow, uint32(firstWindow))
		out = appendSetting(out, settingMaxHeaderList, uint32(b.header))
		return appendWindowUpdate(out, 0, b.recvWindow-initialWindow)
	})
	if err != nil {
		return err
	}
	f, err := b.first()
	if err != nil {
		return err
	}
	if f.kind != typeSettings || f.has(flagAck) {
		return connError{protocolError, "the first frame is not SETTINGS"}
	}
	return b.handle(f)
}

// serve reads frames until the connection ends.
func (b *backend) serve() {
	var err error
	for err == nil {
		err = b.next()
		b.pinged = false
	}
	b.retire()
	cause := err
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		cause = fmt.Errorf("%w: %w", errClosed, io.ErrUnexpectedEOF)
	}
	b.finish(err, cause)
}

// silent is called when nothing has come for a while. A busy connection must
// answer a PING; one that is idle for too long ends.
func (b *backend) silent(busy bool) error {
	switch {
	case !busy && b.expired():
		return connError{noError, "idle"}
	case !busy:
		return nil
	case b.pinged:
		return errSilent
	}
	b.pinged = true
	return b.write(true, func(out []byte) []byte {
		return append(appendHeader(out, 8, typePing, 0, 0), "are you "...)
	})
}

// expired reports whether the connection has no stream and is not wanted any
// more. Then it takes none.
func (b *backend) expired() bool {
	c := b.client
	c.mu.Lock()
	defer c.mu.Unlock()
	at := slices.Index(c.conns, b)
	if at >= 0 && !c.closed && (b.used > 0 || time.Since(b.resting) < c.since) {
		return false
	}
	if at >= 0 {
		c.conns = slices.Delete(c.conns, at, at+1)
		c.tell()
	}
	return true
}

// retire takes the connection from those that take streams.
func (b *backend) retire() {
	c := b.client
	c.mu.Lock()
	defer c.mu.Unlock()
	if at := slices.Index(c.conns, b); at >= 0 {
		c.conns = slices.Delete(c.conns, at, at+1)
		c.tell()
	}
}

// leave takes no more streams, and ends the connection with its last one.
func (b *backend) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.leaving = true
	b.renew()
}

// unwritable takes note that nothing more can be sent. What the backend has said
// before it closed the connection may still be read.
func (b *backend) unwritable(err error) {
	b.retire()
	b.leave()
	time.AfterFunc(grace, func() { b.fail(err) }) // harmless when the connection has ended
}

// release gives room back.
func (b *backend) release() {
	c := b.client
	c.mu.Lock()
	defer c.mu.Unlock()
	if b.used--; b.used == 0 {
		b.resting = time.Now()
	}
	c.tell()
}

// setting takes a setting that only a server says something by.
func (b *backend) setting(id uint16, value uint32) error {
	c := b.client
	c.mu.Lock()
	defer c.mu.Unlock()
	switch id {
	case settingEnablePush:
		if value != 0 {
			return connError{protocolError, "ENABLE_PUSH of a server"}
		}
	case settingMaxStreams:
		b.most = int(min(value, maxCalls))
		c.tell()
	case settingConnectAllowed:
		b.connect = value == 1
	}
	return nil
}

// connects reports whether the backend takes extended CONNECT.
func (b *backend) connects() bool {
	b.client.mu.Lock()
	defer b.client.mu.Unlock()
	return b.connect
}

// goAway lets the backend go: what it has not seen can be sent elsewhere (section
// 6.8).
func (b *backend) goAway(f frame) error {
	if len(f.payload) < 8 {
		return connError{frameSizeError, "GOAWAY of a wrong size"}
	}
	last := binary.BigEndian.Uint32(f.payload) & maxStreamID
	if last > b.goneTo {
		return connError{protocolError, "GOAWAY takes back what it has said"}
	}
	b.goneTo = last
	b.retire()
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, st := range b.streams {
		if id > last {
			st.call.unseen = !st.call.answered
			st.abandon(errLeft)
			b.forget(st)
		}
	}
	b.leaving = true
	b.renew()
	return b.idled()
}

// resetBy ends a stream that the backend has reset; mu is held. Behind a whole
// answer it only asks for no more content (section 8.1).
func (b *backend) resetBy(st *stream, why code) {
	st.call.refused = why == refusedStream && !st.call.answered
	st.abandon(fmt.Errorf("the backend reset the stream (code %d)", why))
	b.forget(st)
}

// forgot takes note that a stream is over; mu is held.
func (b *backend) forgot(st *stream) {
	if !st.remoteEnded {
		b.stale += st.recvWindow
	}
	b.release()
	b.renew()
}

// late takes content for a stream that is over; mu is held. No more of it can
// come than the stream's window was.
func (b *backend) late(size int64) error {
	if b.stale -= size; b.stale < 0 {
		return connError{streamClosed, errClosedAlreadyID}
	}
	if size == 0 {
		return b.idled()
	}
	return nil
}

// section takes a header section: an answer, or trailers.
func (b *backend) section(id uint32, end bool, got *fields) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if id%2 == 0 || id > b.maxID {
		return connError{protocolError, "HEADERS for an idle stream"}
	}
	st := b.streams[id]
	switch {
	case st == nil:
		return b.idled()
	case st.remoteEnded:
		return streamError{id, streamClosed, "HEADERS behind the end of the stream"}
	}
	defer st.readable.Broadcast()
	if !st.call.final {
		return st.call.head(end, got)
	}
	b.control.count = 0
	switch {
	case !end:
		return streamError{id, protocolError, "a second header section does not end the stream"}
	case st.declared >= 0 && st.received != st.declared:
		return streamError{id, protocolError, "the content is not as long as content-length says"}
	}
	trailer, err := got.trailers()
	if err != nil {
		return streamError{id, protocolError, err.Error()}
	}
	st.trailer = trailer
	st.endRemote(io.EOF)
	st.call.settle()
	return nil
}
