package main

import (
	"cmp"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"anyedge/configs"
	"anyedge/internal/host"
	"anyedge/internal/steering"
	"anyedge/proxy"
)

// A vipAddress is an address of a VIP that belongs on this machine.
type vipAddress struct {
	VIP     string
	Address netip.Addr
}

// vipAddresses returns the addresses that belong on lo: those of this geo's
// VIPs which a listener binds, or the packet path spreads. One of loopback is
// there without anybody's doing.
func vipAddresses(cfg *configs.Config) []vipAddress {
	var out []vipAddress
	for _, v := range cfg.VIPsHere() {
		for _, a := range v.Addresses {
			if !a.IsLoopback() && (cfg.L4.On() || listened(cfg, v.Name, a)) {
				out = append(out, vipAddress{v.Name, a})
			}
		}
	}
	return out
}

// listened reports whether a listener of the VIP takes connections to a.
func listened(cfg *configs.Config, vip string, a netip.Addr) bool {
	return slices.ContainsFunc(cfg.Listeners, func(l proxy.ListenerConfig) bool {
		return slices.Contains(l.VIPs, vip) && slices.ContainsFunc(cfg.ListenerAddresses(l), func(at netip.AddrPort) bool {
			return at.Addr() == a || at.Addr().IsUnspecified()
		})
	})
}

// wireAddresses keeps the VIPs' addresses on lo. There is nothing to do where no
// VIP has one and no process before this one left any.
func (n *node) wireAddresses() {
	all := vipAddresses(n.cfg)
	_, err := os.Lstat(filepath.Join(n.cfg.StateDir(), host.LedgerName))
	if len(all) == 0 && errors.Is(err, fs.ErrNotExist) {
		return
	}
	setup := host.AddressSetup{StateDir: n.cfg.StateDir(), OnEvent: func(e host.AddressEvent) {
		what := "address"
		for _, x := range all {
			if x.Address == e.Address {
				what = "vip/" + x.VIP
			}
		}
		n.events.Add(e.At, what, e.Address.String()+" "+e.Text)
	}}
	for _, x := range all {
		if !slices.Contains(setup.Want, x.Address) {
			setup.Want = append(setup.Want, x.Address)
		}
	}
	n.addresses = host.NewAddresses(setup, part(n.log, "addresses"))
}

// vipMissing says which addresses of a VIP are not on this machine, and why;
// "": all are, as far as anybody needs them.
func (n *node) vipMissing(v steering.VIPConfig) string {
	if n.addresses == nil {
		return ""
	}
	var out []string
	for _, s := range n.addresses.Status() {
		if !s.State.Here() && slices.Contains(v.Addresses, s.Address) {
			out = append(out, s.Address.String()+" is not on this machine: "+s.Text)
		}
	}
	return strings.Join(out, "; ")
}

// listenersUp reports whether every listener of the VIP accepts at the VIP's
// addresses, and if not, why; a VIP without any listener cannot serve.
func (n *node) listenersUp(all []proxy.ListenerStatus, v steering.VIPConfig) (up bool, why string) {
	missing := n.vipMissing(v)
	for _, l := range all {
		if !slices.Contains(l.VIPs, v.Name) {
			continue
		}
		i := slices.IndexFunc(l.Missing, func(a netip.AddrPort) bool { return slices.Contains(v.Addresses, a.Addr()) })
		if i >= 0 {
			return false, cmp.Or(missing, "listener "+l.Name+" waits for "+l.Missing[i].String())
		}
		if !l.Up {
			return false, cmp.Or(missing, "listener "+l.Name+" does not accept")
		}
		up = true
	}
	return up && missing == "", missing
}
