// Package arch holds the house rules that a compiler does not check; they are
// its tests. The import table below is the one of docs/architecture.md: a
// change of the design edits both in the same commit.
package arch

import "strings"

// Module is the path of this module.
const Module = "anyedge"

// everything stands for "may import every package of ours".
const everything = "*"

// Table says which of our packages each package may import. A name ending in
// "/..." covers a package and all below it. A package without a row imports
// nothing of ours.
var Table = map[string][]string{
	"cmd/edged":      {everything},
	"internal/bench": {everything},
	"cmd/edgectl":    {"configs", "fabric/identity", "internal/api", "internal/admin/client", "internal/lab", "internal/lab/metal", "internal/steering", "internal/world"},

	"internal/lab":       {"configs", "fabric/identity", "internal/api", "internal/admin/client"},
	"internal/lab/metal": {"bpf/pass", "fabric/identity", "internal/api", "internal/admin/client", "internal/lab", "internal/lab/netns"},
	"internal/testpeer":  {"internal/lab"},
	"internal/interop":   {"internal/lab"},
	"internal/soak":      {"internal/interop"},

	// configs takes their Config types only.
	"configs": {
		"proxy/...", "bgp", "bpf", "fabric", "replay", "internal/world", "internal/steering",
		"internal/admin", "internal/dnsserver", "internal/metrics", "internal/secret", "internal/message",
	},
	"configs/gen": {"configs", "internal/message"},

	"proxy":           {"proxy/...", "replay", "internal/message", "internal/world"},
	"proxy/discover":  {"proxy/upstream"},
	"proxy/upstream":  {"proxy/h1", "proxy/h2", "proxy/proxyproto", "internal/message"},
	"proxy/compress":  {"internal/message"},
	"proxy/admission": {"internal/steering", "internal/message", "internal/world"},
	"proxy/h1":        {"internal/message/...", "proxy/wire"},
	"proxy/h2":        {"internal/crew", "internal/hpack", "internal/message/...", "proxy/wire"},
	"proxy/h3":        {"internal/crew", "internal/message/...", "internal/quicid", "proxy/h3/qpack"},
	"proxy/h3/qpack":  {"internal/huffman"},
	"replay":          {"internal/message", "internal/world"},

	"fabric": {
		"fabric/identity", "proxy/h1", "proxy/h2", "proxy/h3",
		"internal/crew", "internal/message/...", "internal/world", "internal/quicid", "internal/secret",
	},
	"fabric/identity": {"internal/secret"},
	"bgp":             {"bgp/bfd", "internal/secret"},
	"bpf":             {"bpf/lb"},

	"internal/hpack":              {"internal/huffman", "internal/message"},
	"internal/message/enginetest": {"internal/message"}, // one suite for every engine's tests
	"internal/steering":           {"internal/world"},
	"internal/dnsserver":          {"internal/world"},
	"internal/admin":              {"internal/api", "internal/world"},
	"internal/admin/client":       {"internal/api", "internal/world"},
}

// TestOnly are packages that any package's tests may import as well.
var TestOnly = []string{"internal/testpeer", "internal/lab", "internal/lab/netns", "internal/lab/metal"}

// TestMore says what else the tests of a package import: the plans that a
// proxy's door is given, what virtual cables need.
var TestMore = map[string][]string{"bpf": {"bpf/pass"}, "proxy": {"internal/steering"}}

// StdlibOnly are packages that import nothing outside the standard library
// and ours.
var StdlibOnly = []string{"internal/world", "internal/message", "internal/api", "internal/steering", "internal/lifecycle", "internal/recorder", "internal/huffman", "internal/crew"}

// Allowed reports whether package from may import package to, both relative to
// the module.
func Allowed(from, to string) bool {
	for _, rule := range Table[from] {
		base, tree := strings.CutSuffix(rule, "/...")
		if rule == everything || to == base || tree && strings.HasPrefix(to, base+"/") {
			return true
		}
	}
	return false
}
