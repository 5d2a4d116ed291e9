package proxy

import (
	"errors"
	"fmt"
	"slices"
)

// takesProxy reports whether the trusted proxies send PROXY headers.
func (c ListenerConfig) takesProxy() bool {
	return c.ProxyProtocol == proxyAccept || c.ProxyProtocol == proxyRequire
}

// Validate reports every problem in c, but for those of its parts.
func (c ListenerConfig) Validate() error {
	switch {
	case c.TLS != nil && c.TLS.EarlyData && !slices.Contains(c.Protocols, protoH3):
		return errors.New("tls.early_data: only h3 takes requests before the handshake ends, and protocols has none")
	case c.ProxyProtocol == "" || c.ProxyProtocol == proxyOff:
		return nil
	case !c.takesProxy():
		return fmt.Errorf("proxy_protocol: %q is unknown: want off, accept or require", c.ProxyProtocol)
	case len(c.TrustedProxies) == 0:
		return errors.New("proxy_protocol: whoever may name the client stands in trusted_proxies, which is empty")
	case c.Private:
		return errors.New("proxy_protocol: a private listener knows its apps by their own addresses")
	case c.ProxyProtocol == proxyRequire && slices.Contains(c.Protocols, protoH3):
		return errors.New("proxy_protocol: require and h3 exclude each other: QUIC has no PROXY header")
	}
	return nil
}

// Validate reports every problem in l.
func (l ListenerLimits) Validate() error {
	var errs []error
	for _, one := range []struct {
		name  string
		value *int
		least int
	}{{"connections", l.Connections, 1}, {"conns_per_ip", l.ConnsPerIP, 0}, {"handshakes", l.Handshakes, 1}} {
		if one.value != nil && *one.value < one.least {
			errs = append(errs, fmt.Errorf("%s: %d is below %d", one.name, *one.value, one.least))
		}
	}
	if d := l.HandshakeTimeout; d != nil && *d <= 0 {
		errs = append(errs, errors.New("handshake_timeout: must be above 0"))
	}
	return errors.Join(errs...)
}
