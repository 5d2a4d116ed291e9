package lab

import (
	"context"
	"crypto/tls"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// maxAhead bounds how much a load sends at once to catch up after this process
// was not scheduled.
const maxAhead = 500 * time.Millisecond

// pace is how often a load looks whether requests are due.
const pace = 5 * time.Millisecond

// A LoadConfig describes the clients of one region.
type LoadConfig struct {
	Region  string
	Entry   netip.AddrPort
	Rate    float64       // requests/s in all
	Ramp    time.Duration // until the rate is reached, growing from a tenth of it
	Clients int           // how many people share them; each has an address of its own
	First   int           // number of the first client's address
	Mix     []Protocol
	Path    string
	TLS     *tls.Config
}

// A Load sends requests at a steady rate whatever becomes of them (open loop),
// from many clients in turn.
type Load struct {
	cfg   LoadConfig
	meter *Meter
	idle  chan *Client
	life  atomic.Int64
}

// NewLoad returns a load that counts into meter.
func NewLoad(cfg LoadConfig, meter *Meter) *Load {
	l := &Load{cfg: cfg, meter: meter, idle: make(chan *Client, cfg.Clients)}
	for i := range cfg.Clients {
		l.idle <- NewClient(cfg.Entry, clientAddr(cfg.First+i), cfg.Mix[i%len(cfg.Mix)], cfg.TLS)
	}
	return l
}

// clientAddr returns the address of the n-th client: 127.16.0.1 and up.
func clientAddr(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, 16 + byte(n/(250*250)), byte(n / 250 % 250), 1 + byte(n%250)})
}

// Renew makes every client open a new connection before its next request, as
// people do who went away and came back.
func (l *Load) Renew() { l.life.Add(1) }

// Run sends requests until ctx ends and waits for the last answers.
func (l *Load) Run(ctx context.Context, ready func()) error {
	ready()
	var wg sync.WaitGroup
	l.send(ctx, &wg)
	wg.Wait()
	for range l.cfg.Clients {
		(<-l.idle).Close()
	}
	return nil
}

// send starts each request in its time.
func (l *Load) send(ctx context.Context, wg *sync.WaitGroup) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	// Requests whose answers are under way when ctx ends are not broken off.
	answers := context.WithoutCancel(ctx)
	begin := time.Now()
	due := begin
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			every := l.every(now.Sub(begin))
			if behind := now.Sub(due); behind > maxAhead {
				lost := int((behind - maxAhead) / every)
				l.meter.Late(l.cfg.Region, lost)
				due = due.Add(time.Duration(lost) * every)
			}
			for !due.After(now) {
				due = due.Add(every)
				l.request(answers, wg)
			}
		}
	}
}

// every returns the time between two requests, so long after the start.
func (l *Load) every(elapsed time.Duration) time.Duration {
	share := 1.0
	if l.cfg.Ramp > 0 {
		share = min(1, max(0.1, elapsed.Seconds()/l.cfg.Ramp.Seconds()))
	}
	return time.Duration(float64(time.Second) / (l.cfg.Rate * share))
}

// request lets the client that has waited longest send one request.
func (l *Load) request(ctx context.Context, wg *sync.WaitGroup) {
	select {
	case c := <-l.idle:
		wg.Go(func() {
			if life := l.life.Load(); c.life != life {
				c.Close()
				c.life = life
			}
			r := c.Get(ctx, l.cfg.Path)
			l.meter.Add(l.cfg.Region, c, &r)
			l.idle <- c
		})
	default:
		l.meter.Late(l.cfg.Region, 1)
	}
}
