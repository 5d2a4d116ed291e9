package bpf

import (
	"os"
	"strconv"
	"strings"
	"time"
)

// netstat is where the kernel counts, for the network namespace of the thread
// that reads it.
const netstat = "/proc/thread-self/net/netstat"

// Cookies tell when the kernel answers SYNs with cookies: then it keeps no trace of
// a connection that opens, and the last packet of a handshake looks like one of
// a connection elsewhere.
type cookies struct {
	sent uint64
	seen time.Time // when it was read last
	grew bool      // since the reading before
}

// see reports whether cookies were sent lately. It reads at most once for all
// interfaces of a look.
func (c *cookies) see(now time.Time) bool {
	if now.Equal(c.seen) {
		return c.grew
	}
	text, err := os.ReadFile(netstat)
	if err != nil {
		return false
	}
	sent := netstatValue(string(text), "TcpExt:", "SyncookiesSent")
	c.grew = !c.seen.IsZero() && sent > c.sent
	c.sent, c.seen = sent, now
	return c.grew
}

// netstatValue reads one counter: each group has a line of names and one of
// values. 0 when it is not there.
func netstatValue(text, group, name string) uint64 {
	var names []string
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != group {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		for i, n := range names {
			if n == name && i < len(fields) {
				v, _ := strconv.ParseUint(fields[i], 10, 64) // 0 for what is no number
				return v
			}
		}
	}
	return 0
}
