// Package metal is the lab with machines: three geos as an engineer would rack
// them, in network namespaces on one machine, with real routers and real edges.
//
// A [Lab] has two edge machines in fra and one each in iad and nrt, a switch and
// a BIRD or FRR router in each geo, a transit router that gives two client
// regions their nearest geo, links with distance between all of them, and
// machines for the apps. Every edge is an edged process with a file like one in
// the field. [Lab.Break] breaks things; [Lab.Heal] mends all of them.
//
// It needs root, BIRD and FRR. Nothing of the machine's own network is touched;
// when a Lab closes, nothing of it is left.
package metal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"anyedge/fabric/identity"
	"anyedge/internal/lab"
	"anyedge/internal/lab/netns"
)

// DefaultPrefix begins the names of a lab's namespaces.
const DefaultPrefix = "edged-lab"

// CheckPrefix reports why a prefix cannot begin the names of a lab.
func CheckPrefix(prefix string) error {
	for _, c := range prefix {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return fmt.Errorf("prefix %q: want lower-case letters, digits and -", prefix)
		}
	}
	if prefix == "" || len(prefix) > 32 || prefix[0] == '-' {
		return fmt.Errorf("prefix %q: want 1 to 32 lower-case letters, digits and -, and no - in front", prefix)
	}
	return nil
}

// Command is how edgectl is asked to do something to the lab of a prefix.
func Command(what, prefix string) string {
	if prefix == DefaultPrefix {
		return "edgectl lab " + what
	}
	return "edgectl lab " + what + " --prefix " + prefix
}

// Options say what lab is wanted.
type Options struct {
	Prefix string        // of the namespaces' names; default DefaultPrefix
	Edged  string        // program of the edges; required
	L4     string        // l4.mode; "" leaves the section out
	Drain  time.Duration // l4.drain; default 2s
	// Unlimited edges say no capacity, so that nothing is shed.
	Unlimited bool
	Log       *slog.Logger
}

// A Lab is all of it, running.
type Lab struct {
	opts Options
	log  *slog.Logger
	dir  string

	spaces   map[string]*netns.Space
	links    map[string]*netns.Delay // transit to a geo
	routers  map[string]router
	edges    []*Edge
	backends []*lab.Backend
	undo     []func() error // of what is attached to ports
	certs    certificates
	claimed  bool // its File is there

	mu     sync.Mutex // guards what follows
	faults []fault
	losses map[pair]float64
}

// Check says in one line what this machine lacks for a lab, and how to get it.
func Check() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("a lab needs root, for network namespaces and XDP: run it with sudo (%w)", fs.ErrPermission)
	}
	var missing, pkgs []string
	for _, x := range []struct{ program, pkg string }{
		{"bird", "bird2"}, {"birdc", "bird2"}, {"vtysh", "frr"}, {frrDir + "/zebra", "frr"}, {frrDir + "/bgpd", "frr"},
	} {
		if _, err := find(x.program); err != nil {
			missing = append(missing, filepath.Base(x.program))
			if !slices.Contains(pkgs, x.pkg) {
				pkgs = append(pkgs, x.pkg)
			}
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("a lab needs %s: apt-get install %s", strings.Join(missing, ", "), strings.Join(pkgs, " "))
	}
	for _, x := range []struct{ path, cure string }{
		{"/dev/net/tun", "modprobe tun"},
		{"/proc/self/ns/net", "use a kernel with CONFIG_NET_NS"},
		{"/proc/sys/net/ipv6", "use a kernel with IPv6, started without ipv6.disable=1"},
		{"/proc/sys/net/ipv4/fib_multipath_hash_fields", "use Linux 5.14 or later with CONFIG_IP_ROUTE_MULTIPATH"},
	} {
		if _, err := os.Stat(x.path); err != nil {
			return fmt.Errorf("a lab needs %s: %s", x.path, x.cure)
		}
	}
	return nil
}

