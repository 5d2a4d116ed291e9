package proxy

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"anyedge/internal/message"
)

const (
	// farewellWait is how long a client that was told to go may take to do so.
	farewellWait = 5 * time.Second
	// farewellSpread is within which time all are told, at random: they come again at
	// once, somewhere else.
	farewellSpread = 5 * time.Second
)

// goingAway is the close frame of a server that restarts: 1012, come again (RFC
// 6455 section 5.5.1 and its registry of codes).
var goingAway = string([]byte{0x88, 2, 1012 >> 8, 1012 & 0xff})

// webSockets are those that run, so that a draining proxy can say goodbye.
type webSockets struct {
	mu       sync.Mutex
	running  map[*webSocket]struct{}
	leaving  bool
	within   time.Duration // farewellSpread, or less
	telling  sync.WaitGroup
	stopped  chan struct{} // closed when nobody is to be told any more
	stopOnce sync.Once
}

func newWebSockets(shutdown time.Duration) *webSockets {
	return &webSockets{
		running: map[*webSocket]struct{}{}, within: min(farewellSpread, shutdown/4), stopped: make(chan struct{}),
	}
}

// add takes part in what runs.
func (w *webSockets) add(s *webSocket) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running[s] = struct{}{}
	if w.leaving {
		w.tell(s)
	}
}

func (w *webSockets) remove(s *webSocket) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.running, s)
}

// leave tells every client, those that come later too, to come again elsewhere.
func (w *webSockets) leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.leaving = true
	for s := range w.running {
		w.tell(s)
	}
}

// tell says goodbye to one, soon. mu is held.
func (w *webSockets) tell(s *webSocket) {
	delay := time.NewTimer(rand.N(w.within + 1)) //nolint:gosec // spreads load, hides nothing
	w.telling.Go(func() {
		defer delay.Stop()
		select {
		case <-delay.C:
			s.farewell()
		case <-s.over:
		case <-w.stopped:
		}
	})
}

// stop waits until nobody is told any more. Every connection has ended.
func (w *webSockets) stop() {
	w.stopOnce.Do(func() { close(w.stopped) })
	w.telling.Wait()
}

// webStream is the backend's half of a WebSocket.
type webStream struct {
	*countedStream
	all *webSockets
}

// Face takes what is written to the client under watch; see [message.Pipe].
func (w *webStream) Face(client io.ReadWriteCloser) io.ReadWriteCloser {
	s := &webSocket{ReadWriteCloser: client, all: w.all, over: make(chan struct{})}
	w.all.add(s)
	return s
}

// A webSocket is the client's half. It follows the frames that go to the client,
// so that one of ours can come between two of them.
type webSocket struct {
	io.ReadWriteCloser
	all *webSockets

	mu     sync.Mutex // guards what follows; held while something is written
	frames frames
	leave  bool        // the client is to be told
	told   bool        // it was, or its app has said goodbye
	cut    *time.Timer // ends a client that does not go

	once sync.Once
	over chan struct{} // closed with the connection
}

// farewell tells the client to go, now or behind the frame that is on its way.
func (s *webSocket) farewell() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leave = true
	if s.frames.boundary() {
		_ = s.say()
	}
}

// say writes the close frame. The client's own goes on to the app, which ends its
// half as if it had closed. mu is held.
func (s *webSocket) say() error {
	if s.told || s.frames.closed {
		return nil
	}
	s.told = true
	s.cut = time.AfterFunc(farewellWait, func() { _ = s.Close() })
	_, err := io.WriteString(s.ReadWriteCloser, goingAway)
	return err
}

// Write sends frames of the app's, until the client was told to go.
func (s *webSocket) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.told {
		return len(p), nil
	}
	n := len(p)
	if s.leave {
		n = s.frames.untilBoundary(p)
	}
	written, err := s.ReadWriteCloser.Write(p[:n])
	s.frames.pass(p[:written])
	switch {
	case err != nil:
		return written, err
	case s.leave && s.frames.boundary():
		return len(p), s.say()
	}
	return len(p), nil
}

// CloseWrite ends the direction to the client.
func (s *webSocket) CloseWrite() error { return message.CloseWrite(s.ReadWriteCloser) }

// Close ends both.
func (s *webSocket) Close() error {
	s.once.Do(func() {
		s.all.remove(s)
		close(s.over)
	})
	err := s.ReadWriteCloser.Close() // before the lock: it ends a Write
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut != nil {
		s.cut.Stop()
	}
	return err
}

// frames follows WebSocket frames (RFC 6455 section 5.2).
type frames struct {
	head   [14]byte
	have   int    // bytes of head
	left   uint64 // bytes of the payload
	closed bool   // a close frame went by
}

// boundary reports whether no frame is under way.
func (f *frames) boundary() bool { return f.have == 0 && f.left == 0 }

// pass takes note of bytes.
func (f *frames) pass(p []byte) {
	for len(p) > 0 {
		p = p[f.step(p):]
	}
}

// untilBoundary returns how many bytes of p belong to the frame that is under way.
func (f *frames) untilBoundary(p []byte) int {
	one, n := *f, 0
	for n < len(p) && !one.boundary() {
		n += one.step(p[n:])
	}
	return n
}

// step takes note of some bytes: one of a head, or all that a payload has.
func (f *frames) step(p []byte) int {
	if f.left > 0 {
		n := min(f.left, uint64(len(p)))
		f.left -= n
		return int(n)
	}
	f.head[f.have] = p[0]
	f.have++
	if f.have < f.headLen() {
		return 1
	}
	switch n := f.head[1] & 0x7f; n {
	case 126:
		f.left = uint64(binary.BigEndian.Uint16(f.head[2:]))
	case 127:
		f.left = binary.BigEndian.Uint64(f.head[2:])
	default:
		f.left = uint64(n)
	}
	f.closed = f.closed || f.head[0]&0x0f == 8
	f.have = 0
	return 1
}

// headLen returns the length of the head, as far as what is there tells.
func (f *frames) headLen() int {
	if f.have < 2 {
		return 2
	}
	n := 2
	switch f.head[1] & 0x7f {
	case 126:
		n += 2
	case 127:
		n += 8
	}
	if f.head[1]&0x80 != 0 {
		n += 4
	}
	return n
}

// isWebSocket reports whether a request asks for a WebSocket.
func isWebSocket(r *message.Request) bool { return strings.EqualFold(r.Protocol, "websocket") }
