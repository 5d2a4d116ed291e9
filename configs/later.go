package configs

import (
	"slices"
	"strings"
)

// later lists the fields of the configuration language that this version does
// not have. They are refused, so that nobody believes they work.
var later = []string{
	"node.capacity.cpu",
	"node.bgp.neighbors[].bfd",
	"fabric.expired_grace",
	"fabric.transport",
	"fabric.bulk_threshold",
	"fabric.connections",
	"bgp.graceful_restart",
	"bgp.aggregates",
	"bgp.preflight",
	"bgp.bmp",
	"vips[].announce.per_neighbor",
	"vips[].drain.max",
	"vips[].stability.flaps_per_hour",
	"l4.defense",
	"certificates[].acme",
	"services[].discover.consul",
	"services[].replay.max_spool",
	"services[].replay.client_hint",
	"services[].replay.compat",
	"services[].replay.cache",
	"services[].replay.policies",
	"admin.dashboard",
	"trace",
}

// laterValues lists values of the language that this version does not have.
var laterValues = map[string][]string{
	"bgp.mode":           {"child"},
	"l4.forward":         {"gue"},
	"overload.signals[]": {"cpu", "backends", "queue", "psi", "latency"},
}

// isLater reports whether the field at path (with indexes) is of a later
// version.
func isLater(path string) bool {
	return slices.ContainsFunc(later, func(l string) bool { return samePath(l, path) })
}

// isLaterValue reports whether word may stand at path in a later version.
func isLaterValue(path, word string) bool {
	for l, words := range laterValues {
		if samePath(l, path) {
			return slices.Contains(words, word)
		}
	}
	return false
}

// samePath reports whether path, with indexes and map keys, is of the form
// pattern: a[].b or a.*.
func samePath(pattern, path string) bool {
	want, got := strings.Split(pattern, "."), strings.Split(path, ".")
	if len(want) != len(got) {
		return false
	}
	for i, w := range want {
		name, index, isList := strings.Cut(got[i], "[")
		wantName, wantList := strings.CutSuffix(w, "[]")
		if isList != wantList || isList && strings.Contains(index, "[") {
			return false
		}
		if wantName != "*" && wantName != name {
			return false
		}
	}
	return true
}
