package steering

import (
	"fmt"
	"strings"
	"time"

	"anyedge/internal/world"
)

// recordFresh is how old a node's record may be to count as announcing.
const recordFresh = 15 * time.Second

// announcing returns the names of the other geos that are known to announce
// vip now. A geo that is unreachable, or whose word is old, is counted as not
// announcing.
func announcing(v *View, vip string) []string {
	var names []string
	for _, g := range v.others() {
		if g.Alive && announces(g, vip, v.Now) {
			names = append(names, g.Name)
		}
	}
	return names
}

// announces reports whether some joined node of g has a fresh record that says
// so.
func announces(g *world.Geo, vip string, now time.Time) bool {
	for i := range g.Nodes {
		n := &g.Nodes[i]
		if n.Status == world.Joined && n.Announcing(vip) && now.Sub(n.Seen) < recordFresh {
			return true
		}
	}
	return false
}

// guardText says who else announces.
func guardText(names []string, minOthers int) string {
	if len(names) == 0 {
		return fmt.Sprintf("no other geo is known to announce it, guard.min_others %d", minOthers)
	}
	return fmt.Sprintf("only %s announces it too, guard.min_others %d", strings.Join(names, ", "), minOthers)
}
