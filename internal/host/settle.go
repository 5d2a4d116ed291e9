package host

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// settle looks at every address and adds those that are missing.
func (a *Addresses) settle(ctx context.Context) {
	list, err := assigned()
	if err != nil {
		a.log.Error("addresses of this machine not read", "err", err)
		return
	}
	lo := 0
	if link, err := netlink.LinkByName(Loopback); err == nil {
		lo = link.Attrs().Index
	}
	next := make([]AddressStatus, len(a.setup.Want))
	var gone []netip.Addr
	for i, x := range a.setup.Want {
		next[i] = AddressStatus{Address: x, State: There}
		switch local, err := IsLocal(x); {
		case err != nil:
			next[i].State, next[i].Text = Missing, err.Error()
		case local && onLo(list, lo, x) && a.ledger.has(x):
			next[i].State = Added
		case !local && onLo(list, lo, x):
			next[i].State, next[i].Text = Missing, loDown
		case !local:
			gone = append(gone, x)
		}
	}
	if len(gone) > 0 {
		a.fill(ctx, list, next, gone)
	}
	if ctx.Err() == nil {
		a.tell(next)
	}
}

// fill adds the addresses in gone, and says in next what became of each.
func (a *Addresses) fill(ctx context.Context, list []netlink.Addr, next []AddressStatus, gone []netip.Addr) {
	put := func(s AddressStatus) {
		next[slices.IndexFunc(next, func(n AddressStatus) bool { return n.Address == s.Address })] = s
	}
	may, err := Here().Holds(NetAdmin)
	gone = slices.DeleteFunc(gone, func(x netip.Addr) bool {
		h := a.holds(x)
		if err == nil && !may {
			h = &AddressStatus{x, Missing, notAllowed(x)}
		}
		if h != nil {
			put(*h)
		}
		return h != nil
	})
	for i, found := range findOwners(ctx, list, gone) {
		x := gone[i]
		if ctx.Err() != nil {
			return
		}
		if found.err != nil {
			a.log.Warn("not known whether another host has the address; it is added", "address", x, "err", found.err)
		}
		if o := found.owner; o != nil {
			put(a.hold(againIn, AddressStatus{x, Foreign, fmt.Sprintf("%s answers for it: %s", o, o.Advice())}))
			continue
		}
		put(a.add(ctx, x))
	}
}

// hold keeps an address for d as s says.
func (a *Addresses) hold(d time.Duration, s AddressStatus) AddressStatus {
	a.held[s.Address] = hold{time.Now().Add(d), s}
	return s
}

// holds returns how an address is kept; nil: it may be added.
func (a *Addresses) holds(x netip.Addr) *AddressStatus {
	now := time.Now()
	if h, ok := a.held[x]; ok && now.Before(h.until) {
		return &h.status
	}
	delete(a.held, x)
	if now.Sub(a.added[x]) < fightFor {
		s := a.hold(lookEvery, AddressStatus{x, Missing, "somebody removes it again and again; find out who (ip monitor address)"})
		return &s
	}
	return nil
}

// add puts one address on lo, once the ledger has it.
func (a *Addresses) add(ctx context.Context, x netip.Addr) AddressStatus {
	if err := a.ledger.add(x); err != nil {
		return a.hold(againIn, AddressStatus{x, Missing, "not added, because it could not be written down first: " + err.Error()})
	}
	err := assign(x)
	if err == nil {
		a.restored(x)
		a.added[x] = time.Now()
		if !works(ctx, x) {
			return AddressStatus{x, Missing, loDown}
		}
		return AddressStatus{Address: x, State: Added}
	}
	if err := a.ledger.forget(x); err != nil {
		a.log.Error("ledger of addresses not written", "err", err)
	}
	if errors.Is(err, unix.EEXIST) { // somebody was faster
		return AddressStatus{Address: x, State: There}
	}
	return a.hold(againIn, AddressStatus{x, Missing, explainAdd(x, err)})
}

// works reports whether the kernel delivers to x, which was just added: for
// IPv6 it does not at once.
func works(ctx context.Context, x netip.Addr) bool {
	ctx, cancel := context.WithTimeout(ctx, addPatience)
	defer cancel()
	look := time.NewTicker(addLook)
	defer look.Stop()
	for {
		if local, err := IsLocal(x); err == nil && local {
			return true
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return false
		}
	}
}

// restored says so when x was here before.
func (a *Addresses) restored(x netip.Addr) {
	was := slices.ContainsFunc(a.Status(), func(s AddressStatus) bool { return s.Address == x && s.State.Here() })
	if was || !a.added[x].IsZero() {
		a.log.Warn("somebody removed a VIP address; it is back on lo", "address", x)
		a.event(x, "removed by somebody; added to lo again")
	}
}

// loDown is why an address does not work that is on lo.
const loDown = "it is on lo, but the kernel delivers nothing to it: ip link set dev lo up"

// notAllowed says what helps against a missing privilege.
func notAllowed(x netip.Addr) string {
	return "edged may not add it; as root: " + AddCommand(x) + ", or give edged " + NetAdmin.String()
}

// explainAdd says why an address was not added, with what to do.
func explainAdd(x netip.Addr, err error) string {
	switch {
	case errors.Is(err, unix.EPERM):
		return notAllowed(x)
	case errors.Is(err, unix.EACCES) && x.Is6():
		return "IPv6 is off on lo: sysctl -w net.ipv6.conf.lo.disable_ipv6=0"
	case errors.Is(err, unix.EOPNOTSUPP) && x.Is6(), errors.Is(err, unix.EAFNOSUPPORT):
		return "this kernel has no IPv6"
	}
	return "not added to lo: " + err.Error()
}
