package configs

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"anyedge/internal/steering"
	"anyedge/internal/world"
	"anyedge/proxy"
)

// ListenerAddresses returns the addresses that l binds: those of bind, else
// its VIPs' with its port.
func (c *Config) ListenerAddresses(l proxy.ListenerConfig) []netip.AddrPort {
	var out []netip.AddrPort
	for _, text := range l.Bind {
		if a, err := netip.ParseAddrPort(text); err == nil {
			out = append(out, a)
		}
	}
	if len(l.Bind) > 0 {
		return out
	}
	for _, v := range c.VIPs {
		if !slices.Contains(l.VIPs, v.Name) {
			continue
		}
		for _, a := range v.Addresses {
			out = append(out, netip.AddrPortFrom(a, l.Port))
		}
	}
	return out
}

// ServicesHere returns the services with this node's backends added.
func (c *Config) ServicesHere() []proxy.ServiceConfig {
	out := slices.Clone(c.Services)
	if c.Node == nil {
		return out
	}
	for i := range out {
		out[i].Backends = slices.Concat(out[i].Backends, c.Node.Backends[out[i].Name])
	}
	return out
}

// VIPsHere returns the VIPs that this node's geo announces.
func (c *Config) VIPsHere() []steering.VIPConfig {
	var out []steering.VIPConfig
	for _, v := range c.VIPs {
		if c.announcesHere(v) {
			out = append(out, v)
		}
	}
	return out
}

// announcesHere reports whether this node's geo is among those that announce v.
func (c *Config) announcesHere(v steering.VIPConfig) bool {
	if v.Geos == nil || slices.Contains(v.Geos, "all") {
		return true
	}
	return c.Node != nil && slices.Contains(c.ExpandGeos(v.Geos), c.Node.Geo)
}

// ExpandGeos returns the geos that names of geos and groups stand for, in the
// order of the configuration; "all" is every geo.
func (c *Config) ExpandGeos(names []string) []string {
	var wanted []string
	for _, n := range names {
		if n == "all" {
			return c.geoNames()
		}
		wanted = append(wanted, n)
		for _, g := range c.Groups {
			if g.Name == n {
				wanted = append(wanted, g.Geos...)
			}
		}
	}
	return slices.DeleteFunc(c.geoNames(), func(g string) bool { return !slices.Contains(wanted, g) })
}

// ServicesOn returns the names of the services on the listeners of a VIP.
func (c *Config) ServicesOn(vip string) []string {
	var out []string
	for _, s := range c.Services {
		on := slices.ContainsFunc(c.Listeners, func(l proxy.ListenerConfig) bool {
			return slices.Contains(l.VIPs, vip) && !l.RedirectHTTPS && serves(s, l.Name)
		})
		if on {
			out = append(out, s.Name)
		}
	}
	return out
}

// Geo returns the name of this node's geo, "" when it has none.
func (c *Config) Geo() string {
	if c.Node == nil {
		return ""
	}
	return c.Node.Geo
}

// NodeName returns node.name, or the short host name.
func (c *Config) NodeName() (string, error) {
	if c.Node != nil && c.Node.Name != "" {
		return c.Node.Name, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return "", err
	}
	host, _, _ = strings.Cut(strings.ToLower(host), ".")
	if err := world.CheckName(host); err != nil && c.Fabric != nil {
		return "", fmt.Errorf("the host name %q cannot be this node's name (%w): give node.name", host, err)
	}
	return host, nil
}

// Places of a packaged edged.
const (
	DefaultFile   = "/etc/edged/edged.yaml"
	defaultState  = "/var/lib/edged"
	defaultSocket = "/run/edged/edged.sock"
)

// StateDir returns state.dir or its default.
func (c *Config) StateDir() string {
	return cmp.Or(c.State.Dir, ownDir(defaultState, ""))
}

// Socket returns admin.socket or its default.
func (c *Config) Socket() string { return cmp.Or(c.Admin.Socket, DefaultSocket()) }

// DefaultSocket returns the admin socket of an edged whose file names none:
// /run/edged/edged.sock, or a file in the state directory of a user who runs
// it without an installation.
func DefaultSocket() string {
	return ownDir(filepath.Dir(defaultSocket), filepath.Base(defaultSocket))
}

// ownDir returns name in dir, or in the user's own state directory when dir is
// not there and the user could not make it.
func ownDir(dir, name string) string {
	_, err := os.Stat(dir)
	home, herr := os.UserHomeDir()
	if err == nil || os.Geteuid() == 0 || herr != nil {
		return filepath.Join(dir, name)
	}
	state := cmp.Or(os.Getenv("XDG_STATE_HOME"), filepath.Join(home, ".local", "state"))
	return filepath.Join(state, "edged", name)
}

// Digest returns a short fingerprint of all that the fleet shares: everything
// but node. Equal configurations have equal digests.
func (c *Config) Digest() string {
	fleet := *c
	fleet.Node = nil
	h := sha256.New()
	spell(h, reflect.ValueOf(fleet))
	return hex.EncodeToString(h.Sum(nil)[:6])
}

// spell writes v so that different values differ, absent and empty too.
func spell(w io.Writer, v reflect.Value) {
	if s, ok := reflect.TypeAssert[fmt.Stringer](v); ok && v.Kind() == reflect.Struct {
		_, _ = fmt.Fprintf(w, "%q", s.String()) // a hash takes everything
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			_, _ = io.WriteString(w, "~")
			return
		}
		spell(w, v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			_, _ = io.WriteString(w, v.Type().Field(i).Name+"=")
			spell(w, v.Field(i))
			_, _ = io.WriteString(w, ";")
		}
	case reflect.Slice:
		_, _ = fmt.Fprintf(w, "%t[%d:", v.IsNil(), v.Len())
		for i := range v.Len() {
			spell(w, v.Index(i))
			_, _ = io.WriteString(w, ",")
		}
	default:
		_, _ = fmt.Fprintf(w, "%#v", v.Interface())
	}
}

func (c *Config) service(name string) *proxy.ServiceConfig {
	for i := range c.Services {
		if c.Services[i].Name == name {
			return &c.Services[i]
		}
	}
	return nil
}

func (c *Config) geoNames() []string {
	return pick(c.Geos, func(g *world.GeoConfig) string { return g.Name })
}

func (c *Config) groupNames() []string {
	return pick(c.Groups, func(g *world.GroupConfig) string { return g.Name })
}

func (c *Config) vipNames() []string {
	return pick(c.VIPs, func(v *steering.VIPConfig) string { return v.Name })
}

func (c *Config) listenerNames() []string {
	return pick(c.Listeners, func(l *proxy.ListenerConfig) string { return l.Name })
}

func (c *Config) serviceNames() []string {
	return pick(c.Services, func(s *proxy.ServiceConfig) string { return s.Name })
}