// find looks for a program where root finds it.
func find(program string) (string, error) {
	for _, dir := range []string{"/usr/sbin", "/usr/bin", "/sbin", "/bin"} {
		if p, err := exec.LookPath(filepath.Join(dir, program)); err == nil && !filepath.IsAbs(program) {
			return p, nil
		}
	}
	return exec.LookPath(program)
}

// Up makes a lab and returns when it is whole: all sessions are up, and both
// regions are served by their nearest geo. When it fails, nothing is left.
func Up(ctx context.Context, opts Options) (*Lab, error) {
	opts.Prefix = cmp.Or(opts.Prefix, DefaultPrefix)
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Drain == 0 {
		opts.Drain = 2 * time.Second
	}
	if err := Check(); err != nil {
		return nil, err
	}
	if old := spacesOf(opts.Prefix); len(old) > 0 {
		return nil, fmt.Errorf("namespaces of a lab are there (%s, …): another one runs, or was killed; take it down first", old[0])
	}
	l := &Lab{
		opts: opts, log: opts.Log, spaces: map[string]*netns.Space{},
		links: map[string]*netns.Delay{}, routers: map[string]router{},
	}
	if err := l.up(ctx); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (l *Lab) up(ctx context.Context) error {
	dir, err := os.MkdirTemp("", l.opts.Prefix+"-")
	if err != nil {
		return err
	}
	l.dir = dir
	if err := l.claim(); err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // FRR's daemons run as another user
		return err
	}
	if err := l.build(); err != nil {
		return err
	}
	if err := l.startBackends(ctx); err != nil {
		return err
	}
	if err := l.startRouters(); err != nil {
		return err
	}
	keys := filepath.Join(dir, "fabric")
	if err := identity.Init(keys, trustDomain); err != nil {
		return err
	}
	if l.certs, err = newCertificates(dir); err != nil {
		return err
	}
	for _, e := range l.edges {
		if err := identity.IssueTo(keys, e.Geo, e.Name); err != nil {
			return err
		}
		if err := l.writeConfig(e); err != nil {
			return err
		}
		if err := e.Start(); err != nil {
			return err
		}
	}
	return l.awaitHome(ctx)
}

// pinDir is where the edges of the lab in dir pin their packet paths.
func pinDir(dir string) string { return filepath.Join("/sys/fs/bpf", filepath.Base(dir)) }

// Edges returns the edge machines.
func (l *Lab) Edges() []*Edge { return l.edges }

// Edge returns the one of that name; nil when there is none.
func (l *Lab) Edge(name string) *Edge {
	i := slices.IndexFunc(l.edges, func(e *Edge) bool { return e.Name == name })
	if i < 0 {
		return nil
	}
	return l.edges[i]
}

// Space returns a machine's namespace: "fra-edge1", "fra-router", "transit",
// "client-eu" and so on.
func (l *Lab) Space(machine string) *netns.Space { return l.spaces[machine] }

// Dir returns where the lab's files are.
func (l *Lab) Dir() string { return l.dir }

// Close ends every process and removes every namespace and file.
func (l *Lab) Close() error {
	var wg sync.WaitGroup
	for _, e := range l.edges {
		wg.Go(e.Kill)
	}
	for _, r := range l.routers {
		wg.Go(r.stop)
	}
	wg.Wait()
	for _, b := range l.backends {
		if b.Alive() {
			_ = b.Down()
		}
	}
	var errs []error
	for _, undo := range slices.Backward(l.undo) {
		errs = append(errs, undo())
	}
	for _, d := range l.links {
		errs = append(errs, d.Close())
	}
	for _, s := range l.spaces {
		errs = append(errs, s.Close())
	}
	if l.dir != "" {
		errs = append(errs, os.RemoveAll(pinDir(l.dir)), os.RemoveAll(l.dir))
	}
	if l.claimed { // last: whoever waits for the end waits for this
		errs = append(errs, os.Remove(filePath(l.opts.Prefix)))
	}
	return errors.Join(errs...)
}

// NextHops returns how many next hops a machine's kernel has for an address.
func (l *Lab) NextHops(machine string, to netip.Addr) (int, error) {
	return l.spaces[machine].NextHops(to)
}
