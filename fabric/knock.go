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
// at once and be less patient.
//
// What is knocked with is one byte that is no QUIC packet; an endpoint drops it.
func (f *Fabric) knock(ctx context.Context) {
	tick := time.NewTicker(knockEvery)
	defer tick.Stop()
	doors := map[netip.AddrPort]net.Conn{}
	defer func() {
		for _, c := range doors {
			_ = c.Close()
		}
	}()
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
			if doors[addr] == nil {
				var d net.Dialer
				c, err := d.DialContext(ctx, "udp", addr.String())
				if err != nil {
					continue
				}
				doors[addr] = c
			}
			if _, err := doors[addr].Write([]byte{0}); errors.Is(err, syscall.ECONNREFUSED) {
				r.refuse(time.Now())
			}
		}
		for addr, c := range doors {
			if !wanted[addr] {
				_ = c.Close()
				delete(doors, addr)
			}
		}
	}
}

// refuse takes note that the node's machine says that nobody is there.
func (r *remote) refuse(now time.Time) {
	r.mu.Lock()
	r.pulse.refused = now
	r.mu.Unlock()
	signal(r.f.probes)
}
