package wire

import (
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Hangup is how far a peer has gone.
type Hangup uint8

// What a peer can have ended.
const (
	Here       Hangup = iota // nothing
	HalfClosed               // its sending half; it may still read
	Gone                     // all of it
)

// A Lookout watches connections for the end of their peers, without reading: what
// a peer has sent before stays where it is. It also waits for bytes in place of a
// goroutine. The zero Lookout is ready; it starts a goroutine with the first
// connection, which Close ends.
type Lookout struct {
	mu     sync.Mutex
	epoll  *os.File // nil: not needed so far
	raw    syscall.RawConn
	last   uint64
	told   map[uint64]func(Hangup) // by the event's number
	closed bool
	done   chan struct{}
}

// A Watching is one connection under watch; the zero one is none.
type Watching struct{ number uint64 }

// Watch has tell called once, in the lookout's goroutine, when c's peer has hung
// up, or soon if it already has.
func (l *Lookout) Watch(c *Conn, tell func(Hangup)) (Watching, error) {
	return l.add(c, unix.EPOLLRDHUP|unix.EPOLLONESHOT, tell)
}

// Await is Watch, and tell is called as well when c has something to be read.
func (l *Lookout) Await(c *Conn, tell func(Hangup)) (Watching, error) {
	return l.add(c, unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLONESHOT, tell)
}

func (l *Lookout) add(c *Conn, events uint32, tell func(Hangup)) (Watching, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.open(); err != nil {
		return Watching{}, err
	}
	l.last++
	number := l.last
	l.told[number] = tell
	event := unix.EpollEvent{Events: events, Fd: int32(number), Pad: int32(number >> 32)}
	err := l.control(c, unix.EPOLL_CTL_ADD, &event)
	if err != nil {
		delete(l.told, number)
		return Watching{}, fmt.Errorf("watch a connection: %w", err)
	}
	return Watching{number}, nil
}

// End ends the watch of c. tell may still be running.
func (l *Lookout) End(c *Conn, w Watching) {
	if w.number == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	delete(l.told, w.number)
	_ = l.control(c, unix.EPOLL_CTL_DEL, nil)
}

// control changes what is watched. The caller holds mu.
func (l *Lookout) control(c *Conn, op int, event *unix.EpollEvent) error {
	var failed error
	err := l.raw.Control(func(epoll uintptr) {
		err := c.raw.Control(func(fd uintptr) {
			failed = unix.EpollCtl(int(epoll), op, int(fd), event)
		})
		if err != nil {
			failed = err
		}
	})
	if err != nil {
		return err
	}
	return failed
}

// open makes the lookout ready. The caller holds mu.
func (l *Lookout) open() error {
	switch {
	case l.closed:
		return os.ErrClosed
	case l.epoll != nil:
		return nil
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("epoll: %w", err)
	}
	l.epoll = os.NewFile(uintptr(fd), "epoll")
	if l.raw, err = l.epoll.SyscallConn(); err != nil {
		return err
	}
	l.told, l.done = map[uint64]func(Hangup){}, make(chan struct{})
	go l.run()
	return nil
}

// run tells of events until the lookout is closed.
func (l *Lookout) run() {
	defer close(l.done)
	events := make([]unix.EpollEvent, 64)
	_ = l.raw.Read(func(fd uintptr) bool {
		for {
			n, err := unix.EpollWait(int(fd), events, 0)
			if n <= 0 {
				return err != nil && err != unix.EINTR
			}
			for _, e := range events[:n] {
				l.tell(e)
			}
		}
	})
}

func (l *Lookout) tell(e unix.EpollEvent) {
	number := uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32
	l.mu.Lock()
	f := l.told[number]
	delete(l.told, number)
	l.mu.Unlock()
	if f == nil {
		return
	}
	how := Here
	switch {
	case e.Events&(unix.EPOLLHUP|unix.EPOLLERR) != 0:
		how = Gone
	case e.Events&unix.EPOLLRDHUP != 0:
		how = HalfClosed
	}
	f(how)
}

// Close ends every watch, and waits for the goroutine.
func (l *Lookout) Close() {
	l.mu.Lock()
	l.closed = true
	epoll, done := l.epoll, l.done
	l.mu.Unlock()
	if epoll != nil {
		_ = epoll.Close()
		<-done
	}
}
