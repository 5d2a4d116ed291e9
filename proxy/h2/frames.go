package h2

import (
	"cmp"
	"encoding/binary"
	"io"
	"slices"
)

// handle handles one frame.
func (c *conn) handle(f frame) error {
	if c.block.open && (f.kind != typeContinuation || f.stream != c.block.stream) {
		return connError{protocolError, "a header section is not continued"}
	}
	switch f.kind {
	case typeData:
		return c.handleData(f)
	case typeHeaders:
		return c.handleHeaders(f)
	case typeContinuation:
		return c.handleContinuation(f)
	case typeReset:
		return c.handleReset(f)
	case typeWindowUpdate:
		return c.handleWindow(f)
	case typeSettings:
		if err := c.handleSettings(f); err != nil {
			return err
		}
	case typePing:
		if err := c.handlePing(f); err != nil {
			return err
		}
	case typePriority:
		if err := checkPriority(f); err != nil {
			return err
		}
	case typePushPromise:
		return connError{protocolError, "PUSH_PROMISE, which nobody allowed"}
	case typeGoAway:
		if f.stream != 0 {
			return connError{protocolError, "GOAWAY on a stream"}
		}
		if c.backend != nil {
			return c.backend.goAway(f)
		}
		// A client closes when it has what it wants.
	}
	return c.idleTalk()
}

func (c *conn) handlePing(f frame) error {
	switch {
	case f.stream != 0:
		return connError{protocolError, "PING on a stream"}
	case len(f.payload) != 8:
		return connError{frameSizeError, "PING of a wrong size"}
	case f.has(flagAck):
		return nil
	}
	return c.reply(func(b []byte) []byte {
		return append(appendHeader(b, 8, typePing, flagAck, 0), f.payload...)
	})
}

// checkPriority looks at PRIORITY, which has no effect here (section 5.3.2).
func checkPriority(f frame) error {
	switch {
	case f.stream == 0:
		return connError{protocolError, "PRIORITY without a stream"}
	case len(f.payload) != 5:
		return streamError{f.stream, frameSizeError, "PRIORITY of a wrong size"}
	case binary.BigEndian.Uint32(f.payload)&maxStreamID == f.stream:
		return streamError{f.stream, protocolError, "the stream depends on itself"}
	}
	return nil
}

