package metal

import (
	"context"
	_ "embed" // the edges' configuration
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"text/template"
	"time"

	"anyedge/internal/admin/client"
)

//go:embed edge.yaml.tmpl
var edgeTemplate string

// An Edge is one edge machine and its edged.
type Edge struct {
	Name   string
	Geo    string
	Addr   netip.Addr // IPv4, of eth0
	Config string     // files
	Socket string
	Log    string

	lab    *Lab
	geo    Geo
	number int
	proc   daemon
	wanted atomic.Bool // it was started, and nobody has ended it
}

func (l *Lab) newEdge(g Geo, name string, i int) *Edge {
	e := &Edge{
		Name: name, Geo: g.Name, Addr: g.addr4(2 + i), lab: l, geo: g, number: 10*(g.index+1) + i + 1,
		Config: l.path(name + ".yaml"), Socket: l.path(name + ".sock"), Log: l.path(name + ".log"),
	}
	e.proc.space, e.proc.log = l.spaces[name], e.Log
	return e
}

// writeConfig writes the file of an edge.
func (l *Lab) writeConfig(e *Edge) error {
	t, err := template.New("edge").Parse(edgeTemplate)
	if err != nil {
		return err
	}
	type geoPart struct {
		Geo
		Number int
		Fabric []string
	}
	type backendPart struct{ Name, URL string }
	data := struct {
		Dir, Name, Geo, L4, TrustDomain, Prefix4, Prefix6 string
		Pins                                              string
		Number                                            int
		Addr4, Addr6, Router, VIP4, VIP6, Drain           string
		ASN, RouterASN                                    uint32
		Capacity                                          int
		Geos                                              []geoPart
		Backends                                          []backendPart
	}{
		Dir: l.dir, Pins: pinDir(l.dir), Name: e.Name, Geo: e.Geo, L4: l.opts.L4, TrustDomain: trustDomain, Prefix4: prefix4, Prefix6: prefix6,
		Number: e.number, Addr4: e.Addr.String(), Addr6: e.geo.addr6(e.host()).String(), Router: e.geo.addr4(1).String(),
		VIP4: VIPs()[0].String(), VIP6: VIPs()[1].String(), Drain: l.opts.Drain.String(),
		ASN: fleetASN, RouterASN: e.geo.ASN, Capacity: Capacity / e.geo.Edges,
	}
	if l.opts.Unlimited {
		data.Capacity = 0
	}
	for _, g := range Geos() {
		p := geoPart{Geo: g, Number: g.index + 1}
		for i := range g.Edges {
			p.Fabric = append(p.Fabric, netip.AddrPortFrom(g.addr4(2+i), 8443).String())
		}
		data.Geos = append(data.Geos, p)
	}
	for _, b := range l.backends {
		if b.Geo == e.Geo {
			data.Backends = append(data.Backends, backendPart{b.Name, "http://" + b.Addr.String()})
		}
	}
	var out strings.Builder
	if err := t.Execute(&out, data); err != nil {
		return err
	}
	return os.WriteFile(e.Config, []byte(out.String()), 0o600)
}

// Capacity is what each geo says it can serve, in requests/s.
const Capacity = 300

func (e *Edge) host() int { return int(e.Addr.As4()[3]) - 16*e.geo.index }

// Start starts edged on the machine.
func (e *Edge) Start() error {
	if e.proc.running() {
		return fmt.Errorf("%s: edged runs already", e.Name)
	}
	if err := e.proc.run(e.lab.opts.Edged, "--config", e.Config); err != nil {
		return fmt.Errorf("%s: %w", e.Name, err)
	}
	e.wanted.Store(true)
	return nil
}

// Running reports whether edged runs.
func (e *Edge) Running() bool { return e.proc.running() }

func (e *Edge) started() bool { return e.wanted.Load() }

// Kill ends edged with SIGKILL.
func (e *Edge) Kill() {
	e.wanted.Store(false)
	e.proc.kill()
}

// Freeze stops the process as a machine does that hangs; Thaw lets it go on.
func (e *Edge) Freeze() { e.proc.signal(syscall.SIGSTOP) }

// Thaw ends Freeze.
func (e *Edge) Thaw() { e.proc.signal(syscall.SIGCONT) }

// Ask returns the admin client of the edge.
func (e *Edge) Ask() *client.Client { return client.New(e.Socket) }

// await waits until cond holds.
func awaitCond(ctx context.Context, what string, cond func() bool) error {
	for !cond() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: not in time", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}
