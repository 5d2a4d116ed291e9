package bgp

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// MaxPrepend is how often a route can carry this AS in addition to the once
// that every external route does.
const MaxPrepend = 10

// A Route is a prefix to announce and what to say about it.
type Route struct {
	Prefix           netip.Prefix // masked: no host bits
	Communities      []Community
	LargeCommunities []LargeCommunity
	MED              *uint32 // nil: none is sent
	Prepend          int     // additional times this AS stands in the path: 0 to MaxPrepend
}

// equal reports whether a and b say the same; the order of communities means nothing.
func (r Route) equal(o Route) bool {
	return r.Prefix == o.Prefix && r.Prepend == o.Prepend && equalPtr(r.MED, o.MED) &&
		slices.Equal(r.Communities, o.Communities) && slices.Equal(r.LargeCommunities, o.LargeCommunities)
}

// normal returns r with everything in one spelling, so that equal routes
// compare equal.
func (r Route) normal() Route {
	r.Prefix = r.Prefix.Masked()
	r.Prepend = min(max(r.Prepend, 0), MaxPrepend)
	r.Communities = sorted(r.Communities, func(a, b Community) int { return compare(uint64(a), uint64(b)) })
	r.LargeCommunities = sorted(r.LargeCommunities, compareLarge)
	return r
}

// localPref is the LOCAL_PREF that goes with r on internal sessions. The more a
// route is prepended outside, the lower it is inside; GRACEFUL_SHUTDOWN makes
// it the last resort (RFC 8326 section 4.2).
func (r Route) localPref() uint32 {
	if slices.Contains(r.Communities, GracefulShutdown) {
		return uint32(r.Prepend)
	}
	return defaultLocalPref - uint32(r.Prepend)
}

// defaultLocalPref is what routers take for granted.
const defaultLocalPref = 100

// A SentRoute is a route as it was written to a neighbor's session.
type SentRoute struct {
	Prefix           netip.Prefix
	NextHop          netip.Addr
	ASPath           []uint32
	Communities      []Community
	LargeCommunities []LargeCommunity
	MED              *uint32
	LocalPref        *uint32 // internal sessions only
}

// String tells what a neighbor hears, in one line: the AS path and what is set.
func (r SentRoute) String() string {
	var parts []string
	if len(r.ASPath) > 0 {
		parts = append(parts, strings.Trim(fmt.Sprint(r.ASPath), "[]"))
	}
	parts = append(parts, "via "+r.NextHop.String())
	if len(r.Communities) > 0 {
		parts = append(parts, "c="+join(r.Communities))
	}
	if len(r.LargeCommunities) > 0 {
		parts = append(parts, "lc="+join(r.LargeCommunities))
	}
	if r.MED != nil {
		parts = append(parts, fmt.Sprintf("med=%d", *r.MED))
	}
	if r.LocalPref != nil {
		parts = append(parts, fmt.Sprintf("lp=%d", *r.LocalPref))
	}
	return strings.Join(parts, " ")
}

// differs says in words how s, sent by AS local, differs from r; "" when it does not.
func (r Route) differs(s SentRoute, local uint32, internal bool) string {
	var d []string
	if !slices.Equal(r.Communities, s.Communities) {
		d = append(d, fmt.Sprintf("communities %s, not %s", join(s.Communities), join(r.Communities)))
	}
	if !slices.Equal(r.LargeCommunities, s.LargeCommunities) {
		d = append(d, fmt.Sprintf("large communities %s, not %s", join(s.LargeCommunities), join(r.LargeCommunities)))
	}
	if !equalPtr(r.MED, s.MED) {
		d = append(d, "another MED")
	}
	path := slices.Repeat([]uint32{local}, r.Prepend+1)
	if internal {
		path = nil
	}
	if !slices.Equal(path, s.ASPath) {
		d = append(d, fmt.Sprintf("path %v, not %v", s.ASPath, path))
	}
	return strings.Join(d, "; ")
}

func join[T fmt.Stringer](list []T) string {
	if len(list) == 0 {
		return "none"
	}
	texts := make([]string, len(list))
	for i, v := range list {
		texts[i] = v.String()
	}
	return strings.Join(texts, ",")
}

func equalPtr(a, b *uint32) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// sorted returns list in order and without repetition; nil when it is empty.
func sorted[T comparable](list []T, cmp func(a, b T) int) []T {
	if len(list) == 0 {
		return nil
	}
	out := slices.Clone(list)
	slices.SortFunc(out, cmp)
	return slices.Compact(out)
}

func compare(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func compareLarge(a, b LargeCommunity) int {
	if c := compare(uint64(a.ASN), uint64(b.ASN)); c != 0 {
		return c
	}
	return compare(uint64(a.A)<<32|uint64(a.B), uint64(b.A)<<32|uint64(b.B))
}
