package message

import (
	"errors"
	"io"
	"slices"
	"sync"
)

// ErrNotReplayable means that bytes a new reader would need are gone: the body
// grew past the limit that it was kept under.
var ErrNotReplayable = errors.New("request body can no longer be replayed")

// ErrInterrupted is what Read of an [Interrupter] returns, maybe with bytes.
var ErrInterrupted = errors.New("the read was given up")

// An Interrupter is a source of content whose reads can be given up: Interrupt,
// which any goroutine may call, makes the Read that is under way, or else the next
// one, return ErrInterrupted at once. Nothing is lost: the next Read goes on.
type Interrupter interface{ Interrupt() }

// errSuperseded ends a reader after a newer one was opened.
var errSuperseded = errors.New("request body is being read by a later try")

// A Body is the content of a request: a prefix kept in memory, which every try
// reads from the start, and the live tail behind it.
//
// Readers may come from several goroutines, but the last one opened alone gets
// bytes past the kept prefix; older ones fail. Memory is bounded by the limit
// plus one read. A reader which waits for a silent client ends at once when it is
// closed, when a later one is opened, or when the body is closed: the source is
// an [Interrupter], has bytes ready ([Ready]), or is read in a goroutine of its own.
type Body struct {
	length  int64 // -1: unknown
	limit   int
	trailer func() Header

	mu      sync.Mutex
	changed sync.Cond // on kept, live, reading, end
	src     io.ReadCloser
	stops   Interrupter // src, if it is one
	kept    []byte      // the first bytes of the content; nil once !whole
	whole   bool        // kept holds everything read from src so far
	live    []byte      // read past the limit, not yet taken by the current reader
	reading bool        // somebody reads from src
	read    int64       // bytes that src gave
	end     error       // what src ended with; nil while it is open
	current *reader     // owns the tail
}

// NewBody returns the body that src gives. length is its declared length, -1
// for none; up to limit bytes are kept for later tries. trailer, which may be
// nil, returns the trailer section once src has returned io.EOF.
func NewBody(src io.ReadCloser, length int64, limit Size, trailer func() Header) *Body {
	b := &Body{src: src, length: length, limit: int(limit), trailer: trailer, whole: true}
	b.stops, _ = src.(Interrupter)
	b.changed.L = &b.mu
	return b
}

// Length returns the declared length, -1 for unknown.
func (b *Body) Length() int64 { return b.length }

// Limit changes how many bytes are kept. It has an effect only before the
// first read.
func (b *Body) Limit(limit Size) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.limit = int(limit)
}

// EditTrailer has edit change what Trailer returns. It is called before the
// first read.
func (b *Body) EditTrailer(edit func(*Header)) {
	received := b.trailer
	if received == nil {
		return
	}
	b.trailer = func() Header {
		h := received().Clone()
		edit(&h)
		return h
	}
}

// Received returns how many bytes the client has sent so far, as far as
// somebody read them.
func (b *Body) Received() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.read
}

// Replayable reports whether Open would give a reader of the whole content: no
// byte of it is gone, and it has not broken off.
func (b *Body) Replayable() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.whole && b.failure() == nil
}

// Failure returns what the content broke off with, nil as long as it has not.
// Nobody who is asked again can get more of it.
func (b *Body) Failure() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failure()
}

// failure is Failure; the caller holds mu.
func (b *Body) failure() error {
	if errors.Is(b.end, io.EOF) {
		return nil
	}
	return b.end
}

// Trailer returns the trailer section; empty before the end of the content.
func (b *Body) Trailer() Header {
	b.mu.Lock()
	ended := errors.Is(b.end, io.EOF)
	b.mu.Unlock()
	if !ended || b.trailer == nil {
		return nil
	}
	return b.trailer()
}

// Open returns a reader of the content from its first byte, an [Interrupter], and
// takes the tail from any earlier reader. It fails with ErrNotReplayable when the first bytes
// are gone. Closing the reader does not close the body.
func (b *Body) Open() (io.ReadCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.whole {
		return nil, ErrNotReplayable
	}
	b.current = &reader{body: b}
	b.interrupt()
	return b.current, nil
}

// Close closes the source; every reader fails from then on. It is safe to call
// while a Read is under way. Behind it nobody reads from a source that is an
// [Interrupter].
func (b *Body) Close() error {
	b.mu.Lock()
	if b.end == nil {
		b.end = io.ErrClosedPipe
	}
	b.interrupt()
	b.mu.Unlock()
	err := b.src.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.stops != nil && b.reading {
		b.changed.Wait()
	}
	return err
}

