package identity

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

var (
	nameForm   = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$`)
	domainForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)
)

// CheckTrustDomain reports why s cannot be a trust domain.
func CheckTrustDomain(s string) error {
	if !domainForm.MatchString(s) {
		return fmt.Errorf("trust domain %q: want a-z, 0-9, - and dots, like edge.example.net", s)
	}
	return nil
}

// check reports why p cannot be in a certificate.
func (p Peer) check() error {
	var errs []error
	if !nameForm.MatchString(p.Geo) {
		errs = append(errs, fmt.Errorf("geo %q: want a-z, 0-9, - and dots, at most 63 characters", p.Geo))
	}
	if !nameForm.MatchString(p.Node) {
		errs = append(errs, fmt.Errorf("node %q: want a-z, 0-9, - and dots, at most 63 characters", p.Node))
	}
	return errors.Join(errs...)
}

// uri returns the name that p has in its certificate.
func (p Peer) uri(trustDomain string) *url.URL {
	return &url.URL{Scheme: "spiffe", Host: trustDomain, Path: "/geo/" + p.Geo + "/node/" + p.Node}
}

// nameIn returns the one name in leaf.
func nameIn(leaf *x509.Certificate) (domain string, p Peer, err error) {
	if len(leaf.URIs) != 1 {
		return "", Peer{}, fmt.Errorf("%w: it has %d URI names, want one", ErrName, len(leaf.URIs))
	}
	u := leaf.URIs[0]
	part := strings.Split(u.EscapedPath(), "/") // "", geo, GEO, node, NAME
	if u.Scheme != "spiffe" || u.RawQuery != "" || u.Fragment != "" || u.User != nil ||
		len(part) != 5 || part[1] != "geo" || part[3] != "node" {
		return "", Peer{}, fmt.Errorf("%w: %q is not spiffe://TRUST_DOMAIN/geo/GEO/node/NAME", ErrName, u)
	}
	p = Peer{Geo: part[2], Node: part[4]}
	if err := p.check(); err != nil {
		return "", Peer{}, fmt.Errorf("%w: %w", ErrName, err)
	}
	return u.Host, p, nil
}
