package h3

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"

	"anyedge/proxy/h3/qpack"
)

const (
	maxSettings = 4 << 10 // bytes of the peer's SETTINGS
	smallBuffer = 64      // of a unidirectional stream: it is there for the whole connection
)

// A session is what both sides of a connection have beside requests: the
// unidirectional streams (RFC 9114 section 6.2), settings and the connection's end.
type session struct {
	quic     *quic.Conn
	isClient bool // the peer is
	goAway   func(id quic.StreamID)

	control *quic.SendStream // ours; written with mu held

	mu       sync.Mutex // guards what follows
	met      [streamDecoder + 1]bool
	talk     flood
	settled  chan struct{} // closed when the peer's SETTINGS are there
	connects bool          // the peer takes extended CONNECT
	pushes   uint64        // the largest MAX_PUSH_ID
	gone     uint64        // of the peer's last GOAWAY
}

// newSession opens our control stream.
func newSession(q *quic.Conn, isClient bool, maxSection int, goAway func(quic.StreamID)) (*session, error) {
	s := &session{quic: q, isClient: isClient, goAway: goAway, settled: make(chan struct{}), gone: quicvarint.Max}
	control, err := q.OpenUniStream()
	if err != nil {
		return nil, fmt.Errorf("open the control stream: %w", err)
	}
	s.control = control
	if _, err := control.Write(appendSettings(nil, maxSection, isClient)); err != nil {
		return nil, fmt.Errorf("write SETTINGS: %w", err)
	}
	return s, nil
}

// fail ends the connection; err says why, if it is a connError.
func (s *session) fail(err error) {
	c := internalError
	if bad, ok := errors.AsType[connError](err); ok {
		c = bad.code
	}
	_ = s.quic.CloseWithError(quic.ApplicationErrorCode(c), "")
}

// close ends the connection, saying that all is well.
func (s *session) close() {
	_ = s.quic.CloseWithError(quic.ApplicationErrorCode(noError), "")
}

// sendGoAway tells the peer which of its streams are not taken any more.
func (s *session) sendGoAway(id quic.StreamID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _ = s.control.Write(appendGoAway(nil, id))
}

// idled counts what asks for nothing.
func (s *session) idled() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.talk.over(maxTalk) {
		return connError{excessiveLoad, "too much that asks for nothing"}
	}
	return nil
}

// serveUni reads a unidirectional stream of the peer to its end. An error is a
// connError.
func (s *session) serveUni(u *quic.ReceiveStream) error {
	r := &reader{src: u, buf: make([]byte, smallBuffer)}
	err := s.uni(u, r)
	if bad, ok := errors.AsType[connError](err); ok {
		return bad
	}
	return nil
}

func (s *session) uni(u *quic.ReceiveStream, r *reader) error {
	kind, err := r.streamType()
	if err != nil {
		u.CancelRead(quic.StreamErrorCode(streamCreationError))
		u.ReleaseStreamCredit()
		return s.idled() // a stream may end before its type (section 6.2)
	}
	switch {
	case kind == streamPush && s.isClient:
		return connError{streamCreationError, "a push from a client"}
	case kind == streamPush:
		return connError{idError, "a push beyond those allowed, which are none"}
	case kind > streamDecoder:
		u.CancelRead(quic.StreamErrorCode(streamCreationError))
		u.ReleaseStreamCredit()
		return s.idled()
	}
	s.mu.Lock()
	twice := s.met[kind]
	s.met[kind] = true
	s.mu.Unlock()
	if twice {
		return connError{streamCreationError, "a second stream of a type that has one"}
	}
	switch kind {
	case streamControl:
		err = s.serveControl(r)
	case streamEncoder:
		err = s.serveEncoder(r)
	default:
		err = s.serveDecoder(r)
	}
	if _, ok := errors.AsType[connError](err); ok || s.quic.Context().Err() != nil {
		return err
	}
	return connError{closedCritical, "a stream ends that the connection needs"}
}

