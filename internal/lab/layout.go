package lab

import (
	"bytes"
	_ "embed" // the configuration's template
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

const trustDomain = "demo.example.net"

//go:embed geo.yaml.tmpl
var geoTemplate string

// A layout is every address and path of one demo, as its configuration files
// are written from it.
type layout struct {
	Dir         string
	TrustDomain string
	ASN         uint32
	Prefix4     string
	Prefix6     string
	Capacity    int
	Target      float64
	Timers      Timers
	UserApp     bool
	Geos        []geoLayout
	Routers     []routerLayout
}

type geoLayout struct {
	Name, City, Node string
	Number           int
	Lat, Lon         float64
	Addr             netip.Addr
	RouterID         netip.Addr
	NextHop4         netip.Addr
	NextHop6         netip.Addr
	Listen           netip.AddrPort // clients
	Fabric           netip.AddrPort
	DNS              netip.AddrPort // SERVICE.internal
	Private          netip.AddrPort // requests of its apps
	Public           netip.AddrPort // of its fabric, where the links take it
	Socket           string
	Config           string
	Log              string
	Backends         []backendLayout
}

type backendLayout struct{ Name, URL string }

type routerLayout struct {
	Name string
	ASN  uint32
	Addr netip.AddrPort
}

// newLayout chooses addresses and free ports. What the parent itself binds
// (links, backends) is filled in by it.
func newLayout(dir string, userApp bool) (*layout, error) {
	l := &layout{
		Dir: dir, TrustDomain: trustDomain, ASN: fleetASN, Prefix4: prefix4, Prefix6: prefix6,
		Capacity: Capacity, Target: Target, Timers: demoTimers(), UserApp: userApp,
	}
	for _, g := range geoPlans() {
		n := g.number
		addr := loopback(geoNet, n)
		ports, err := freePorts(addr, 4)
		if err != nil {
			return nil, err
		}
		l.Geos = append(l.Geos, geoLayout{
			Name: g.name, City: g.city, Node: nodeName(g.name), Number: n, Lat: g.lat, Lon: g.lon, Addr: addr,
			RouterID: netip.AddrFrom4([4]byte{198, 51, 100, byte(n)}),
			NextHop4: netip.AddrFrom4([4]byte{203, 0, 113, byte(n)}),
			NextHop6: netip.MustParseAddr(fmt.Sprintf("2001:db8:f::%d", n)),
			Listen:   netip.AddrPortFrom(addr, ports[0]),
			Fabric:   netip.AddrPortFrom(addr, ports[1]),
			DNS:      netip.AddrPortFrom(addr, ports[2]),
			Private:  netip.AddrPortFrom(addr, ports[3]),
			Socket:   filepath.Join(dir, g.name, "edged.sock"),
			Config:   filepath.Join(dir, g.name, "edged.yaml"),
			Log:      filepath.Join(dir, g.name, "edged.log"),
		})
	}
	for i, r := range regionPlans() {
		addr := loopback(routerNet, i+1)
		ports, err := freePorts(addr, 1)
		if err != nil {
			return nil, err
		}
		l.Routers = append(l.Routers, routerLayout{Name: r.name, ASN: r.asn, Addr: netip.AddrPortFrom(addr, ports[0])})
	}
	return l, nil
}

// geo returns the geo of that name, nil when there is none.
func (l *layout) geo(name string) *geoLayout {
	for i := range l.Geos {
		if l.Geos[i].Name == name {
			return &l.Geos[i]
		}
	}
	return nil
}

// file describes the geo in demo.json.
func (g *geoLayout) file(pid int) FileGeo {
	return FileGeo{Name: g.Name, PID: pid, Socket: g.Socket, Config: g.Config, DNS: g.DNS.String(), Private: g.Private.String()}
}

// render returns the configuration file of one geo.
func (l *layout) render(geo *geoLayout) ([]byte, error) {
	t, err := template.New("geo").Parse(geoTemplate)
	if err != nil {
		return nil, err
	}
	data := struct {
		*layout
		Geo    *geoLayout
		Others []geoLayout
	}{layout: l, Geo: geo}
	for _, g := range l.Geos {
		if g.Name != geo.Name {
			data.Others = append(data.Others, g)
		}
	}
	var out bytes.Buffer
	if err := t.Execute(&out, data); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// write puts every geo's configuration file where its process reads it.
func (l *layout) write() error {
	for i := range l.Geos {
		g := &l.Geos[i]
		text, err := l.render(g)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(g.Config), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(g.Config, text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// freePorts returns n ports of addr that are free for TCP and UDP.
func freePorts(addr netip.Addr, n int) ([]uint16, error) {
	var ports []uint16
	var held []interface{ Close() error }
	defer func() {
		for _, c := range held {
			_ = c.Close()
		}
	}()
	for range n {
		t, u, err := listenBoth(netip.AddrPortFrom(addr, 0))
		if err != nil {
			return nil, fmt.Errorf("no free port at %s: %w", addr, err)
		}
		held = append(held, t, u)
		ports = append(ports, t.Addr().(*net.TCPAddr).AddrPort().Port())
	}
	return ports, nil
}

// listenBoth binds addr for TCP and UDP; port 0 is one that is free for both.
func listenBoth(addr netip.AddrPort) (*net.TCPListener, *net.UDPConn, error) {
	const tries = 100
	for i := 1; ; i++ {
		tcp, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(addr))
		if err != nil {
			return nil, nil, err
		}
		udp, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(tcp.Addr().(*net.TCPAddr).AddrPort()))
		if err == nil {
			return tcp, udp, nil
		}
		_ = tcp.Close()
		if addr.Port() != 0 || i == tries {
			return nil, nil, err
		}
	}
}

// checkSockets reports a run directory whose name is too long for the sockets
// in it: the kernel takes 107 bytes.
func (l *layout) checkSockets() error {
	for _, g := range l.Geos {
		if len(g.Socket) > 107 {
			return fmt.Errorf("the path of %s is too long for a unix socket (%d bytes, at most 107): choose a shorter --dir", g.Socket, len(g.Socket))
		}
		if strings.ContainsAny(g.Socket, "\"\\\n") {
			return fmt.Errorf("%q cannot stand in a configuration file: choose another --dir", l.Dir)
		}
	}
	return nil
}
