package configs

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"anyedge/bgp"
)

// ruleVIPAddresses: what listeners bind is announced.
func ruleVIPAddresses(c *check) {
	for i, v := range c.cfg.VIPs {
		if !c.whole(fmt.Sprintf("vips[%d].prefixes", i)) {
			continue
		}
		for j, a := range v.Addresses {
			inside := slices.ContainsFunc(v.Prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
			if a.IsValid() && !inside {
				c.errorf(fmt.Sprintf("vips[%d].addresses[%d]", i, j), "vip-address-outside", "%s is in none of the prefixes of VIP %s", a, v.Name)
			}
		}
		if len(v.Prefixes) == 0 {
			c.errorf(fmt.Sprintf("vips[%d].prefixes", i), "required", "VIP %s has no prefix to announce", v.Name)
		}
	}
}

// ruleVIPOverlap: a prefix belongs to one VIP, so that one state decides.
func ruleVIPOverlap(c *check) {
	type owned struct {
		prefix netip.Prefix
		vip    string
	}
	var seen []owned
	for i, v := range c.cfg.VIPs {
		for j, p := range v.Prefixes {
			if !p.IsValid() {
				continue
			}
			for _, s := range seen {
				if s.prefix.Overlaps(p) {
					c.errorf(fmt.Sprintf("vips[%d].prefixes[%d]", i, j), "vip-overlap", "%s overlaps %s of VIP %s", p, s.prefix, s.vip)
					break
				}
			}
			seen = append(seen, owned{p, v.Name})
		}
	}
}

// ruleVIPLength: the Internet drops what is longer than /24 and /48.
func ruleVIPLength(c *check) {
	var strict string
	for _, n := range c.neighbors() {
		if k := class(n); k == "transit" || k == "ix" {
			strict = fmt.Sprintf("neighbor %s, of class %s, and those behind it", n.Name, k)
			break
		}
	}
	if strict == "" {
		return
	}
	for i, v := range c.cfg.VIPs {
		for j, p := range v.Prefixes {
			limit := 48
			if p.Addr().Is4() {
				limit = 24
			}
			if p.Bits() > limit {
				c.errorf(fmt.Sprintf("vips[%d].prefixes[%d]", i, j), "prefix-too-long", "%s is longer than /%d: %s drop it", p, limit, strict)
			}
		}
	}
}

// ruleVIPGeos: geos that exist announce a VIP.
func ruleVIPGeos(c *check) {
	for i, v := range c.cfg.VIPs {
		for j, g := range v.Geos {
			c.geoRef(fmt.Sprintf("vips[%d].geos[%d]", i, j), g, "all")
		}
	}
}

// geoRef reports a name that is neither a geo nor a group nor one of words.
func (c *check) geoRef(path, name string, words ...string) {
	if !c.named("groups") {
		return
	}
	known := slices.Concat(words, c.cfg.geoNames(), c.cfg.groupNames())
	if len(c.cfg.Geos) == 0 && !slices.Contains(words, name) {
		c.ref(path, "geo", name, nil, "geos")
		return
	}
	c.ref(path, "geo", name, known, "geos")
}

// ruleVIPGuard: the guard of a VIP can be satisfied.
func ruleVIPGuard(c *check) {
	for i, v := range c.cfg.VIPs {
		geos := v.Geos
		if geos == nil {
			geos = []string{"all"}
		}
		others := max(len(c.cfg.ExpandGeos(geos))-1, 0)
		if least := v.Guard.MinOthers; least != nil && *least > others && v.Guard.LastGeo != "withdraw" {
			c.warnf(fmt.Sprintf("vips[%d].guard.min_others", i), "guard-unreachable",
				"VIP %s is announced by %s; with min_others %d it stays draining when it should leave", v.Name, plural(others, "other geo"), *least)
		}
	}
}

// ruleVIPTwin: clients have both families, so VIPs should.
func ruleVIPTwin(c *check) {
	if c.cfg.BGP == nil {
		return
	}
	for i, v := range c.cfg.VIPs {
		have := map[string]bool{}
		for _, p := range v.Prefixes {
			if p.IsValid() {
				have[family(p.Addr())] = true
			}
		}
		if len(have) == 1 {
			missing := "IPv6"
			if have["ipv6"] {
				missing = "IPv4"
			}
			c.warnf(fmt.Sprintf("vips[%d].prefixes", i), "vip-one-family", "VIP %s has no %s prefix: clients that have only %s cannot reach it", v.Name, missing, missing)
		}
	}
}

// ruleVIPUnheard: somebody hears each prefix.
func ruleVIPUnheard(c *check) {
	if len(c.cfg.VIPs) > 0 && c.cfg.BGP == nil && !c.given("bgp") {
		c.warnf("vips", "vips-not-announced", "there is no section bgp: nothing announces these VIPs")
		return
	}
	if len(c.neighbors()) == 0 {
		return
	}
	for _, fam := range []string{"ipv4", "ipv6"} {
		heard := false
		for _, n := range c.neighbors() {
			heard = heard || slices.Contains(families(n), fam)
		}
		if vip := c.firstPrefix(fam); vip != "" && !heard {
			c.warnf("node.bgp.neighbors", "family-missing", "no neighbor has the family %s: those prefixes of VIP %s are announced to nobody", fam, vip)
		}
	}
}

// ruleAnnounceWhen: announce.when has one of its forms.
func ruleAnnounceWhen(c *check) {
	for i, v := range c.cfg.VIPs {
		if err := checkWhen(v.Announce.When); err != nil {
			c.error(fmt.Sprintf("vips[%d].announce.when", i), "bad-when", err.Error())
		}
	}
}

func checkWhen(s string) error {
	words := []string{"any_backend", "always", "never"}
	if s == "" || slices.Contains(words, s) {
		return nil
	}
	if inner, ok := strings.CutPrefix(s, "fraction("); ok {
		inner, closed := strings.CutSuffix(inner, ")")
		f, err := strconv.ParseFloat(inner, 64)
		if !closed || err != nil || !(f > 0 && f <= 1) {
			return fmt.Errorf("%q: want fraction(X) with X above 0 and at most 1, like fraction(0.5)", s)
		}
		return nil
	}
	return fmt.Errorf("got %q, want any_backend, fraction(0.5), always or never%s", s, suggestion(s, words))
}

// ruleCommunities: communities have their form, and mean what is wanted.
func ruleCommunities(c *check) {
	transit := slices.ContainsFunc(c.neighbors(), func(n bgp.NeighborConfig) bool { return class(n) == "transit" })
	for i, v := range c.cfg.VIPs {
		for j, s := range v.Announce.Communities {
			path := fmt.Sprintf("vips[%d].announce.communities[%d]", i, j)
			if !numbers(s, 2, 16) {
				c.errorf(path, "bad-community", "%q is not a community: want ASN:VALUE, both 0-65535 (RFC 1997)", s)
			}
			if s == "65535:65281" && transit {
				c.warnf(path, "no-export", "NO_EXPORT keeps transit from passing the prefix on: the Internet does not hear it")
			}
		}
		for j, s := range v.Announce.LargeCommunities {
			if !numbers(s, 3, 32) {
				c.errorf(fmt.Sprintf("vips[%d].announce.large_communities[%d]", i, j), "bad-community",
					"%q is not a large community: want ASN:A:B, each 0-4294967295 (RFC 8092)", s)
			}
		}
		if v.Announce.Prepend > 5 {
			c.warnf(fmt.Sprintf("vips[%d].announce.prepend", i), "long-prepend", "prepending %d times rarely does more than 3 times, and some networks drop long paths", v.Announce.Prepend)
		}
	}
}

// numbers reports whether s is n numbers of that many bits, joined by colons.
func numbers(s string, n, bits int) bool {
	parts := strings.Split(s, ":")
	if len(parts) != n {
		return false
	}
	for _, p := range parts {
		if _, err := strconv.ParseUint(p, 10, bits); err != nil || p != "0" && p[0] == '0' {
			return false
		}
	}
	return true
}

// ruleDrain: behind transit, routers need longer than the default to move.
func ruleDrain(c *check) {
	transit := slices.ContainsFunc(c.neighbors(), func(n bgp.NeighborConfig) bool { return class(n) == "transit" })
	for i, v := range c.cfg.VIPs {
		path := fmt.Sprintf("vips[%d].drain", i)
		if transit && !c.given(path) {
			c.warnf(fmt.Sprintf("vips[%d]", i), "drain-missing", "VIP %s is announced to transit and has no drain: other networks may need longer than the default wait of 20s", v.Name)
		}
	}
}
