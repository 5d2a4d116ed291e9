package lab

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
)

// loadClients is how many people send what POST /load asks for; their
// addresses come after those of the steady clients.
const (
	loadClients = 400
	loadFirst   = 4000
)

// Kill kills a backend or a geo's process with SIGKILL. It returns what it did,
// in words.
func (d *Demo) Kill(kind, name string) (string, error) {
	return d.act(kind, name, "killed", (*Backend).Down, (*process).kill)
}

// Revive starts a dead backend or geo again.
func (d *Demo) Revive(ctx context.Context, kind, name string) (string, error) {
	backend := func(b *Backend) error { return b.Up(ctx) }
	geo := func(p *process) error { return p.up(ctx) }
	return d.act(kind, name, "revived", backend, geo)
}

// act does one thing to the backend or geo of that name.
func (d *Demo) act(kind, name, done string, backend func(*Backend) error, geo func(*process) error) (string, error) {
	var names []string
	var err error
	found := false
	switch kind {
	case "backend":
		if len(d.backends) == 0 {
			return "", requestError(http.StatusConflict, "the backends are your own app: kill that")
		}
		for _, b := range d.backends {
			names = append(names, b.Name)
			if b.Name == name {
				found, err = true, backend(b)
			}
		}
	case "geo":
		for _, p := range d.procs {
			names = append(names, p.geo)
			if p.geo == name {
				found, err = true, geo(p)
			}
		}
	default:
		return "", requestError(http.StatusNotFound, "%q can be neither killed nor revived: want backend or geo", kind)
	}
	switch {
	case !found:
		return "", requestError(http.StatusNotFound, "there is no %s %q; there are %s", kind, name, strings.Join(names, ", "))
	case err != nil:
		return "", requestError(http.StatusConflict, "%v", err)
	}
	d.describe() // whoever reads it after our answer finds the new truth
	return d.report("%s %s is %s", kind, name, done), nil
}

// Cut cuts the link "A-B" between two geos.
func (d *Demo) Cut(link string) (string, error) { return d.setCut(link, true, "is cut") }

// Join repairs the link "A-B".
func (d *Demo) Join(link string) (string, error) { return d.setCut(link, false, "is joined") }

func (d *Demo) setCut(link string, cut bool, done string) (string, error) {
	a, b, _ := strings.Cut(link, "-")
	if err := d.links.SetCut(a, b, cut); err != nil {
		var all []string
		for _, p := range linkPlans() {
			all = append(all, p.a+"-"+p.b)
		}
		return "", requestError(http.StatusNotFound, "%v; there are %s", err, strings.Join(all, ", "))
	}
	return d.report("link %s %s", link, done), nil
}

// Load makes a region's clients send that many requests/s for a while. It
// returns at once; the outcome is reported when it is over.
func (d *Demo) Load(ctx context.Context, name string, rate float64, lasts time.Duration) (string, error) {
	i := slices.IndexFunc(d.regions, func(r *region) bool { return r.name == name })
	switch {
	case i < 0:
		return "", requestError(http.StatusNotFound, "there is no region %q; there are eu, us, asia", name)
	case !(rate >= 1 && rate <= maxLoadRate): // also what is not a number
		return "", requestError(http.StatusBadRequest, "rate: want 1 to %d requests per second", maxLoadRate)
	case lasts < time.Second || lasts > maxLoadFor:
		return "", requestError(http.StatusBadRequest, "for: want 1s to %s", maxLoadFor)
	}
	trust, err := d.trust()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lasts) // it outlives the request
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.loads == nil || d.loads[name] != nil {
		cancel()
		return "", requestError(http.StatusConflict, "a load runs at %s already", name)
	}
	d.loads[name] = cancel
	meter := NewMeter()
	load := NewLoad(LoadConfig{
		Region: name, Entry: d.regions[i].entry.Addr(), Rate: rate, Clients: loadClients, First: loadFirst + i*loadClients,
		Mix: []Protocol{H1, H2, H1, H3}, Path: "/", TLS: trust,
	}, meter)
	d.wg.Go(func() {
		defer cancel()
		from := meter.Mark()
		_ = load.Run(ctx, func() {})
		t := meter.Since(from)
		d.report("load at %s is over: %d sent, %d failed, served by %s", name, t.Sent, t.Failed, shares(t.Served))
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.loads, name)
	})
	return d.report("%.0f requests/s at %s for %s", rate, name, lasts), nil
}

// stopLoads ends what Load started and allows no more.
func (d *Demo) stopLoads() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, cancel := range d.loads {
		cancel()
	}
	d.loads = nil
}

// report tells what happened, and returns it.
func (d *Demo) report(format string, args ...any) string {
	line := fmt.Sprintf(format, args...)
	d.opts.Report(line)
	return line
}

// trust returns what the demo's clients trust.
func (d *Demo) trust() (*tls.Config, error) {
	text, err := os.ReadFile(d.File().CA)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: no certificate in it", d.File().CA)
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13, ClientSessionCache: tls.NewLRUClientSessionCache(8)}, nil
}
