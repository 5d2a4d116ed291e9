package metal

import (
	"bytes"
	"context"
	_ "embed" // the routers' configurations
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"

	"anyedge/internal/lab/netns"
)

// frrDir holds FRR's daemons.
const frrDir = "/usr/lib/frr"

// A router is BIRD or FRR in a namespace.
type router interface {
	start() error                         // nothing happens when it runs
	stop()                                // at once
	alive() bool                          // all of its processes run
	ask(command string) (string, error)   // its shell's answer
	routes(family string) (string, error) // what it has for the VIP's prefix
	session(edge string, up bool) error   // an edge's session is disabled or enabled
}

//go:embed bird.conf.tmpl
var birdTemplate string

//go:embed transit.conf.tmpl
var transitTemplate string

//go:embed frr.conf.tmpl
var frrTemplate string

// A routerPlan is what the templates see.
type routerPlan struct {
	Geo                          Geo
	ASN, TransitASN, FleetASN    uint32
	Addr4, Up4, Peer4            string
	Net4, Net6, Prefix4, Prefix6 string
	Edges                        []routerEdge
	Geos                         []Geo
	Peers                        []routerEdge // the transit's
}

type routerEdge struct {
	Name, Addr string
	ASN        uint32
}

func (l *Lab) startRouters() error {
	plan := routerPlan{TransitASN: transitASN, FleetASN: fleetASN, Prefix4: prefix4, Prefix6: prefix6, Geos: Geos()}
	for _, g := range Geos() {
		plan.Peers = append(plan.Peers, routerEdge{g.Name, g.up4(2).String(), g.ASN})
	}
	if err := l.startRouter("transit", transitTemplate, false, plan); err != nil {
		return err
	}
	for _, g := range Geos() {
		p := plan
		p.Geo, p.ASN = g, g.ASN
		p.Addr4, p.Up4, p.Peer4 = g.addr4(1).String(), g.up4(2).String(), g.up4(1).String()
		p.Net4, p.Net6 = g.net4().String(), g.net6().String()
		for i := range g.Edges {
			p.Edges = append(p.Edges, routerEdge{fmt.Sprintf("edge%d", i+1), g.addr4(2 + i).String(), fleetASN})
		}
		text := birdTemplate
		if g.FRR {
			text = frrTemplate
		}
		if err := l.startRouter(g.Name, text, g.FRR, p); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) startRouter(name, text string, frr bool, p routerPlan) error {
	var b bytes.Buffer
	t, err := template.New(name).Parse(text)
	if err == nil {
		err = t.Execute(&b, p)
	}
	if err != nil {
		return err
	}
	space := l.spaces["transit"]
	if name != "transit" {
		space = l.spaces[name+"-router"]
	}
	var r router
	if frr {
		r, err = newFRR(space, l.path("frr-"+name), b.Bytes(), p)
	} else {
		r, err = newBIRD(space, l.path("bird-"+name), b.Bytes())
	}
	if err != nil {
		return err
	}
	l.routers[name] = r
	if err := r.start(); err != nil {
		return fmt.Errorf("router of %s: %w", name, err)
	}
	return nil
}

type bird struct {
	daemon
	conf, socket string
	program, ctl string
}

func newBIRD(space *netns.Space, dir string, conf []byte) (*bird, error) {
	program, err1 := find("bird")
	ctl, err2 := find("birdc")
	if err := errors.Join(err1, err2, os.Mkdir(dir, 0o700)); err != nil {
		return nil, err
	}
	b := &bird{conf: filepath.Join(dir, "bird.conf"), socket: filepath.Join(dir, "bird.ctl"), program: program, ctl: ctl}
	b.space, b.log = space, filepath.Join(dir, "bird.log")
	return b, os.WriteFile(b.conf, conf, 0o600)
}

func (b *bird) start() error {
	if b.running() {
		return nil
	}
	if err := b.run(b.program, "-f", "-c", b.conf, "-s", b.socket, "-P", b.conf+".pid"); err != nil {
		return err
	}
	return await(&b.daemon, func() bool {
		text, err := b.ask("show status")
		return err == nil && strings.Contains(text, "up and running")
	})
}

func (b *bird) stop() { b.kill() }

func (b *bird) alive() bool { return b.running() }

func (b *bird) ask(command string) (string, error) {
	return shell(b.ctl, append([]string{"-s", b.socket}, strings.Fields(command)...)...)
}

func (b *bird) routes(family string) (string, error) {
	if family == "ipv6" {
		return b.ask("show route for " + VIPs()[1].String() + " table master6")
	}
	return b.ask("show route for " + VIPs()[0].String() + " table master4")
}

func (b *bird) session(edge string, up bool) error {
	word := "disable "
	if up {
		word = "enable "
	}
	text, err := b.ask(word + edge)
	if err != nil {
		return fmt.Errorf("%s%s: %w: %s", word, edge, err, text)
	}
	return nil
}

// An frr is zebra and bgpd.
type frr struct {
	zebra, bgpd daemon
	dir, vtysh  string
	neighbors   map[string]string // edge → address
	asn         uint32
}

func newFRR(space *netns.Space, dir string, conf []byte, p routerPlan) (*frr, error) {
	vtysh, err := find("vtysh")
	if err != nil {
		return nil, err
	}
	f := &frr{dir: dir, vtysh: vtysh, neighbors: map[string]string{}, asn: p.ASN}
	for _, e := range p.Edges {
		f.neighbors[e.Name] = e.Addr
	}
	f.zebra.space, f.zebra.log = space, dir+"-zebra.log"
	f.bgpd.space, f.bgpd.log = space, dir+"-bgpd.log"
	err = errors.Join(os.Mkdir(dir, 0o755), //nolint:gosec // its daemons run as another user
		os.WriteFile(filepath.Join(dir, "bgpd.conf"), conf, 0o644), //nolint:gosec // and read this
		os.WriteFile(filepath.Join(dir, "zebra.conf"), nil, 0o644)) //nolint:gosec // and this
	if err != nil {
		return nil, err
	}
	return f, chown(dir, "frr", filepath.Join(dir, "bgpd.conf"), filepath.Join(dir, "zebra.conf"))
}

// chown gives files to a user.
func chown(dir, name string, files ...string) error {
	u, err := user.Lookup(name)
	if err != nil {
		return err
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	errs := []error{err1, err2}
	for _, f := range append(files, dir) {
		errs = append(errs, os.Chown(f, uid, gid))
	}
	return errors.Join(errs...)
}

func (f *frr) common(name string) []string {
	return []string{
		"--vty_socket", f.dir, "-z", filepath.Join(f.dir, "zserv.api"), "-P", "0", "--log", "stdout",
		"-f", filepath.Join(f.dir, name+".conf"), "-i", filepath.Join(f.dir, name+".pid"),
	}
}

func (f *frr) start() error {
	if f.bgpd.running() {
		return nil
	}
	if err := f.zebra.run(frrDir+"/zebra", f.common("zebra")...); err != nil {
		return err
	}
	err := await(&f.zebra, func() bool {
		_, err := os.Stat(filepath.Join(f.dir, "zserv.api"))
		return err == nil
	})
	if err != nil {
		return err
	}
	if err := f.bgpd.run(frrDir+"/bgpd", f.common("bgpd")...); err != nil {
		return err
	}
	return await(&f.bgpd, func() bool {
		text, err := f.ask("show bgp summary")
		return err == nil && strings.Contains(text, "BGP router identifier")
	})
}

func (f *frr) stop() {
	f.bgpd.kill()
	f.zebra.kill()
	_ = os.Remove(filepath.Join(f.dir, "zserv.api")) // so that the next start waits for its own
}

func (f *frr) alive() bool { return f.zebra.running() && f.bgpd.running() }

func (f *frr) ask(command string) (string, error) {
	return shell(f.vtysh, "--vty_socket", f.dir, "-c", command)
}

func (f *frr) routes(family string) (string, error) {
	prefix := prefix4
	if family == "ipv6" {
		prefix = prefix6
	}
	return f.ask("show bgp " + family + " unicast " + prefix)
}

func (f *frr) session(edge string, up bool) error {
	word := "neighbor "
	if up {
		word = "no neighbor "
	}
	_, err := shell(f.vtysh, "--vty_socket", f.dir, "-c", "configure terminal", "-c", fmt.Sprintf("router bgp %d", f.asn),
		"-c", word+f.neighbors[edge]+" shutdown")
	return err
}

// shell runs a router's shell, and returns what it answers.
func shell(program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), answerWait)
	defer cancel()
	var out, why bytes.Buffer // what vtysh complains about is no answer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = &out, &why
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w: %s%s", filepath.Base(program), err, out.String(), why.String())
	}
	return out.String(), nil
}

// Routes returns what a geo's router, or the transit, has for the VIP's prefix
// of a family (ipv4 or ipv6), in its own shell's words.
func (l *Lab) Routes(name, family string) (string, error) {
	r := l.routers[name]
	if r == nil {
		return "", fmt.Errorf("there is no router %q", name)
	}
	return r.routes(family)
}
