package netns

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	headerSize = 10 // struct virtio_net_hdr
	queueSize  = 1 << 14
)

// A Distance is how far traffic of a prefix travels over a cable.
type Distance struct {
	Prefixes []netip.Prefix // of source or destination
	OneWay   time.Duration
}

// A Loss is traffic between two groups of prefixes that gets lost.
type Loss struct {
	A, B  []netip.Prefix
	Share float64 // 0 to 1
}

// A Delay is a cable with distance: a pair of tun devices and the goroutines
// between them. Large segments and unfinished checksums cross it as they are.
type Delay struct {
	distances []Distance // the first that holds counts
	otherwise time.Duration
	a, b      *os.File

	mu     sync.RWMutex // guards losses
	losses []Loss
	wg     sync.WaitGroup
	done   chan struct{} // closed: the cable is taken away
	close  func()
}

// NewDelay lays a cable with distance between two spaces. Both ends are up, and
// have no address.
func NewDelay(a *Space, inA string, b *Space, inB string, otherwise time.Duration, distances ...Distance) (*Delay, error) {
	d := &Delay{distances: distances, otherwise: otherwise, done: make(chan struct{})}
	d.close = sync.OnceFunc(func() { close(d.done) })
	var err error
	if d.a, err = tun(a, inA); err == nil {
		d.b, err = tun(b, inB)
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	d.wg.Go(func() { d.pump(d.a, d.b) })
	d.wg.Go(func() { d.pump(d.b, d.a) })
	return d, nil
}

// Lose replaces what gets lost.
func (d *Delay) Lose(losses ...Loss) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.losses = losses
}

// Close takes the cable away.
func (d *Delay) Close() error {
	d.close()
	for _, f := range []*os.File{d.a, d.b} {
		if f != nil {
			_ = f.Close()
		}
	}
	d.wg.Wait()
	return nil
}

func tun(s *Space, name string) (f *os.File, err error) {
	err = s.Do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return fmt.Errorf("/dev/net/tun: %w", err)
		}
		request, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
			return fmt.Errorf("make %s: %w", name, err)
		}
		if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, unix.TUN_F_CSUM|unix.TUN_F_TSO4|unix.TUN_F_TSO6); err != nil {
			return fmt.Errorf("offloads of %s: %w", name, err)
		}
		f = os.NewFile(uintptr(fd), name)
		l, err := s.nl.LinkByName(name)
		if err != nil {
			return err
		}
		if err := s.nl.LinkSetTxQLen(l, 10_000); err != nil {
			return err
		}
		return s.nl.LinkSetUp(l)
	})
	return f, s.wrap("tun "+name, err)
}

// A late packet waits until it is due.
type late struct {
	due time.Time
	b   []byte
}

// pump moves packets one way. Each distance has a queue of its own, else what is
// near would wait behind what is far.
func (d *Delay) pump(from, to *os.File) {
	queues := map[time.Duration]chan late{}
	buf := make([]byte, 1<<16+headerSize)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return // closed
		}
		if n <= headerSize {
			continue
		}
		src, dst := addresses(buf[headerSize:n])
		if d.lost(src, dst) {
			continue
		}
		wait := d.distance(src, dst)
		q := queues[wait]
		if q == nil {
			q = make(chan late, queueSize)
			queues[wait] = q
			d.wg.Go(func() { d.deliver(q, to) })
		}
		select {
		case q <- late{time.Now().Add(wait), append([]byte(nil), buf[:n]...)}:
		default: // full: the tail is dropped
		}
	}
}

func (d *Delay) deliver(q <-chan late, to *os.File) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case p := <-q:
			if wait := time.Until(p.due); wait > 0 {
				timer.Reset(wait)
				select {
				case <-timer.C:
				case <-d.done:
					return
				}
			}
			_, _ = to.Write(p.b) // a device that is down takes nothing
		case <-d.done:
			return
		}
	}
}

func (d *Delay) distance(src, dst netip.Addr) time.Duration {
	for i := range d.distances {
		if holds(d.distances[i].Prefixes, src) || holds(d.distances[i].Prefixes, dst) {
			return d.distances[i].OneWay
		}
	}
	return d.otherwise
}

func (d *Delay) lost(src, dst netip.Addr) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for i := range d.losses {
		l := &d.losses[i]
		between := holds(l.A, src) && holds(l.B, dst) || holds(l.B, src) && holds(l.A, dst)
		if between && rand.Float64() < l.Share { //nolint:gosec // chance, no secret
			return true
		}
	}
	return false
}

func holds(ps []netip.Prefix, a netip.Addr) bool {
	for _, p := range ps {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// addresses reads an IP packet's; the zero Addr stands for what is none.
func addresses(p []byte) (src, dst netip.Addr) {
	switch {
	case len(p) >= 20 && p[0]>>4 == 4:
		return netip.AddrFrom4([4]byte(p[12:16])), netip.AddrFrom4([4]byte(p[16:20]))
	case len(p) >= 40 && p[0]>>4 == 6:
		return netip.AddrFrom16([16]byte(p[8:24])), netip.AddrFrom16([16]byte(p[24:40]))
	}
	return src, dst
}
