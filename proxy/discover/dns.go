package discover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"anyedge/proxy/upstream"
)

const (
	askTimeout = 2 * time.Second // for one answer of one resolver
	ednsSize   = 1232            // bytes of an answer by UDP
	resolvConf = "/etc/resolv.conf"
)

// A resolution is a list of backends in DNS.
type resolution struct {
	srv     string // "": host and port
	host    string
	port    string
	scheme  string
	servers []string // ADDRESS:PORT
	refresh time.Duration
}

func newDNS(c Config) (*resolution, error) {
	d := &resolution{srv: c.DNSSRV, scheme: c.BackendScheme(), servers: []string{c.Resolver}, refresh: c.refresh()}
	if c.DNS != "" {
		host, port, err := splitPort(c.DNS)
		if err != nil {
			return nil, err
		}
		d.host, d.port = host, port
	}
	if c.Resolver != "" {
		return d, nil
	}
	conf, err := dns.ClientConfigFromFile(resolvConf)
	if err != nil {
		return nil, fmt.Errorf("no resolver is given, and %w", err)
	}
	d.servers = nil
	for _, s := range conf.Servers {
		d.servers = append(d.servers, net.JoinHostPort(s, conf.Port))
	}
	if len(d.servers) == 0 {
		return nil, fmt.Errorf("no resolver is given, and %s has none", resolvConf)
	}
	return d, nil
}

func (d *resolution) String() string {
	if d.srv != "" {
		return "SRV " + d.srv
	}
	return "DNS " + d.host
}

// watch does nothing: DNS tells nobody.
func (*resolution) watch(context.Context, chan<- struct{}) {}

// read asks once.
func (d *resolution) read(ctx context.Context) ([]upstream.BackendConfig, time.Duration, error) {
	a := answers{ttl: d.refresh}
	var list []upstream.BackendConfig
	var err error
	if d.srv != "" {
		list, err = d.services(ctx, &a)
	} else {
		var addrs []netip.Addr
		addrs, err = d.addresses(ctx, d.host, &a)
		list = d.backends(addrs, d.port, 0, 0)
	}
	if err == nil && len(list) == 0 {
		err = errNone
	}
	slices.SortFunc(list, func(a, b upstream.BackendConfig) int { return cmp.Compare(a.Name, b.Name) })
	list = slices.CompactFunc(list, func(a, b upstream.BackendConfig) bool { return a.Name == b.Name })
	return list, min(max(a.ttl, soonest), d.refresh), err
}

// services returns the backends of the SRV records.
func (d *resolution) services(ctx context.Context, a *answers) ([]upstream.BackendConfig, error) {
	m, err := d.ask(ctx, d.srv, dns.TypeSRV)
	if err != nil {
		return nil, err
	}
	a.saw(m.Answer)
	a.extra = m.Extra
	var list []upstream.BackendConfig
	var errs []error
	for _, rr := range m.Answer {
		s, ok := rr.(*dns.SRV)
		if !ok || s.Target == "." { // "decidedly not available at this domain"
			continue
		}
		addrs, err := d.addresses(ctx, s.Target, a)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.Target, err))
		}
		list = append(list, d.backends(addrs, strconv.Itoa(int(s.Port)), int(s.Priority), int(s.Weight))...)
	}
	if len(list) > 0 { // a target that has no address is nobody
		return list, silent(errs)
	}
	return nil, errors.Join(errs...)
}

// silent returns those of errs that are no answer: what they are about may well
// be there.
func silent(errs []error) error {
	var out []error
	for _, err := range errs {
		if !errors.Is(err, errNone) {
			out = append(out, err)
		}
	}
	return errors.Join(out...)
}

// backends makes a backend of each address; they share the weight.
func (d *resolution) backends(addrs []netip.Addr, port string, priority, weight int) []upstream.BackendConfig {
	var out []upstream.BackendConfig
	for _, a := range addrs {
		at := net.JoinHostPort(a.String(), port)
		out = append(out, upstream.BackendConfig{
			Name: at, URL: d.scheme + "://" + at,
			Priority: priority, Weight: max(1, weight/len(addrs)),
		})
	}
	return out
}

// answers is what one look saw.
type answers struct {
	ttl   time.Duration // least of all
	extra []dns.RR      // addresses that came unasked
}

func (a *answers) saw(rrs []dns.RR) {
	for _, rr := range rrs {
		a.ttl = min(a.ttl, time.Duration(rr.Header().Ttl)*time.Second)
	}
}

// addresses returns those of host, with an error also those that were heard of;
// errNone: it has none.
func (d *resolution) addresses(ctx context.Context, host string, a *answers) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(strings.TrimSuffix(host, ".")); err == nil {
		return []netip.Addr{addr}, nil
	}
	var out []netip.Addr
	for _, rr := range a.extra {
		if addr, ok := address(rr); ok && strings.EqualFold(rr.Header().Name, dns.Fqdn(host)) {
			a.saw([]dns.RR{rr})
			out = append(out, addr)
		}
	}
	if len(out) > 0 {
		return out, nil
	}
	var errs []error
	for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
		m, err := d.ask(ctx, host, kind)
		if errors.Is(err, errNone) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, rr := range m.Answer {
			if addr, ok := address(rr); ok {
				out = append(out, addr)
			}
		}
		a.saw(m.Answer)
	}
	if len(out) == 0 && len(errs) == 0 {
		return nil, errNone
	}
	return out, errors.Join(errs...)
}

func address(rr dns.RR) (netip.Addr, bool) {
	var ip net.IP
	switch rr := rr.(type) {
	case *dns.A:
		ip = rr.A
	case *dns.AAAA:
		ip = rr.AAAA
	}
	addr, ok := netip.AddrFromSlice(ip)
	return addr.Unmap(), ok
}

// ask returns the answer of the first resolver that has one. errNone: the name has
// no such record.
func (d *resolution) ask(ctx context.Context, name string, kind uint16) (*dns.Msg, error) {
	q := new(dns.Msg)
	q.SetQuestion(dns.Fqdn(name), kind)
	q.SetEdns0(ednsSize, false)
	var errs []error
	for _, server := range d.servers {
		m, err := exchange(ctx, q, server)
		switch {
		case err != nil:
			errs = append(errs, err)
		case m.Rcode == dns.RcodeSuccess && len(m.Answer) > 0:
			return m, nil
		case m.Rcode == dns.RcodeSuccess || m.Rcode == dns.RcodeNameError:
			return nil, errNone
		default:
			errs = append(errs, fmt.Errorf("%s answers %s", server, dns.RcodeToString[m.Rcode]))
		}
	}
	return nil, errors.Join(errs...)
}

// exchange asks by UDP, and by TCP when the answer does not fit.
func exchange(ctx context.Context, q *dns.Msg, server string) (*dns.Msg, error) {
	c := dns.Client{Timeout: askTimeout, UDPSize: ednsSize}
	m, _, err := c.ExchangeContext(ctx, q, server)
	if err == nil && m.Truncated {
		c.Net = "tcp"
		m, _, err = c.ExchangeContext(ctx, q, server)
	}
	return m, err
}
