package certs

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
)

// suites are those of TLS 1.2 with an AEAD and forward secrecy; TLS 1.3 has no
// others.
var suites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// TLSConfig returns what a listener needs that presents the certificates of
// these names: the one a client asks for, else the first. minVersion is "1.2",
// which "" means too, or "1.3". protos are offered by ALPN in that order: its
// identifiers, or h1 for HTTP/1.1. A Reload changes what the result presents.
func (s *Store) TLSConfig(names []string, minVersion string, protos []string) (*tls.Config, error) {
	if len(names) == 0 {
		return nil, errors.New("a TLS listener needs a certificate")
	}
	var list choice
	for _, n := range names {
		e := s.entries[n]
		if e == nil {
			return nil, fmt.Errorf("certificate %q is not configured", n)
		}
		list = append(list, e)
	}
	version, err := parseVersion(minVersion)
	if err != nil {
		return nil, err
	}
	c := &tls.Config{
		MinVersion:     version,
		CipherSuites:   suites,
		GetCertificate: list.get,
	}
	for _, p := range protos {
		if p == "h1" {
			p = "http/1.1"
		}
		c.NextProtos = append(c.NextProtos, p)
	}
	return c, nil
}

func parseVersion(s string) (uint16, error) {
	switch s {
	case "", "1.2":
		return tls.VersionTLS12, nil
	case "1.3":
		return tls.VersionTLS13, nil
	}
	return 0, fmt.Errorf("TLS version %q is unknown: want 1.2 or 1.3", s)
}

// A choice is the certificates of one listener; the first is the default.
type choice []*entry

// get returns the certificate for a handshake: one that has the name, else one
// with a wildcard for it, else the first. Of several, the first whose key the
// client can use.
func (l choice) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := strings.TrimSuffix(strings.ToLower(hello.ServerName), ".")
	if name == "" {
		return l.best(hello, l.all(func(*certificate) bool { return true })), nil
	}
	if exact := l.all(func(c *certificate) bool { return c.has(name) }); len(exact) > 0 {
		return l.best(hello, exact), nil
	}
	if _, parent, ok := strings.Cut(name, "."); ok {
		if wild := l.all(func(c *certificate) bool { return c.has("*." + parent) }); len(wild) > 0 {
			return l.best(hello, wild), nil
		}
	}
	return &l[0].cert.Load().tls, nil
}

// all returns the certificates that match.
func (l choice) all(match func(*certificate) bool) []*certificate {
	var out []*certificate
	for _, e := range l {
		if c := e.cert.Load(); match(c) {
			out = append(out, c)
		}
	}
	return out
}

// best returns the first of list that the client can use, else the first.
func (choice) best(hello *tls.ClientHelloInfo, list []*certificate) *tls.Certificate {
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
