package steering

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"anyedge/internal/world"
)

// recordFresh is how old a node's record may be to count as announcing.
const recordFresh = 15 * time.Second

// announcing returns the names of the other geos that are known to announce
// vip now.
func announcing(v *View, vip string) []string {
	var names []string
	for _, g := range v.others() {
		if Announces(g, vip, v.Now) {
			names = append(names, g.Name)
		}
	}
	return names
}

// Announces reports whether g is known to announce vip: some node of it says so
// and is believed.
func Announces(g *world.Geo, vip string, now time.Time) bool {
	return slices.ContainsFunc(g.Nodes, func(n world.Node) bool { return n.Announcing(vip) && Believed(g, &n, now) })
}

// Believed reports whether the record of n, a node of g, counts for the guard.
// It does not when g is unreachable, or n is no member any more, or its word is
// old.
func Believed(g *world.Geo, n *world.Node, now time.Time) bool {
	return g.Alive && n.Status == world.Joined && n.Record != nil && now.Sub(n.Seen) < recordFresh
}

// guardText says who else announces.
func guardText(names []string, minOthers int) string {
	if len(names) == 0 {
		return fmt.Sprintf("no other geo is known to announce it, guard.min_others %d", minOthers)
	}
	return fmt.Sprintf("only %s announces it too, guard.min_others %d", strings.Join(names, ", "), minOthers)
}
