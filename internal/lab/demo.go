package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// startWait is how long the geos may take until every region is served by its
// nearest one.
const startWait = 60 * time.Second

// Options say what demo is wanted.
type Options struct {
	Dir   string // run directory; "" is a temporary one
	App   string // URL of the user's own app, served by all geos; "" is the demo's
	Port  uint16 // of the first region's entry, the others follow; 0 takes free ports
	Edged string // program of the geos' processes; "" is this one
	Log   *slog.Logger
	// Report is told in words what happens while the demo runs; may be nil.
	Report func(line string)
}

// A Demo is the whole world of the demo, running. [Start] makes one.
type Demo struct {
	opts    Options
	log     *slog.Logger
	dir     *runDir
	layout  *layout
	spawn   *spawner
	links   *Links
	control *control
	regions []*region
	procs   []*process
	// backends are the demo's own apps; none when the user brought one.
	backends []*Backend

	changed beacon // lit when a process starts or ends
	prefix  netip.Prefix
	keep    bool // the run directory stays

	cancel context.CancelFunc // ends what start started
	wg     sync.WaitGroup
	failed chan error // holds the first failure of a part

	fileMu sync.Mutex                    // held while demo.json is written
	mu     sync.Mutex                    // guards loads
	loads  map[string]context.CancelFunc // by region: what /load started
	once   sync.Once
	ended  error // of the one close
}

// A region is one client region at run time.
type region struct {
	regionPlan
	router *Router
	entry  *Entry
}

// Start makes the demo's world and returns when every region is served by its
// nearest geo. The demo lives until Close, or until the context given to
// Wait ends. When Start fails, it leaves nothing behind and has touched
// nothing of others.
func Start(ctx context.Context, opts Options) (*Demo, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Report == nil {
		opts.Report = func(string) {}
	}
	if opts.Edged == "" {
		exe, err := os.Executable()
		if err != nil {
			return nil, err
		}
		opts.Edged = exe
	}
	d := &Demo{
		opts: opts, log: opts.Log, spawn: newSpawner(), prefix: netip.MustParsePrefix(prefix4),
		failed: make(chan error, 1), loads: make(map[string]context.CancelFunc),
	}
	if err := d.start(ctx); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *Demo) start(ctx context.Context) error {
	if err := d.build(ctx); err != nil {
		return err
	}
	for _, r := range d.regions {
		if err := r.router.Open(ctx); err != nil {
			return err
		}
	}
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	d.cancel = cancel
	d.run(own, "links", d.links.Run)
	d.run(own, "control", d.control.Run)
	for _, r := range d.regions {
		d.run(own, "router of "+r.name, r.router.Run)
		d.run(own, "entry of "+r.name, r.entry.Run)
	}
	d.wg.Go(func() { d.keepFile(own) })
	for _, p := range d.procs {
		if err := p.up(ctx); err != nil {
			return err
		}
	}
	if err := d.awaitHome(ctx); err != nil {
		return err
	}
	d.describe()
	return nil
}

// run runs one part of the demo until ctx ends.
func (d *Demo) run(ctx context.Context, name string, part func(context.Context, func()) error) {
	d.wg.Go(func() {
		if err := part(ctx, func() {}); err != nil {
			select {
			case d.failed <- fmt.Errorf("%s: %w", name, err):
			default:
			}
		}
	})
}

// awaitHome waits until every region's best route is its nearest geo.
func (d *Demo) awaitHome(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startWait, fmt.Errorf("the geos were not announced everywhere within %s", startWait))
	defer cancel()
	for _, r := range d.regions {
		for {
			changed, moved := r.router.Changed(), d.changed.next()
			if best, ok := r.router.Best(d.prefix); ok && best.Geo == r.nearest[0] {
				break
			}
			for _, p := range d.procs {
				if p.pid() == 0 {
					return fmt.Errorf("geo %s ended at once; the end of its log says:\n%s", p.geo, tail(p.logFile))
				}
			}
			select {
			case <-changed:
			case <-moved:
			case err := <-d.failed:
				return err
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
	return nil
}

// Wait returns when ctx ends, or when a part of the demo fails; it has closed
// the demo then.
func (d *Demo) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return d.Close()
	case err := <-d.failed:
		return errors.Join(err, d.Close())
	}
}

// Keep leaves the run directory in place when the demo ends.
func (d *Demo) Keep() { d.keep = true }

// Dir returns the run directory.
func (d *Demo) Dir() string { return d.dir.path }

// Close ends every process, closes every socket and removes the run directory.
func (d *Demo) Close() error {
	d.once.Do(func() { d.ended = d.close() })
	return d.ended
}

func (d *Demo) close() error {
	d.stopLoads()
	var stopping sync.WaitGroup
	for _, p := range d.procs {
		stopping.Go(p.stop)
	}
	stopping.Wait()
	if d.cancel != nil {
		d.cancel()
		d.wg.Wait()
	} else {
		d.closeSockets()
	}
	for _, b := range d.backends {
		if b.Alive() {
			_ = b.Down()
		}
	}
	d.spawn.end()
	switch {
	case d.dir == nil:
		return nil
	case d.keep:
		d.dir.release()
		return nil
	}
	return d.dir.remove()
}

// closeSockets closes what a demo that never ran has bound.
func (d *Demo) closeSockets() {
	for _, r := range d.regions {
		_ = r.entry.Close()
		if r.router != nil {
			r.router.Close()
		}
	}
	if d.links != nil {
		d.links.Close()
	}
	if d.control != nil {
		_ = d.control.listener.Close()
	}
}

// inUse explains a bind error of an address.
func inUse(what string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s is in use, perhaps by another demo: stop that, or choose other ports with --port", what)
	}
	return fmt.Errorf("%s: %w", what, err)
}
