package fabric_test

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A relay carries UDP between whoever sends to it and one target, and can be
// cut in either direction.
type relay struct {
	addr   string
	target *net.UDPAddr
	front  *net.UDPConn

	noRequest atomic.Bool // drop what goes to the target
	noAnswer  atomic.Bool // drop what comes from it
	delay     time.Duration

	mu   sync.Mutex
	back map[netip.AddrPort]*net.UDPConn
	done sync.WaitGroup
}

func newRelay(t *testing.T, target string, delay time.Duration) *relay {
	t.Helper()
	to, err := net.ResolveUDPAddr("udp", target)
	if err != nil {
		t.Fatal(err)
	}
	front, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{addr: front.LocalAddr().String(), target: to, front: front, delay: delay, back: map[netip.AddrPort]*net.UDPConn{}}
	r.done.Go(r.run)
	t.Cleanup(func() {
		front.Close()
		r.mu.Lock()
		for _, c := range r.back {
			c.Close()
		}
		r.mu.Unlock()
		r.done.Wait()
	})
	return r
}

func (r *relay) cut(v bool) { r.noRequest.Store(v); r.noAnswer.Store(v) }

func (r *relay) run() {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := r.front.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		if r.noRequest.Load() {
			continue
		}
		c := r.upstream(from)
		if c == nil {
			return
		}
		b := append([]byte(nil), buf[:n]...)
		r.later(func() { c.Write(b) })
	}
}

// later runs f after the relay's delay.
func (r *relay) later(f func()) {
	if r.delay == 0 {
		f()
		return
	}
	time.AfterFunc(r.delay, f)
}

func (r *relay) upstream(from netip.AddrPort) *net.UDPConn {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.back[from]; c != nil {
		return c
	}
	c, err := net.DialUDP("udp", nil, r.target)
	if err != nil {
		return nil
	}
	r.back[from] = c
	r.done.Go(func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := c.Read(buf)
			if err != nil {
				if isClosed(err) {
					return
				}
				continue // refused: the target is not there now
			}
			if r.noAnswer.Load() {
				continue
			}
			b := append([]byte(nil), buf[:n]...)
			r.later(func() { r.front.WriteToUDPAddrPort(b, from) })
		}
	})
	return c
}
