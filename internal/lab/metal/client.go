package metal

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"anyedge/internal/lab"
)

// certificates are what clients trust.
type certificates struct{ pool *x509.CertPool }

func newCertificates(dir string) (certificates, error) {
	if err := lab.IssueSite(dir, VIPs()...); err != nil {
		return certificates{}, err
	}
	text, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return certificates{}, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return certificates{}, errors.New("ca.crt holds no certificate")
	}
	return certificates{pool}, nil
}

// Region returns the region of that name; it must exist.
func regionOf(name string) Region {
	all := Regions()
	return all[slices.IndexFunc(all, func(r Region) bool { return r.Name == name })]
}

// Client returns a client in a region, that asks a VIP for HTTPS.
func (l *Lab) Client(region string, vip netip.Addr, p lab.Protocol) *lab.Client {
	return l.client(region, 0, vip, p)
}

// client returns the n-th client of a region.
func (l *Lab) client(region string, n int, vip netip.Addr, p lab.Protocol) *lab.Client {
	r := regionOf(region)
	source := r.addr4(2 + n%clientsPerRegion)
	if vip.Is6() {
		source = r.addr6(2 + n%clientsPerRegion)
	}
	c := lab.NewClient(netip.AddrPortFrom(vip, 443), source, p, &tls.Config{RootCAs: l.certs.pool, MinVersion: tls.VersionTLS13})
	c.Inside = l.spaces["client-"+region].Do
	return c
}

// streamTimeout is how long a Stream's client waits for an answer.
const streamTimeout = 3 * time.Second

// A Stream is a steady client: so many requests a second whatever becomes of
// them, from all of a region's addresses in turn.
type Stream struct {
	meter  *lab.Meter
	region string
	cancel context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex
	seen   []Seen
}

// Seen is one request of a Stream.
type Seen struct {
	At     time.Time // when it began
	Took   time.Duration
	Geo    string // where it entered; "" when it failed
	Served string
	Err    error
}

// A StreamConfig says what a Stream asks.
type StreamConfig struct {
	Region   string
	VIP      netip.Addr
	Protocol lab.Protocol
	Rate     float64 // requests/s
	Keep     bool    // connections are kept; else each request opens a new one
	Clients  int     // that ask in turn; 0 means many, with all addresses of the region
}

// Stream starts a steady client; Stop ends it.
func (l *Lab) Stream(cfg StreamConfig) *Stream {
	if cfg.Clients == 0 {
		cfg.Clients = 4 * clientsPerRegion
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Stream{meter: lab.NewMeter(), region: cfg.Region, cancel: cancel}
	idle := make(chan *lab.Client, cfg.Clients)
	for i := range cfg.Clients {
		idle <- l.client(cfg.Region, i, cfg.VIP, cfg.Protocol)
	}
	s.wg.Go(func() { s.send(ctx, cfg, idle) })
	return s
}

func (s *Stream) send(ctx context.Context, cfg StreamConfig, idle chan *lab.Client) {
	every := time.Duration(float64(time.Second) / cfg.Rate)
	due := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		for moment := time.Now(); !due.After(moment); due = due.Add(every) {
			select {
			case c := <-idle:
				s.wg.Go(func() { s.one(context.WithoutCancel(ctx), c, cfg.Keep); idle <- c })
			default:
				s.meter.Late(s.region, 1)
			}
		}
		timer.Reset(time.Until(due))
	}
}

// one sends one request, and waits for its answer whatever ends meanwhile.
func (s *Stream) one(ctx context.Context, c *lab.Client, keep bool) {
	if !keep {
		c.Close()
	}
	at := time.Now()
	ctx, cancel := context.WithTimeout(ctx, streamTimeout)
	defer cancel()
	r := c.Get(ctx, "/")
	if !keep {
		c.Close()
	}
	s.meter.Add(s.region, c, &r)
	seen := Seen{At: at, Took: r.Took, Err: r.Err}
	if r.Err == nil {
		seen.Geo, seen.Served = r.Entered(), r.Served()
	}
	s.mu.Lock()
	s.seen = append(s.seen, seen)
	s.mu.Unlock()
}

// Mark returns this moment; Since counts from one.
func (s *Stream) Mark() lab.Mark { return s.meter.Mark() }

// Since returns what was counted since a mark.
func (s *Stream) Since(m lab.Mark) lab.Tally { return s.meter.Since(m) }

// LastFailure returns how long after a moment the last request began that
// failed; 0 when none did.
func (s *Stream) LastFailure(after time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := time.Duration(0)
	for _, x := range s.seen {
		if x.Err != nil && x.At.After(after) {
			last = max(last, x.At.Sub(after))
		}
	}
	return last
}

// Failures returns the requests that failed after a moment.
func (s *Stream) Failures(after time.Time) []Seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Seen
	for _, x := range s.seen {
		if x.Err != nil && x.At.Add(x.Took).After(after) {
			out = append(out, x)
		}
	}
	return out
}

// Stop ends the stream and waits for the last answers.
func (s *Stream) Stop() {
	s.cancel()
	s.wg.Wait()
}