// interrupt wakes whoever waits for content; the caller holds mu.
func (b *Body) interrupt() {
	if b.reading && b.stops != nil {
		b.stops.Interrupt()
	}
	b.changed.Broadcast()
}

// reader is one try's view of a Body.
type reader struct {
	body        *Body
	pos         int // into body.kept
	closed      bool
	interrupted bool
}

// Read returns kept bytes first, then waits for the source.
func (r *reader) Read(p []byte) (int, error) {
	b := r.body
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		switch {
		case r.closed:
			return 0, io.ErrClosedPipe
		case r != b.current:
			return 0, errSuperseded
		case r.interrupted:
			r.interrupted = false
			return 0, ErrInterrupted
		case b.whole && r.pos < len(b.kept):
			n := copy(p, b.kept[r.pos:])
			r.pos += n
			return n, b.endAt(r)
		case len(b.live) > 0:
			n := copy(p, b.live)
			b.live = b.live[n:]
			return n, b.endAt(r)
		case b.end != nil:
			return 0, b.end
		case b.reading:
			b.changed.Wait()
		case b.stops == nil && Ready(b.src) == 0:
			b.reading = true
			go b.pull(len(p))
		default:
			b.reading = true
			b.mu.Unlock()
			n, err := b.src.Read(p)
			b.mu.Lock()
			b.ended(err)
			if r.closed || r != b.current {
				b.file(p[:n])
			} else if b.take(r, p[:n]); n > 0 {
				return n, b.endAt(r)
			}
		}
	}
}

// Ready returns how many bytes Read gives without waiting, at least.
func (r *reader) Ready() int {
	b := r.body
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case r.closed, r != b.current:
		return 0
	case b.whole && r.pos < len(b.kept):
		return len(b.kept) - r.pos
	case len(b.live) > 0:
		return len(b.live)
	case b.end != nil, b.reading:
		return 0
	}
	return Ready(b.src)
}

// endAt returns what the content ended with when r is behind all of it: io.EOF with
// the last bytes saves a turn. The caller holds mu.
func (b *Body) endAt(r *reader) error {
	if b.whole && r.pos < len(b.kept) || len(b.live) > 0 {
		return nil
	}
	return b.end
}

// Interrupt makes a reader an Interrupter itself: it may be the source of another
// Body.
func (r *reader) Interrupt() {
	r.body.mu.Lock()
	defer r.body.mu.Unlock()
	if r.interrupted = true; r == r.body.current {
		r.body.interrupt()
	}
}

// Close ends this reader only.
func (r *reader) Close() error {
	r.body.mu.Lock()
	defer r.body.mu.Unlock()
	r.closed = true
	if r == r.body.current {
		r.body.interrupt()
	}
	return nil
}

// take notes what r, which is behind all that is kept, has read itself; the caller
// holds mu.
func (b *Body) take(r *reader, got []byte) {
	b.read += int64(len(got))
	switch {
	case !b.whole:
	case len(b.kept)+len(got) <= b.limit:
		if b.kept == nil && b.length > 0 && len(got) > 0 {
			b.kept = make([]byte, 0, min(b.length, int64(b.limit), 32<<10))
		}
		b.kept = append(b.kept, got...)
		r.pos = len(b.kept)
	default:
		b.kept, b.whole = nil, false
	}
}

// pull reads once from a source that cannot be interrupted.
func (b *Body) pull(want int) {
	buf := make([]byte, min(max(want, 512), 32<<10))
	n, err := b.src.Read(buf)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.file(buf[:n])
	b.ended(err)
}

// file takes what came from the source to where the current reader will find it;
// the caller holds mu.
func (b *Body) file(got []byte) {
	b.read += int64(len(got))
	switch {
	case len(got) == 0:
	case b.whole && len(b.kept)+len(got) <= b.limit:
		b.kept = append(b.kept, got...)
	case b.whole:
		// Past the limit: what is kept turns into the current reader's tail.
		b.live = slices.Concat(b.kept[b.current.pos:], got)
		b.kept, b.whole = nil, false
	default:
		b.live = append(b.live, got...)
	}
}

// ended takes note that a read of the source has; the caller holds mu.
func (b *Body) ended(err error) {
	b.reading = false
	if err != nil && !errors.Is(err, ErrInterrupted) && b.end == nil {
		b.end = err
	}
	b.changed.Broadcast()
}
