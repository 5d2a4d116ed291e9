package fabric

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"

	"anyedge/internal/world"
)

// knockEvery is how often a sibling's port is knocked at.
const knockEvery = 50 * time.Millisecond

// knock tries the ports of this geo's other nodes until ctx ends. A machine
// whose process is gone refuses the datagram (ICMP port unreachable, RFC 1122
// section 4.1.3.1) long before a missing answer says anything. A refusal alone
// decides nothing, because anybody could have sent it: it makes the prober ask
// at once and be less patient. One that comes while the node answers is no sign of
// death, and neither are those of the next seconds.
//
// What is knocked with is one byte that is no QUIC packet; an endpoint drops it.
func (f *Fabric) knock(ctx context.Context) {
	tick := time.NewTicker(knockEvery)
	defer tick.Stop()
	doors := doors{}
	defer doors.closeBut(nil)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		wanted := map[netip.AddrPort]bool{}
		for _, r := range f.roster.all() {
			r.mu.Lock()
			addr, sibling := r.addr, r.geo == f.setup.Geo && r.status == world.Joined && r.pulse.alive
			r.mu.Unlock()
			if !sibling || !addr.IsValid() {
				continue
			}
			wanted[addr] = true
			if doors.refused(ctx, addr) {
				r.refuse(time.Now())
			}
		}
		doors.closeBut(wanted)
	}
}

// doors are the sockets that are knocked with: connected ones, which alone hear
// of a refusal.
type doors map[netip.AddrPort]net.Conn

// refused knocks at addr, and reports whether an earlier knock was refused.
func (d doors) refused(ctx context.Context, addr netip.AddrPort) bool {
	if d[addr] == nil {
		var dialer net.Dialer
		c, err := dialer.DialContext(ctx, "udp", addr.String())
		if err != nil {
			return false
		}
		d[addr] = c
	}
	_, err := d[addr].Write([]byte{0})
	return errors.Is(err, syscall.ECONNREFUSED)
}

// closeBut closes those that are not wanted any more.
func (d doors) closeBut(wanted map[netip.AddrPort]bool) {
	for addr, c := range d {
		if !wanted[addr] {
			_ = c.Close()
			delete(d, addr)
		}
	}
}

// refuse takes note that the node's machine says that nobody is there.
func (r *remote) refuse(now time.Time) {
	r.mu.Lock()
	ask := r.pulse.refuse(now)
	r.mu.Unlock()
	if ask {
		signal(r.f.probes)
	}
}
