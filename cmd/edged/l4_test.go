package main

import (
	"net/netip"
	"strings"
	"testing"
)

// TestStrayAddress: others send packets where they are known to arrive, or where
// nothing speaks against it.
func TestStrayAddress(t *testing.T) {
	for _, tt := range []struct{ path, fabric, want string }{
		{"198.51.100.2", "198.51.100.2", ""},
		{"10.0.0.2", "10.0.0.2", ""}, // a backbone of one's own
		{"10.0.0.2", "198.51.100.2", "give node.fabric an address"},
		{"198.51.100.2", "2001:db8::2", ""},
		{"10.0.0.2", "2001:db8::2", "a public IPv4 address"},
	} {
		got := strayAddress(netip.MustParseAddr(tt.path), netip.MustParseAddr(tt.fabric))
		if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
			t.Errorf("path %s, fabric %s: %q", tt.path, tt.fabric, got)
		}
	}
}
