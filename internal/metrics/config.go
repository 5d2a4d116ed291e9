package metrics

import (
	"fmt"
	"net/netip"
)

// Config says where Prometheus reaches this node.
type Config struct {
	Listen string `json:"listen" yaml:"listen"` // ADDRESS:PORT; whoever connects may read, so no VIP, and behind a firewall
}

// Validate reports every problem in c.
func (c Config) Validate() error {
	if a, err := netip.ParseAddrPort(c.Listen); err != nil || a.Port() == 0 {
		return fmt.Errorf("listen: %q is not ADDRESS:PORT", c.Listen)
	}
	return nil
}
