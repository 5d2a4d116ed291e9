// Package wire reads and writes TCP connections with few system calls, under TLS
// or without.
//
// A [Conn] is a net.Conn. Whoever serves it may call [Conn.Attend]: as long as
// that runs, a Read that would wait returns [ErrNothing], and the goroutine parks
// outside of everything that would hold a buffer meanwhile, crypto/tls's Read too.
// A wake-up costs one read: the kernel says with it whether more is there
// (TCP_INQ), so nobody asks a second time to hear that there is not. Writes may be
// gathered, so that the records of one answer leave together.
//
// A [Lookout] tells when the peer of a connection that nobody reads hangs up.
//
// The package knows no protocol. It owns no goroutine but a Lookout's.
package wire

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// A Socket is a TCP connection, or something around one that leaves its bytes as
// they are.
type Socket interface {
	net.Conn
	syscall.Conn
	SetLinger(sec int) error
	CloseWrite() error
}

// ErrNothing is what Read returns where it would wait. It is temporary in the
// sense of net.Error, so that crypto/tls asks again.
var ErrNothing error = nothing{}

type nothing struct{}

func (nothing) Error() string   { return "nothing is there to be read" }
func (nothing) Timeout() bool   { return false }
func (nothing) Temporary() bool { return true }

// A Conn is a Socket. One goroutine may read from it at a time; writes are safe
// anywhere.
type Conn struct {
	Socket
	raw syscall.RawConn

	// Of the goroutine that reads.
	counts    bool    // the kernel says how much is left (TCP_INQ)
	attending bool    // in Attend
	fd        uintptr // while attending
	drained   bool    // while attending: nothing is there before the next wake-up
	unread    bool    // the last read left something; needs counts
	step      func() bool
	attend    func(fd uintptr) bool
	reading   transfer
	receive   func(fd uintptr) bool

	mu      sync.Mutex // guards what follows: one write at a time
	writing transfer
	send    func(fd uintptr) bool
	gather  *[]byte // nil: writes go out at once
	pace    pace

	ending  sync.Mutex // guards what follows, with the deadlines
	severed bool
}

// A pace is how fast the peer has to take what is written.
type pace struct {
	after time.Duration // 0: as slowly as it likes
	rate  int           // bytes/s
	on    bool          // the write under way waits
	from  int           // bytes of it sent when the time began
}

// ErrSlow is the error of a Write that the peer took too slowly.
var ErrSlow = errors.New("the peer takes what is sent too slowly")

// A transfer is a read or a write under way.
type transfer struct {
	p   []byte
	n   int
	err error
}

// New returns s as a Conn. From then on nobody else reads from it or writes to it.
func New(s Socket) (*Conn, error) {
	raw, err := s.SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &Conn{Socket: s, raw: raw}
	c.attend, c.receive, c.send = c.attendOnce, c.receiveOnce, c.sendAll
	err = raw.Control(func(fd uintptr) { c.counts = countUnread(fd) })
	return c, err
}

// Attend calls step, and again whenever something may have come, until step
// returns true. An error is that of the wait: the deadline, or the end of c; Attend
// may be called again after the first. Close waits until Attend has returned, so
// that whoever is called from it must not call Close.
func (c *Conn) Attend(step func() bool) error {
	c.attending, c.step = true, step
	defer func() { c.attending, c.step = false, nil }()
	return c.raw.Read(c.attend)
}

// attendOnce is a step of Attend.
func (c *Conn) attendOnce(fd uintptr) bool {
	c.fd, c.drained = fd, false
	return c.step()
}

// Read waits for bytes, unless Attend runs.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if c.attending {
		return c.readNow(p)
	}
	c.reading = transfer{p: p}
	err := c.raw.Read(c.receive)
	r := c.reading
	c.reading = transfer{}
	if err == nil {
		err = r.err
	}
	return r.n, err
}

// readNow reads what is there.
func (c *Conn) readNow(p []byte) (int, error) {
	if c.drained {
		return 0, ErrNothing
	}
	n, more, errno := recv(c.fd, p)
	if errno == syscall.EAGAIN {
		c.drained, c.unread = true, false
		return 0, ErrNothing
	}
	c.unread = more
	c.drained = c.counts && !more
	return n, c.failure("read", n, errno)
}

// receiveOnce is a step of Read.
func (c *Conn) receiveOnce(fd uintptr) bool {
	n, more, errno := recv(fd, c.reading.p)
	if errno == syscall.EAGAIN {
		return false
	}
	c.unread = more
	c.reading.n, c.reading.err = n, c.failure("read", n, errno)
	return true
}

