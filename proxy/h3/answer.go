package h3

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"anyedge/internal/message"
)

// flush sends what was gathered. It fails with errClientGone.
func (st *stream) flush() error {
	st.out.quic = st.quic
	if st.conn.crew != nil {
		st.out.pace = st.conn.cfg.SlowAfter
	}
	err := st.out.flush()
	if isTimeout(err) {
		st.conn.refused(st.status, RuleSlowReader)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errClientGone, err)
	}
	return nil
}

// end sends what was gathered, and the end of the stream with it; a small answer is
// sent by whoever serves the stream, behind everything else.
func (st *stream) end() error {
	if !st.out.started && len(st.out.b) <= unstalled {
		st.ready = true
		return nil
	}
	return st.close()
}

// close is end, at once.
func (st *stream) close() error {
	if err := st.flush(); err != nil {
		return err
	}
	if err := st.quic.Close(); err != nil {
		return fmt.Errorf("%w: %w", errClientGone, err)
	}
	st.whole = true
	return nil
}

// answer sends res whole. After an error the stream must be reset.
func (st *stream) answer(res *message.Response) error {
	s := section{status: res.Status, header: res.Header, date: st.conn.clock.Now()}
	st.status = res.Status
	length := res.Length
	if res.Body == nil {
		length = max(length, 0)
	}
	none := res.Body == nil
	switch {
	case res.Status == http.StatusNoContent:
		none = true
	case st.req.Method == http.MethodHead || res.Status == http.StatusNotModified:
		// What the content would have been; of a 304 only its maker knows.
		none = true
		if v := res.Header.Get("Content-Length"); v != "" {
			s.length = v
		} else if length > 0 && res.Status != http.StatusNotModified {
			s.length = st.number(length)
		}
	case length >= 0:
		s.length = st.number(length)
	}
	st.out.head(s)
	if none {
		return st.end()
	}
	if message.Ready(res.Body) == 0 {
		if err := st.flush(); err != nil {
			return err
		}
	}
	return st.content(res, length)
}

func (st *stream) number(n int64) string {
	return st.arena.Text(strconv.AppendInt(st.arena.Room(20), n, 10))
}

// content sends the content of res, and its trailer section.
func (st *stream) content(res *message.Response, length int64) error {
	var total int64
	for {
		if cap(st.out.b)-len(st.out.b) < leastRoom {
			if err := st.flush(); err != nil {
				return err
			}
		}
		n, err := st.out.chunk(res.Body.Read)
		end := errors.Is(err, io.EOF)
		total += int64(n)
		if length >= 0 && (total > length || end && total < length) {
			return fmt.Errorf("content has %d bytes, not %d", total, length)
		}
		if end {
			if res.Trailer != nil {
				st.out.trailer(res.Trailer())
			}
			return st.end()
		}
		if gone := st.flush(); gone != nil {
			return gone
		}
		if err != nil {
			return err
		}
	}
}

// tunnel accepts an upgrade and pipes until it ends (RFC 9220).
func (st *stream) tunnel(res *message.Response) {
	h := st.arena.Clone(res.Header)
	h.Del("Sec-Websocket-Accept")
	st.out.head(section{status: http.StatusOK, header: h, date: st.conn.clock.Now()})
	if st.flush() != nil {
		st.nothing = true
		st.reset(connectError)
		return
	}
	message.Pipe(st.ctx, &tunnel{quic: st.quic, in: &st.in, out: output{quic: st.quic, started: true}, broken: st.conn.end}, res.Stream)
}
