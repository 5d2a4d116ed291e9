package certs

import (
	"crypto/tls"
	"strings"
)

// A choice is the certificates of one listener; the first is the default, unless
// it is strict.
type choice struct {
	entries []*entry
	strict  bool // a name that no certificate has is refused, and no name too
}

// get returns the certificate for a handshake: one that has the name, else one
// with a wildcard for it, else the first. Of several, the first whose key the
// client can use. Nil, which crypto/tls answers with unrecognized_name: the choice
// is strict.
func (l choice) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	list := l.named(strings.TrimSuffix(strings.ToLower(hello.ServerName), "."))
	if len(list) == 0 {
		return nil, nil //nolint:nilnil // see above
	}
	return best(hello, list), nil
}

// named returns the certificates for a name, the preferred ones alone.
func (l choice) named(name string) []*certificate {
	if name == "" && !l.strict {
		return l.all(func(*certificate) bool { return true })
	}
	if exact := l.all(func(c *certificate) bool { return c.has(name) }); len(exact) > 0 {
		return exact
	}
	if _, parent, ok := strings.Cut(name, "."); ok {
		if wild := l.all(func(c *certificate) bool { return c.has("*." + parent) }); len(wild) > 0 {
			return wild
		}
	}
	if l.strict {
		return nil
	}
	return []*certificate{l.entries[0].cert.Load()}
}

// covers reports whether a certificate for a name is good for a host too.
func (l choice) covers(name, host string) bool {
	for _, c := range l.named(name) {
		if c.leaf.VerifyHostname(host) == nil {
			return true
		}
	}
	return false
}

// all returns the certificates that match.
func (l choice) all(match func(*certificate) bool) []*certificate {
	var out []*certificate
	for _, e := range l.entries {
		if c := e.cert.Load(); match(c) {
			out = append(out, c)
		}
	}
	return out
}

// best returns the first of list that the client can use, else the first.
func best(hello *tls.ClientHelloInfo, list []*certificate) *tls.Certificate {
	if len(list) > 1 {
		for _, c := range list {
			if hello.SupportsCertificate(&c.tls) == nil {
				return &c.tls
			}
		}
	}
	return &list[0].tls
}

// has reports whether name, in lower case, stands in the certificate.
func (c *certificate) has(name string) bool {
	for _, n := range c.leaf.DNSNames {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}
