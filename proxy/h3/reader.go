package h3

import (
	"errors"
	"io"
	"math"
	"os"
	"sync"

	"github.com/quic-go/quic-go/quicvarint"
)

const (
	readSize   = 4 << 10  // of a reader's buffer
	maxUnknown = 64 << 10 // bytes of a frame that is skipped
)

var readBuffers = sync.Pool{New: func() any { return new([readSize]byte) }}

// A reader reads frames from a stream.
type reader struct {
	src  io.Reader
	buf  []byte          // nil while it is empty and nothing is being read
	pool *[readSize]byte // what buf is, if it is one of readBuffers
	r, w int             // what is in buf
	left uint64          // of the frame's payload
	long []byte          // what payload has of one that does not fit
	end  error           // what src ended with
}

var errTruncated = connError{frameError, "the stream ends within a frame"}

// fill reads more into the buffer, which has room. It fails when src gives no more.
func (r *reader) fill() error {
	if r.end != nil {
		return r.end
	}
	if r.buf == nil {
		r.pool = readBuffers.Get().(*[readSize]byte)
		r.buf = r.pool[:]
	}
	if r.r == r.w {
		r.r, r.w = 0, 0
	} else if r.w == len(r.buf) {
		r.w = copy(r.buf, r.buf[r.r:r.w])
		r.r = 0
	}
	n, err := r.src.Read(r.buf[r.w:])
	r.w += n
	if err != nil && !isTimeout(err) {
		r.end = err
	}
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// isTimeout reports whether a read deadline has passed, after which reads go on.
func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// release gives the buffer back when nothing is in it.
func (r *reader) release() {
	if r.pool != nil && r.r == r.w {
		readBuffers.Put(r.pool)
		r.pool, r.buf, r.r, r.w = nil, nil, 0, 0
	}
}

// drop gives the buffer back with whatever is in it.
func (r *reader) drop() {
	r.r = r.w
	r.release()
}

// over reports whether the stream has ended properly and all of it was read.
func (r *reader) over() bool { return r.left == 0 && r.r == r.w && errors.Is(r.end, io.EOF) }

// next reads the header of a frame. It fails with io.EOF where the stream ends in
// front of one.
func (r *reader) next() (kind uint64, err error) {
	for {
		b := r.unread()
		kind, n, err := quicvarint.Parse(b)
		if err == nil {
			length, m, err := quicvarint.Parse(b[n:])
			if err == nil {
				r.r += n + m
				r.left = length
				return kind, nil
			}
		}
		if err := r.fill(); err != nil {
			if errors.Is(err, io.EOF) && len(b) > 0 {
				return 0, errTruncated
			}
			return 0, err
		}
	}
}

// unread returns what is in the buffer.
func (r *reader) unread() []byte { return r.buf[r.r:r.w] }

// read reads of the frame's payload, of which something is left.
func (r *reader) read(p []byte) (int, error) {
	if uint64(len(p)) > r.left {
		p = p[:r.left]
	}
	if r.r < r.w {
		n := copy(p, r.unread())
		r.r += n
		r.left -= uint64(n)
		return n, nil
	}
	if r.end != nil {
		return 0, r.truncated(r.end)
	}
	n, err := r.src.Read(p)
	r.left -= uint64(n)
	if err != nil && !isTimeout(err) {
		r.end = err
	}
	if n > 0 {
		return n, nil
	}
	return 0, r.truncated(err)
}

// truncated returns err as the end of a stream within a frame.
func (r *reader) truncated(err error) error {
	if errors.Is(err, io.EOF) {
		return errTruncated
	}
	return err
}

// payload reads the frame's whole payload. The bytes are valid until the next call of
// a method. It may be called again after a read deadline has passed.
func (r *reader) payload() ([]byte, error) {
	if r.long == nil && r.left <= uint64(len(r.buf)) {
		for uint64(r.w-r.r) < r.left {
			if err := r.fill(); err != nil {
				return nil, r.truncated(err)
			}
		}
		b := r.unread()[:r.left]
		r.r += int(r.left)
		r.left = 0
		return b, nil
	}
	b := r.long
	if b == nil {
		b = make([]byte, 0, min(r.left, 2*readSize)) // it grows with what comes, not with what is said
	}
	for r.left > 0 {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := r.read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err != nil {
			r.long = b
			return nil, err
		}
	}
	r.long = nil
	return b, nil
}

// skip passes over the frame's payload.
func (r *reader) skip() error {
	if r.left > maxUnknown {
		return connError{excessiveLoad, "a frame of unknown type is over 64 KiB"}
	}
	for r.left > 0 {
		if r.r == r.w {
			if err := r.fill(); err != nil {
				return r.truncated(err)
			}
		}
		n := min(r.left, uint64(r.w-r.r), math.MaxInt32)
		r.r += int(n)
		r.left -= n
	}
	return nil
}

// integer reads a payload that is one integer (sections 7.2.3, 7.2.6 and 7.2.7).
func (r *reader) integer() (uint64, error) {
	if r.left > 8 {
		return 0, connError{frameError, "a frame is longer than its integer"}
	}
	b, err := r.payload()
	if err != nil {
		return 0, err
	}
	v, n, err := quicvarint.Parse(b)
	if err != nil || n != len(b) {
		return 0, connError{frameError, "a frame is no integer, or more"}
	}
	return v, nil
}
