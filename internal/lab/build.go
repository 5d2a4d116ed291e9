package lab

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"anyedge/fabric/identity"
)

// build binds every address of the parent, makes the run directory and writes
// the geos' files. Ports come first: a second demo must fail before it has
// touched anything.
func (d *Demo) build(ctx context.Context) error {
	if err := d.bindEntries(); err != nil {
		return err
	}
	dir, err := openRunDir(d.opts.Dir)
	if err != nil {
		return err
	}
	d.dir = dir
	if d.layout, err = newLayout(dir.path, d.opts.App != ""); err != nil {
		return err
	}
	if err := d.layout.checkSockets(); err != nil {
		return err
	}
	if err := d.makeLinks(); err != nil {
		return err
	}
	if err := d.makeBackends(ctx); err != nil {
		return err
	}
	if d.control, err = newControl(ctx, d); err != nil {
		return err
	}
	d.makeRouters()
	d.makeProcesses()
	return d.writeFiles()
}

// bindEntries takes the regions' addresses.
func (d *Demo) bindEntries() error {
	for i, plan := range regionPlans() {
		port := d.opts.Port
		if port != 0 {
			port += uint16(i)
		}
		r := &region{regionPlan: plan}
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
		entry, err := NewEntry(addr, func() *Site { return d.siteFor(r) }, d.log)
		if err != nil {
			return inUse(describe(plan.name, addr), err)
		}
		r.entry = entry
		d.regions = append(d.regions, r)
	}
	return nil
}

// siteFor returns where a region's new connections go, nil without a route.
func (d *Demo) siteFor(r *region) *Site {
	best, ok := r.router.Best(d.prefix)
	if !ok {
		return nil
	}
	for _, p := range d.procs {
		if p.geo == best.Geo {
			return p.current()
		}
	}
	return nil
}

func (d *Demo) makeLinks() error {
	var ends []LinkEnd
	for _, g := range d.layout.Geos {
		ends = append(ends, LinkEnd{Geo: g.Name, Public: netip.AddrPortFrom(loopback(fabricNet, g.Number), 0), Fabric: g.Fabric})
	}
	links, err := NewLinks(ends, d.log)
	if err != nil {
		return err
	}
	d.links = links
	for _, p := range linkPlans() {
		if err := links.Connect(p.a, p.b, p.rtt); err != nil {
			return err
		}
	}
	for i := range d.layout.Geos {
		d.layout.Geos[i].Public = links.Public(d.layout.Geos[i].Name)
	}
	return nil
}

func (d *Demo) makeBackends(ctx context.Context) error {
	app, err := appURL(ctx, d.opts.App)
	if err != nil {
		return err
	}
	for i := range d.layout.Geos {
		g := &d.layout.Geos[i]
		if app != "" {
			g.Backends = []backendLayout{{Name: "app", URL: app}}
			continue
		}
		for j := range 2 {
			b := NewBackend(g.Name, backendName(g.Name, j), netip.AddrPortFrom(g.Addr, 0), d.log)
			if err := b.Up(ctx); err != nil {
				return err
			}
			d.backends = append(d.backends, b)
			g.Backends = append(g.Backends, backendLayout{Name: b.Name, URL: "http://" + b.Addr.String()})
		}
	}
	return nil
}

// appURL checks the URL of the user's own app, and that somebody answers there.
func appURL(ctx context.Context, s string) (string, error) {
	if s == "" {
		return "", nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" || u.Hostname() == "" || u.Port() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return "", fmt.Errorf("--app %q: want http://HOST:PORT", s)
	}
	dialer := net.Dialer{Timeout: dialTimeout}
	c, err := dialer.DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return "", fmt.Errorf("--app %s: nobody answers there; start your app first: %w", s, err)
	}
	return "http://" + u.Host, c.Close()
}

func (d *Demo) makeRouters() {
	for i, r := range d.regions {
		cfg := RouterConfig{Name: r.name, ASN: r.asn, Addr: d.layout.Routers[i].Addr}
		for hops, geo := range r.nearest {
			cfg.Neighbors = append(cfg.Neighbors, RouterNeighbor{Geo: geo, Addr: d.layout.geo(geo).Addr, ASN: fleetASN, Hops: hops})
		}
		r.router = NewRouter(cfg, d.log)
	}
}

func (d *Demo) makeProcesses() {
	for _, g := range d.layout.Geos {
		d.procs = append(d.procs, &process{
			geo: g.Name, listen: g.Listen, binary: d.opts.Edged, config: g.Config, logFile: g.Log,
			spawn: d.spawn, changed: &d.changed,
			ended: func(how string) { d.report("geo %s ended by itself (%s); its log: %s", g.Name, how, g.Log) },
		})
	}
}

// writeFiles makes the keys, the certificates and the configuration files.
func (d *Demo) writeFiles() error {
	fabric := filepath.Join(d.dir.path, "fabric")
	err := identity.Init(fabric, trustDomain)
	for _, g := range d.layout.Geos {
		if err == nil {
			err = identity.IssueTo(fabric, g.Name, g.Node)
		}
	}
	if err != nil {
		return fmt.Errorf("keys of the fabric: %w", err)
	}
	if err := IssueSite(d.dir.path, loopback(0, 1)); err != nil {
		return fmt.Errorf("certificate of the site: %w", err)
	}
	return d.layout.write()
}

// File describes the demo as it is now.
func (d *Demo) File() File {
	f := File{CA: filepath.Join(d.dir.path, clientCAFile), Control: d.control.url()}
	for _, r := range d.regions {
		f.Regions = append(f.Regions, FileRegion{Name: r.name, Entry: "https://" + r.entry.Addr().String()})
	}
	for i, g := range d.layout.Geos {
		f.Geos = append(f.Geos, g.file(d.procs[i].pid()))
	}
	return f
}

// describe writes demo.json.
func (d *Demo) describe() {
	d.fileMu.Lock()
	defer d.fileMu.Unlock()
	if err := d.dir.describe(d.File()); err != nil {
		d.log.Warn("writing the demo's description", "err", err)
	}
}

// keepFile keeps demo.json true until ctx ends.
func (d *Demo) keepFile(ctx context.Context) {
	for {
		changed := d.changed.next()
		d.describe()
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// tail returns the last lines of a file.
func tail(path string) string {
	const size = 2000
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err == nil && info.Size() > size {
		_, err = f.Seek(-size, io.SeekEnd)
		if err != nil {
			return err.Error()
		}
	}
	b, _ := io.ReadAll(f) // what can be read is better than nothing
	return strings.TrimSpace(string(b))
}
