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

// errSuperseded ends a reader after a newer one was opened.
var errSuperseded = errors.New("request body is being read by a later try")

// A Body is the content of a request: a prefix kept in memory, which every try
// reads from the start, and the live tail behind it.
//
// Readers may come from several goroutines, but the last one opened alone gets
// bytes past the kept prefix; older ones fail. Memory is bounded by the limit
// plus one read. The source is read in a goroutine of its own, so that a reader
// which waits for a silent client ends at once when it is closed, when a later
// one is opened, or when the body is closed.
type Body struct {
	length  int64 // -1: unknown
	limit   int
	trailer func() Header

	mu      sync.Mutex
	changed sync.Cond // on kept, live, reading, end
	src     io.ReadCloser
	kept    []byte  // the first bytes of the content; nil once !whole
	whole   bool    // kept holds everything read from src so far
	live    []byte  // read past the limit, not yet taken by the current reader
	reading bool    // a goroutine is in pull
	read    int64   // bytes that src gave
	end     error   // what src ended with; nil while it is open
	current *reader // owns the tail
}

// NewBody returns the body that src gives. length is its declared length, -1
// for none; up to limit bytes are kept for later tries. trailer, which may be
// nil, returns the trailer section once src has returned io.EOF.
func NewBody(src io.ReadCloser, length int64, limit Size, trailer func() Header) *Body {
	b := &Body{src: src, length: length, limit: int(limit), trailer: trailer, whole: true}
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

// Open returns a reader of the content from its first byte and takes the tail
// from any earlier reader. It fails with ErrNotReplayable when the first bytes
// are gone. Closing the reader does not close the body.
func (b *Body) Open() (io.ReadCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.whole {
		return nil, ErrNotReplayable
	}
	b.current = &reader{body: b}
	b.changed.Broadcast()
	return b.current, nil
}

// Close closes the source; every reader fails from then on. It is safe to call
// while a Read is under way.
func (b *Body) Close() error {
	b.mu.Lock()
	if b.end == nil {
		b.end = io.ErrClosedPipe
	}
	b.changed.Broadcast()
	b.mu.Unlock()
	return b.src.Close()
}

// reader is one try's view of a Body.
type reader struct {
	body   *Body
	pos    int // into body.kept
	closed bool
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
		case b.whole && r.pos < len(b.kept):
			n := copy(p, b.kept[r.pos:])
			r.pos += n
			return n, nil
		case len(b.live) > 0:
			n := copy(p, b.live)
			b.live = b.live[n:]
			return n, nil
		case b.end != nil:
			return 0, b.end
		case b.reading:
			b.changed.Wait()
		default:
			b.reading = true
			go b.pull(len(p))
		}
	}
}

// Close ends this reader only.
func (r *reader) Close() error {
	r.body.mu.Lock()
	defer r.body.mu.Unlock()
	r.closed = true
	r.body.changed.Broadcast()
	return nil
}

// pull reads once from the source and files what came where the current reader
// will find it.
func (b *Body) pull(want int) {
	buf := make([]byte, min(max(want, 512), 32<<10))
	n, err := b.src.Read(buf)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reading = false
	b.read += int64(n)
	switch {
	case b.whole && len(b.kept)+n <= b.limit:
		b.kept = append(b.kept, buf[:n]...)
	case b.whole:
		// Past the limit: what is kept turns into the current reader's tail.
		b.live = slices.Concat(b.kept[b.current.pos:], buf[:n])
		b.kept, b.whole = nil, false
	default:
		b.live = append(b.live, buf[:n]...)
	}
	if err != nil && b.end == nil {
		b.end = err
	}
	b.changed.Broadcast()
}
