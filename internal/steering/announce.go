package steering

import (
	"math"
	"net/netip"
)

// gracefulShutdown is GRACEFUL_SHUTDOWN (RFC 8326 section 2).
const gracefulShutdown = "65535:0"

// An Announcement is one prefix as neighbors should hear it. How it is said to
// each neighbor (next hop, AS) is the speaker's business.
type Announcement struct {
	VIP              string
	Prefix           netip.Prefix
	Communities      []string // ASN:VALUE (RFC 1997)
	LargeCommunities []string // ASN:A:B (RFC 8092)
	MED              *uint32  // nil: none
	Prepend          int      // how often the own AS is repeated
}

// Announcements returns what the plan puts on the wire, in the order of vips.
// A VIP that is idle or withdrawn, and one in shadow mode, has nothing there.
//
// A draining VIP carries GRACEFUL_SHUTDOWN (unless drain.gshut is false) and
// drain.prepend more of the own AS. Its MED becomes the largest one only when
// the VIP has a MED: a neighbor that compares MEDs reads none as 0, so a VIP
// that leaves them out everywhere would gain nothing that the longer path did
// not decide before. While the other geos are told (VIPPlan.Telling), all is as
// it was.
func Announcements(vips []VIPConfig, p *Plan) []Announcement {
	var out []Announcement
	for i := range vips {
		c := &vips[i]
		vip := p.VIP(c.Name)
		if vip == nil || c.Shadow() || vip.State != Announced && vip.State != Draining {
			continue
		}
		a := Announcement{
			VIP:              c.Name,
			Communities:      append([]string(nil), c.Announce.Communities...),
			LargeCommunities: append([]string(nil), c.Announce.LargeCommunities...),
			MED:              c.Announce.MED,
			Prepend:          c.Announce.Prepend,
		}
		if vip.State == Draining && !vip.Telling {
			a.disfavour(c.rules())
		}
		for _, x := range c.Prefixes {
			a.Prefix = x
			out = append(out, a)
		}
	}
	return out
}

// disfavour makes every other way better.
func (a *Announcement) disfavour(r rules) {
	if r.gshut {
		a.Communities = append(a.Communities, gracefulShutdown)
	}
	a.Prepend += r.prepend
	if a.MED != nil {
		worst := uint32(math.MaxUint32)
		a.MED = &worst
	}
}

// VIPStates returns what a node's record says of its VIPs: the state of each,
// and "shadow" for one that never reaches the wire, so that no other geo counts
// on it.
func VIPStates(vips []VIPConfig, p *Plan) map[string]string {
	out := make(map[string]string, len(vips))
	for i := range vips {
		switch vip := p.VIP(vips[i].Name); {
		case vip == nil:
		case vips[i].Shadow():
			out[vip.Name] = "shadow"
		default:
			out[vip.Name] = string(vip.State)
		}
	}
	return out
}