// Unread reports whether the last read left something behind that had come by
// then: bytes, or the end.
func (c *Conn) Unread() bool { return c.counts && c.unread }

// failure makes an error of what a system call returned.
func (c *Conn) failure(op string, n int, errno syscall.Errno) error {
	switch {
	case errno != 0:
		return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError(op, errno)}
	case n == 0 && op == "read":
		return io.EOF
	}
	return nil
}

// Write sends all of p, or keeps it for Flush.
func (c *Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gather == nil {
		return c.write(p)
	}
	if len(*c.gather)+len(p) > gatherSize {
		if err := c.flush(); err != nil {
			return 0, err
		}
	}
	if len(p) > gatherSize {
		return c.write(p)
	}
	*c.gather = append(*c.gather, p...)
	return len(p), nil
}

// write sends p. The caller holds mu.
func (c *Conn) write(p []byte) (int, error) {
	c.writing = transfer{p: p}
	err := c.raw.Write(c.send)
	for c.pace.on && errors.Is(err, os.ErrDeadlineExceeded) {
		if err = c.keepsPace(); err == nil {
			err = c.raw.Write(c.send)
		}
	}
	if c.pace.on {
		c.pace.on = false
		c.writeBy(time.Time{})
	}
	w := c.writing
	c.writing = transfer{}
	if err == nil {
		err = w.err
	}
	return w.n, err
}

// Pace makes a Write fail with ErrSlow that has waited for a time in which the peer
// took less than rate bytes a second. Deadlines for writes are the pace's own.
func (c *Conn) Pace(after time.Duration, rate int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pace = pace{after: after, rate: rate}
}

// stall begins the time of a write that has to wait.
func (c *Conn) stall() {
	if c.pace.after > 0 && !c.pace.on {
		c.pace.on, c.pace.from = true, c.writing.n
		c.writeBy(time.Now().Add(c.pace.after))
	}
}

// keepsPace looks at a write whose time is over, and gives it another one.
func (c *Conn) keepsPace() error {
	p := &c.pace
	if took := c.writing.n - p.from; float64(took) < float64(p.rate)*p.after.Seconds() {
		return ErrSlow
	}
	p.from = c.writing.n
	if !c.writeBy(time.Now().Add(p.after)) {
		return os.ErrDeadlineExceeded
	}
	return nil
}

// writeBy sets the deadline of writes, and reports false when c is severed.
func (c *Conn) writeBy(t time.Time) bool {
	c.ending.Lock()
	defer c.ending.Unlock()
	return !c.severed && c.SetWriteDeadline(t) == nil
}

// sendAll is a step of write.
func (c *Conn) sendAll(fd uintptr) bool {
	w := &c.writing
	for w.n < len(w.p) {
		n, errno := send(fd, w.p[w.n:])
		switch errno {
		case 0:
			w.n += n
		case syscall.EAGAIN:
			c.stall()
			return false
		default:
			w.err = c.failure("write", 0, errno)
			return true
		}
	}
	return true
}

// Gather keeps what is written until Flush, as far as there is room.
func (c *Conn) Gather() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gather == nil {
		c.gather = gathers.Get().(*[]byte)
	}
}

// Flush sends what was gathered; later writes go out at once.
func (c *Conn) Flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gather == nil {
		return nil
	}
	err := c.flush()
	*c.gather = (*c.gather)[:0]
	gathers.Put(c.gather)
	c.gather = nil
	return err
}

// flush sends what was gathered. The caller holds mu.
func (c *Conn) flush() error {
	if len(*c.gather) == 0 {
		return nil
	}
	_, err := c.write(*c.gather)
	*c.gather = (*c.gather)[:0]
	return err
}

// gatherSize is how much is gathered at most: two TLS records of 16 KiB and what
// surrounds them, or what an answer's head adds to one.
const gatherSize = 34 << 10

var gathers = sync.Pool{New: func() any { b := make([]byte, 0, gatherSize); return &b }}

// Within returns the Conn that c is, or is around, as a *tls.Conn is; nil: none.
func Within(c net.Conn) *Conn {
	for c != nil {
		if w, ok := c.(*Conn); ok {
			return w
		}
		inner, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		c = inner.NetConn()
	}
	return nil
}

// Sever ends every Read and Write, now and later, and has Close reset the
// connection.
func (c *Conn) Sever() {
	c.ending.Lock()
	defer c.ending.Unlock()
	c.severed = true
	_ = c.SetLinger(0)
	_ = c.SetDeadline(past)
}
