package proxy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"anyedge/internal/message"
)

// Protocols of a listener, as configured.
const (
	protoH1 = "h1"
	protoH2 = "h2"
	protoH3 = "h3"
)

// Defaults of a listener.
const (
	DefaultMaxBody   = 100 * message.MiB
	handshakeTimeout = 10 * time.Second
	acceptRetry      = 50 * time.Millisecond // after a failed accept: no more file descriptors, most likely
)

// A listener is one configured listener at work.
type listener struct {
	cfg       ListenerConfig
	addresses []netip.AddrPort
	proxy     *Proxy
	log       *slog.Logger
	table     *table // without routes where the listener is private
	protocols []string
	tls       *tls.Config // of TCP; nil: plain text
	quic      *tls.Config // of UDP; nil: no h3
	covers    func(name, host string) bool
	maxBody   message.Size
	httpsPort uint16 // where redirect_https leads

	gate       *gate
	complaints ration // lines about requests that engines refuse
	greeted    greetings
	requests   requestCounts

	engines  engines
	greeting atomic.Int64 // connections between accept and engine, in goroutines of their own

	bound atomic.Pointer[[]netip.AddrPort] // nil while it does not accept
	open  atomic.Pointer[[]filer]          // its sockets, to be copied
	late  atomic.Pointer[[]netip.AddrPort] // still to be bound; nil: none

	// Owned by the goroutine in Run.
	sockets   []net.Listener
	packets   []net.PacketConn
	accepting sync.WaitGroup // accept loops
	serving   sync.WaitGroup // handshakes, and h3
	refused   string         // why a late address was not bound, as logged last
}

// newListener checks a listener's configuration and compiles its routes.
func (p *Proxy) newListener(l Listener) (*listener, error) {
	c := l.Config
	one := &listener{cfg: c, addresses: l.Addresses, proxy: p, log: p.log.With("listener", c.Name), maxBody: DefaultMaxBody, gate: newGate(c), complaints: ration{burst: refusalLines, rate: refusalRate}}
	if c.Limits.Body != nil {
		one.maxBody = *c.Limits.Body
	}
	var errs []error
	if len(l.Addresses) == 0 {
		errs = append(errs, errors.New("has no address: give bind, or vips with addresses and a port"))
	}
	errs = append(errs, c.checkPrivate(), one.setProtocols(), c.Limits.Validate(), c.Validate())
	errs = append(errs, one.setTLS(p.setup.Certificates))
	var mine []*service
	for _, s := range p.services {
		if s.on(c.Name) && !c.Private {
			mine = append(mine, s)
		}
	}
	var err error
	one.table, err = newTable(mine)
	errs = append(errs, err)
	one.httpsPort = httpsPort(p.setup.Listeners)
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("listener %s: %w", c.Name, err)
	}
	one.engines = one.newEngines()
	return one, nil
}

func (l *listener) setProtocols() error {
	l.protocols = l.cfg.Protocols
	if len(l.protocols) == 0 {
		l.protocols = []string{protoH1}
		if l.cfg.TLS != nil {
			l.protocols = []string{protoH1, protoH2}
		}
	}
	for _, name := range l.protocols {
		switch {
		case name != protoH1 && name != protoH2 && name != protoH3:
			return fmt.Errorf("protocol %q is unknown: want h1, h2 or h3", name)
		case name == protoH3 && l.cfg.TLS == nil:
			return errors.New("h3 needs tls")
		case name == protoH2 && l.cfg.TLS == nil && len(l.protocols) > 1:
			return errors.New("without tls a listener speaks h1 or h2, not both: nothing tells them apart")
		}
	}
	return nil
}

func (l *listener) setTLS(certificates Certificates) error {
	c := l.cfg.TLS
	switch {
	case c == nil:
		return nil
	case certificates == nil:
		return errors.New("tls needs certificates")
	}
	var alpn []string
	if l.has(protoH2) {
		alpn = append(alpn, "h2")
	}
	if l.has(protoH1) {
		alpn = append(alpn, "http/1.1")
	}
	var err error
	if len(alpn) > 0 {
		if l.tls, err = certificates.TLSConfig(c.terms(), alpn); err != nil {
			return err
		}
	}
	if l.has(protoH3) {
		// QUIC knows TLS 1.3 alone (RFC 9001 section 4.2).
		terms := c.terms()
		terms.MinVersion = "1.3"
		if l.quic, err = certificates.TLSConfig(terms, []string{"h3"}); err != nil {
			return err
		}
	}
	l.covers, err = certificates.Covers(c.terms())
	return err
}

func (l *listener) has(protocol string) bool { return slices.Contains(l.protocols, protocol) }

func (l *listener) serviceNames() []string {
	var names []string
	for _, s := range l.proxy.services {
		if s.on(l.cfg.Name) {
			names = append(names, s.cfg.Name)
		}
	}
	return names
}

// httpsPort is the port of the first public listener with TLS, 0 for none.
func httpsPort(ls []Listener) uint16 {
	for _, l := range ls {
		if l.Config.TLS == nil || l.Config.Private {
			continue
		}
		for _, a := range l.Addresses {
			return a.Port()
		}
	}
	return 0
}