// streamType reads the type that a unidirectional stream begins with.
func (r *reader) streamType() (uint64, error) {
	for {
		if kind, n, err := quicvarint.Parse(r.unread()); err == nil {
			r.r += n
			return kind, nil
		}
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
}

// serveControl reads the control stream (section 7.2).
func (s *session) serveControl(r *reader) error {
	kind, err := r.next()
	if err != nil {
		return err
	}
	if kind != frameSettings {
		return connError{missingSettings, "the first frame is not SETTINGS"}
	}
	if err := s.readSettings(r); err != nil {
		return err
	}
	for {
		kind, err := r.next()
		if err != nil {
			return err
		}
		if err := s.controlFrame(r, kind); err != nil {
			return err
		}
		if err := s.idled(); err != nil {
			return err
		}
	}
}

func (s *session) controlFrame(r *reader, kind uint64) error {
	switch {
	case kind == frameGoAway:
		return s.readGoAway(r)
	case kind == frameMaxPushID && s.isClient:
		return s.readMaxPushID(r)
	case kind == frameCancelPush:
		if _, err := r.integer(); err != nil {
			return err
		}
		return connError{idError, "a push is cancelled that nobody promised"}
	case kind == framePriority && s.isClient, kind == framePriorityPush && s.isClient:
		return r.skip() // priorities change nothing here
	case kind == frameData, kind == frameHeaders, kind == framePushPromise, isOfControl(kind), isOfHTTP2(kind):
		return connError{frameUnexpected, "a frame that has no place on a control stream"}
	}
	return r.skip()
}

func (s *session) readMaxPushID(r *reader) error {
	id, err := r.integer()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if id < s.pushes {
		return connError{idError, "MAX_PUSH_ID became smaller"}
	}
	s.pushes = id
	return nil
}

// readGoAway takes note of a GOAWAY (section 5.2). A client's is about pushes.
func (s *session) readGoAway(r *reader) error {
	id, err := r.integer()
	if err != nil {
		return err
	}
	s.mu.Lock()
	grown := id > s.gone
	s.gone = id
	s.mu.Unlock()
	if grown || !s.isClient && id%4 != 0 {
		return connError{idError, "GOAWAY names a stream that it cannot"}
	}
	if s.goAway != nil {
		s.goAway(quic.StreamID(id))
	}
	return nil
}

// readSettings takes the peer's settings (section 7.2.4).
func (s *session) readSettings(r *reader) error {
	if r.left > maxSettings {
		return connError{excessiveLoad, "SETTINGS are too large"}
	}
	b, err := r.payload()
	if err != nil {
		return err
	}
	var known uint64 // a bit for each
	var others []uint64
	for len(b) > 0 {
		id, n, err1 := quicvarint.Parse(b)
		value, m, err2 := quicvarint.Parse(b[n:])
		if err1 != nil || err2 != nil {
			return connError{frameError, "SETTINGS end within a setting"}
		}
		b = b[n+m:]
		switch {
		case id < 64 && known>>id&1 == 1:
			return connError{settingsError, "a setting is given twice"}
		case id >= 2 && id <= 5:
			return connError{settingsError, "a setting of HTTP/2"}
		case id == settingConnectAllowed && value > 1:
			return connError{settingsError, "ENABLE_CONNECT_PROTOCOL is neither 0 nor 1"}
		case id == settingConnectAllowed:
			s.mu.Lock()
			s.connects = value == 1
			s.mu.Unlock()
		}
		if id < 64 {
			known |= 1 << id
			continue
		}
		if slices.Contains(others, id) {
			return connError{settingsError, "a setting is given twice"}
		}
		others = append(others, id)
	}
	close(s.settled)
	return nil
}

// serveEncoder reads the instructions of the peer's QPACK encoder (RFC 9204 section
// 4.3). Our table has no room, so that nothing but saying so is allowed.
func (s *session) serveEncoder(r *reader) error {
	const noCapacity = 0x20
	for {
		for _, b := range r.unread() {
			if b != noCapacity {
				return connError{encoderStreamError, "an instruction for a table that has no room"}
			}
		}
		r.r = r.w
		if err := s.more(r); err != nil {
			return err
		}
	}
}

// serveDecoder reads the instructions of the peer's QPACK decoder (section 4.4). We
// insert nothing, so that it has nothing to acknowledge.
func (s *session) serveDecoder(r *reader) error {
	for {
		left, err := qpack.Cancellations(r.unread())
		if err != nil {
			return connError{decoderStreamError, err.Error()}
		}
		r.r = r.w - left
		if err := s.more(r); err != nil {
			return err
		}
	}
}

// more waits for more instructions.
func (s *session) more(r *reader) error {
	if err := r.fill(); err != nil {
		return err
	}
	return s.idled()
}