// handleReset ends a stream that the peer gave up.
func (c *conn) handleReset(f frame) error {
	if len(f.payload) != 4 {
		return connError{frameSizeError, "RST_STREAM of a wrong size"}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.stream == 0 || f.stream > c.maxID {
		return connError{protocolError, "RST_STREAM for an idle stream"}
	}
	st := c.streams[f.stream]
	switch {
	case st == nil:
		return c.idled()
	case c.backend != nil:
		c.backend.resetBy(st, code(binary.BigEndian.Uint32(f.payload)))
		return nil
	}
	st.abandon(errClientGone)
	c.forget(st)
	return c.gaveUp()
}

// handleWindow lets more be sent (section 6.9).
func (c *conn) handleWindow(f frame) error {
	if len(f.payload) != 4 {
		return connError{frameSizeError, "WINDOW_UPDATE of a wrong size"}
	}
	n := int64(binary.BigEndian.Uint32(f.payload) & maxWindow)
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.stream == 0 {
		if c.sendWindow += n; n == 0 || c.sendWindow > maxWindow {
			return connError{pickCode(n), "WINDOW_UPDATE by nothing, or by too much"}
		}
		c.room.Broadcast()
		return c.idled()
	}
	if f.stream > c.maxID {
		return connError{protocolError, "WINDOW_UPDATE for an idle stream"}
	}
	st := c.streams[f.stream]
	if st == nil {
		return c.idled()
	}
	if st.sendWindow += n; n == 0 || st.sendWindow > maxWindow {
		return streamError{f.stream, pickCode(n), "WINDOW_UPDATE by nothing, or by too much"}
	}
	c.room.Broadcast()
	return c.idled()
}

func pickCode(n int64) code {
	if n == 0 {
		return protocolError
	}
	return flowControlError
}

// handleData files content where the stream's reader finds it.
func (c *conn) handleData(f frame) error {
	size := int64(len(f.payload))
	if f.stream == 0 {
		return connError{protocolError, "DATA without a stream"}
	}
	if err := f.unpad(); err != nil {
		return err
	}
	end := f.has(flagEndStream)
	c.mu.Lock()
	if c.recvWindow -= size; c.recvWindow < 0 {
		c.mu.Unlock()
		return connError{flowControlError, "more content than the connection's window"}
	}
	st := c.streams[f.stream]
	var err error
	var own int64
	back := size // what nobody will read
	switch {
	case st == nil && f.stream > c.maxID:
		err = connError{protocolError, "DATA for an idle stream"}
	case st == nil && c.backend != nil:
		err = c.backend.late(size)
	case st == nil && slices.Contains(c.recent, f.stream):
	case st == nil:
		err = streamError{f.stream, streamClosed, errClosedAlreadyID}
	case st.call != nil && !st.call.final:
		err = streamError{f.stream, protocolError, "DATA before the answer's header section"}
	case st.remoteEnded:
		err = streamError{f.stream, streamClosed, "DATA behind the end of the stream"}
	case st.recvWindow < size:
		err = streamError{f.stream, flowControlError, "more content than the stream's window"}
	default:
		st.recvWindow -= size
		back, err = st.receive(f.payload, size, end)
		if !st.closed {
			own = st.giveBack(back)
		}
	}
	switch {
	case err != nil:
	case st == nil || len(f.payload) == 0 && !end:
		err = c.idled()
	default:
		c.control.count = 0
	}
	update := c.giveBack(back)
	c.mu.Unlock()
	return cmp.Or(c.updateWindows(c.reply, f.stream, update, own), err)
}

// giveBack takes note that n bytes of the connection's window are free again, and
// returns what the peer is to be told now; mu is held.
func (c *conn) giveBack(n int64) (update int64) {
	c.unacked += n
	if c.unacked < updateBatch {
		return 0
	}
	update, c.unacked = c.unacked, 0
	c.recvWindow += update
	return update
}

// giveBack does the same for the stream's window. The first time it makes it wide:
// somebody reads. mu is held.
func (st *stream) giveBack(n int64) (update int64) {
	if st.unread += n; st.unread < st.width/4 || st.remoteEnded || st.gone {
		return 0
	}
	update, st.unread = st.unread, 0
	if more := streamWindow - st.width; more > 0 && st.conn.wide+more <= wideWindows {
		st.width += more
		st.conn.wide += more
		update += more
	}
	st.recvWindow += update
	return update
}

// updateWindows tells the peer by send what it may send.
func (c *conn) updateWindows(send func(func([]byte) []byte) error, stream uint32, conn, own int64) error {
	if conn == 0 && own == 0 {
		return nil
	}
	return send(func(b []byte) []byte {
		if conn > 0 {
			b = appendWindowUpdate(b, 0, conn)
		}
		if own > 0 {
			b = appendWindowUpdate(b, stream, own)
		}
		return b
	})
}

// receive takes content in; it returns how much of it nobody will read, padding
// too. mu is held.
func (st *stream) receive(data []byte, size int64, end bool) (back int64, err error) {
	st.received += int64(len(data))
	switch {
	case st.declared >= 0 && st.received > st.declared, end && st.declared >= 0 && st.received != st.declared:
		return size, streamError{st.id, protocolError, "the content is not as long as content-length says"}
	case st.closed:
		back = size
	default:
		st.buf = append(st.buf, data...)
		back = size - int64(len(data))
	}
	if end {
		st.endRemote(io.EOF)
		if st.call != nil {
			st.call.settle()
		}
	}
	st.readable.Broadcast()
	return back, nil
}
