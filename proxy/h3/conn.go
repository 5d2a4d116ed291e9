package h3

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"anyedge/internal/crew"
	"anyedge/internal/message"
)

// linger is how long a drained connection stays open after its last answer, so
// that the client gets all of it and may close first.
const linger = 500 * time.Millisecond

// A Conn answers the requests of one client's connection. Whoever accepts the
// connection's streams gives them to it.
type Conn struct {
	*session
	cfg     Config
	handler message.RoundTripper
	log     *slog.Logger
	crew    *crew.Crew[arrival] // nil: the connection is no Server's, but somebody else's
	serving sync.WaitGroup      // what this connection has of it
	clock   message.Clock
	ready   ready

	handshaken atomic.Bool                    // the handshake is known to be complete
	secure     atomic.Pointer[message.Secure] // what it said, from then on
	left       sync.Once                      // leave has begun

	rmu      sync.Mutex // guards what follows
	running  int        // streams
	next     quic.StreamID
	refusing bool      // streams from next on are not taken
	since    time.Time // when the last stream ended
	resets   flood     // of streams that came to nothing
	idle     *time.Timer
}

// NewConn opens the control stream on q and answers by handler. Of cfg only what
// is about requests counts: TLS and the connection's own limits are q's maker's.
func NewConn(q *quic.Conn, cfg Config, handler message.RoundTripper, log *slog.Logger) (*Conn, error) {
	cfg = cfg.withDefaults()
	c := &Conn{cfg: cfg, handler: handler, log: log, since: time.Now()}
	var err error
	c.session, err = newSession(q, true, int(cfg.Header), nil)
	return c, err
}

// ServeUniStream reads a unidirectional stream of the client and returns when it
// has ended.
func (c *Conn) ServeUniStream(u *quic.ReceiveStream) {
	if err := c.serveUni(u); err != nil {
		c.end(err)
	}
}

// end ends the connection of a client that broke one of its rules.
func (c *Conn) end(err error) {
	c.log.Debug("connection ended", "peer", c.quic.RemoteAddr(), "err", err)
	c.refusedFor(err)
	c.fail(err)
}

// refused tells whoever keeps the books what was not taken.
func (c *Conn) refused(status int, rule string) {
	if c.cfg.Refused != nil {
		c.cfg.Refused(c.peer(), status, rule)
	}
}

// greeting returns what the TLS handshake has said so far.
func (c *Conn) greeting() *message.Secure {
	if s := c.secure.Load(); s != nil {
		return s
	}
	complete := c.handshaken.Load()
	s := message.SecureOf(c.quic.ConnectionState().TLS)
	if complete {
		c.secure.Store(s)
	}
	return s
}

func (c *Conn) peer() netip.AddrPort { return message.AddrPort(c.quic.RemoteAddr()) }

// serve accepts streams until the connection ends, and returns when none is served
// any more.
func (c *Conn) serve() {
	ctx := context.Background() // accepting ends with the connection
	defer c.serving.Wait()
	c.serving.Go(func() {
		for {
			u, err := c.quic.AcceptUniStream(ctx)
			if err != nil {
				return
			}
			c.serving.Go(func() { c.ServeUniStream(u) })
		}
	})
	c.watchIdle()
	defer c.stopIdle()
	for {
		s, err := c.quic.AcceptStream(ctx)
		if err != nil {
			return
		}
		if c.begin(s) {
			c.serving.Add(1)
			c.crew.Do(arrival{c, s})
		}
	}
}

// An arrival is a stream that is to be served.
type arrival struct {
	conn *Conn
	quic *quic.Stream
}

func (a arrival) serve() {
	defer a.conn.serving.Done()
	a.conn.serveStream(a.quic)
}

// ServeStream answers the request on s. It returns when that is over, or as good as:
// another call, that has not returned yet, sends the answer.
func (c *Conn) ServeStream(s *quic.Stream) {
	if c.begin(s) {
		c.serveStream(s)
	}
}

// begin takes a stream, unless the client has been told that it would not be.
func (c *Conn) begin(s *quic.Stream) bool {
	c.rmu.Lock()
	if c.refusing && s.StreamID() >= c.next {
		c.rmu.Unlock()
		s.CancelRead(quic.StreamErrorCode(requestRejected))
		s.CancelWrite(quic.StreamErrorCode(requestRejected))
		s.ReleaseStreamCredit()
		return false
	}
	c.running++
	c.next = max(c.next, s.StreamID()+4)
	c.rmu.Unlock()
	return true
}

// over takes note that a stream has ended; nothing: for its client's doing it came
// to nothing.
func (c *Conn) over(s *quic.Stream, nothing bool) {
	s.ReleaseStreamCredit()
	c.rmu.Lock()
	c.running--
	if c.running == 0 {
		c.since = time.Now()
		if c.refusing && c.idle != nil {
			c.idle.Reset(linger)
		}
	}
	flooded := false
	if nothing {
		flooded = c.resets.over(maxResets) && c.crew != nil // another edge gives up for all its clients
	} else {
		c.resets.count = max(c.resets.count-1, 0)
	}
	c.rmu.Unlock()
	if flooded {
		c.end(connError{excessiveLoad, "too many streams came to nothing"})
	}
}

// watchIdle ends the connection when it has had no stream for long enough.
func (c *Conn) watchIdle() {
	c.rmu.Lock()
	defer c.rmu.Unlock()
	c.idle = time.AfterFunc(c.cfg.Idle, c.lookIdle)
}

func (c *Conn) stopIdle() {
	c.rmu.Lock()
	defer c.rmu.Unlock()
	c.idle.Stop()
}

// lookIdle ends the connection if it is idle; as Shutdown does, because a request may
// be on its way.
func (c *Conn) lookIdle() {
	idle, told := c.isIdle()
	switch {
	case idle && told:
		c.close()
	case idle:
		c.leave()
	}
}

// isIdle reports whether the connection has had no stream for long enough, and
// whether the client knows that it ends. Else it has the timer look again.
func (c *Conn) isIdle() (idle, told bool) {
	c.rmu.Lock()
	defer c.rmu.Unlock()
	allowed := c.cfg.Idle
	if c.refusing {
		allowed = linger
	}
	switch rest := allowed - time.Since(c.since); {
	case c.running > 0:
		c.idle.Reset(allowed)
	case rest > 0:
		c.idle.Reset(rest)
	default:
		return true, c.refusing
	}
	return false, c.refusing
}

// announceEnd tells the client that the connection will end (RFC 9114 section 5.2).
func (c *Conn) announceEnd() { c.sendGoAway(maxStreamID) }

// endSoon takes no more streams, and ends the connection after its last one.
func (c *Conn) endSoon() {
	c.rmu.Lock()
	if c.refusing {
		c.rmu.Unlock()
		return
	}
	c.refusing = true
	next := c.next
	if c.running == 0 {
		c.since = time.Now()
		if c.idle != nil {
			c.idle.Reset(linger)
		}
	}
	c.rmu.Unlock()
	c.sendGoAway(next)
}

// leave ends the connection as Shutdown does: its client is asked to come again on
// another one.
func (c *Conn) leave() {
	if c.crew == nil {
		return
	}
	c.left.Do(func() {
		c.announceEnd()
		time.AfterFunc(stopGrace, c.endSoon) // harmless when the connection has ended
	})
}
