package h3

import (
	"errors"
	"io"

	"anyedge/internal/message"
	"anyedge/proxy/h3/qpack"
)

// maxIdle is how many frames a stream may carry that bring nothing: of unknown
// types, or DATA without a byte, since one that brought something.
const maxIdle = 200

// An incoming is a message on its way in: a request, or the answers to one (RFC
// 9114 section 4.1).
type incoming struct {
	reader

	section    *qpack.Section // to decode into
	limit      int            // bytes of a field section
	most       int            // fields of one
	fromClient bool

	begun    bool   // a field section has come, or a part of it
	ahead    bool   // kind is of a frame that nobody has taken yet
	kind     uint64 // of that frame
	skipping bool   // what is left of the frame is passed over
	tunnel   bool   // DATA alone is allowed (section 4.4)
	trailed  bool   // the trailer section was read
	idle     int    // frames that brought nothing
	declared int64  // length of the content; -1: unknown
	received int64
	trailer  message.Header
}

// frame takes the next frame that is part of the message: DATA or HEADERS.
func (m *incoming) frame() (kind uint64, err error) {
	err = m.peek()
	m.ahead = false
	return m.kind, err
}

// peek reads up to that frame. It may be called again after a read deadline has
// passed.
func (m *incoming) peek() error {
	for !m.ahead {
		if m.skipping {
			if err := m.skip(); err != nil {
				return err
			}
			m.skipping = false
		}
		kind, err := m.next()
		switch {
		case err != nil:
			return err
		case kind == frameData, kind == frameHeaders && !m.tunnel:
			m.ahead, m.kind = true, kind
		case kind == framePushPromise && !m.fromClient:
			return connError{idError, "a push beyond those allowed, which are none"}
		case kind == frameHeaders, kind == framePushPromise, isOfControl(kind), isOfHTTP2(kind):
			return connError{frameUnexpected, "a frame that has no place here"}
		default:
			m.skipping = true
			if err := m.idled(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *incoming) idled() error {
	if m.idle++; m.idle > maxIdle {
		return connError{excessiveLoad, "too many frames that bring nothing"}
	}
	return nil
}

// head reads the field section that a message, or an interim answer, begins with. It fails with qpack.ErrTooLarge when there is
// more than its reader takes.
func (m *incoming) head(f *fields, a *message.Arena) error {
	kind, err := m.frame()
	switch {
	case errors.Is(err, io.EOF):
		return streamError{requestIncomplete, "the stream ends before its field section"}
	case err != nil:
		return err
	case kind == frameData:
		return connError{frameUnexpected, "DATA before HEADERS"}
	}
	m.begun = true
	return m.fields(f, a)
}

// fields reads the field section that is the frame's payload.
func (m *incoming) fields(f *fields, a *message.Arena) error {
	if m.left > 2*uint64(m.limit) {
		return qpack.ErrTooLarge
	}
	b, err := m.payload()
	if err != nil {
		return err
	}
	err = m.section.Decode(b, m.limit)
	switch {
	case errors.Is(err, qpack.ErrTooLarge):
		return err
	case err != nil:
		return connError{decompressionFailed, err.Error()}
	}
	err = f.read(m.section, a, m.most)
	switch {
	case errors.Is(err, errTooMany):
		return qpack.ErrTooLarge
	case err != nil:
		return streamError{messageError, err.Error()}
	}
	return nil
}

// content reads of the content. io.EOF comes with the last bytes where that is
// known by then; the trailer section has been read before.
func (m *incoming) content(p []byte) (int, error) {
	for {
		if m.isContent() {
			n, err := m.read(p)
			m.received += int64(n)
			switch {
			case err != nil:
				return 0, err
			case m.declared >= 0 && m.received > m.declared:
				return 0, errContentLength
			}
			m.idle = 0
			if m.over() {
				return n, m.ended()
			}
			return n, nil
		}
		if err := m.advance(); err != nil {
			return 0, err
		}
	}
}

// isContent reports whether what is left of the frame is content.
func (m *incoming) isContent() bool { return m.left > 0 && !m.ahead && !m.skipping }

// here reports whether content gives something without reading from the stream.
func (m *incoming) here() bool { return m.isContent() && m.r < m.w }

var errContentLength = streamError{messageError, "the content is not as long as content-length says"}

// advance reads up to the next frame with content.
func (m *incoming) advance() error {
	err := m.peek()
	switch {
	case errors.Is(err, io.EOF):
		return m.ended()
	case err != nil:
		return err
	case m.trailed:
		return connError{frameUnexpected, "a frame behind the trailer section"}
	case m.kind == frameHeaders:
		return m.trailers()
	}
	m.ahead = false
	if m.left == 0 {
		return m.idled()
	}
	return nil
}

func (m *incoming) trailers() error {
	var f fields
	// Whoever reads content has no part in the exchange's arena.
	err := m.fields(&f, nil)
	if errors.Is(err, qpack.ErrTooLarge) {
		return streamError{messageError, "the trailer section is too large"}
	}
	if err != nil {
		return err
	}
	m.ahead, m.trailed = false, true
	if m.trailer, err = f.trailers(); err != nil {
		return streamError{messageError, err.Error()}
	}
	return nil
}

// ended returns what the content's end is.
func (m *incoming) ended() error {
	if m.declared >= 0 && m.received != m.declared {
		return errContentLength
	}
	return io.EOF
}
