// Package identity says who a node of the fabric is and who may speak to it.
//
// A node has a certificate with exactly one URI SAN,
// spiffe://TRUST_DOMAIN/geo/GEO/node/NAME, signed by the fabric CA. [Load]
// reads a node's own, [Identity.Verify] judges a peer's. The fleet also shares
// one [Secret], from which every shared key is derived. [Init] and [IssueTo]
// make the files. The package opens no connection and keeps no state.
package identity

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// Errors that tell why a certificate is not good enough; callers branch on
// them to count refusals.
var (
	ErrExpired     = errors.New("certificate is out of its time")
	ErrUntrusted   = errors.New("certificate is not signed by this fabric's CA")
	ErrTrustDomain = errors.New("certificate belongs to another trust domain")
	ErrName        = errors.New("certificate names no node")
)

// A Peer is the name in a node's certificate.
type Peer struct{ Geo, Node string }

// String returns GEO/NODE.
func (p Peer) String() string { return p.Geo + "/" + p.Node }

// An Identity is one node's own certificate and key, and what it trusts. It is
// immutable.
type Identity struct {
	Peer        Peer
	TrustDomain string
	Leaf        *x509.Certificate
	TLS         tls.Certificate
	Key         *ecdsa.PrivateKey

	roots *x509.CertPool
}

// Load reads a node's certificate, its key and the CA bundle, all PEM. The
// bundle may hold several CAs, so that they can rotate. It fails when the three
// do not fit together, when the certificate is out of its time, or when it
// belongs to another trust domain.
func Load(trustDomain string, certPEM, keyPEM, caPEM []byte) (*Identity, error) {
	roots, n := x509.NewCertPool(), 0
	for _, c := range certificates(caPEM) {
		if !c.IsCA {
			return nil, fmt.Errorf("fabric CA bundle: %q is no CA certificate", c.Subject.CommonName)
		}
		roots.AddCert(c)
		n++
	}
	if n == 0 {
		return nil, errors.New("fabric CA bundle: no PEM certificate in it")
	}
	chain := certificates(certPEM)
	if len(chain) == 0 {
		return nil, errors.New("node certificate: no PEM certificate in it")
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("node certificate and key: %w", err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("node key: want an ECDSA P-256 key")
	}
	id := &Identity{TrustDomain: trustDomain, Leaf: chain[0], TLS: pair, Key: key, roots: roots}
	if id.Peer, err = id.Verify(chain); err != nil {
		return nil, fmt.Errorf("node certificate: %w", err)
	}
	return id, nil
}

// Check reports an error when the certificate is not that of the node geo/node,
// as the configuration names it.
func (id *Identity) Check(geo, node string) error {
	if want := (Peer{geo, node}); id.Peer != want {
		return fmt.Errorf("the certificate is for %s, but this node is configured as %s; issue one with: edgectl fabric issue %s %s", id.Peer, want, geo, node)
	}
	return nil
}

// Verify returns the name of the peer that presented certs, leaf first. The
// error is one of the Err values of this package, wrapped with the facts.
func (id *Identity) Verify(certs []*x509.Certificate) (Peer, error) {
	return id.VerifyAt(certs, time.Now())
}

// VerifyAt is Verify at another time than now.
func (id *Identity) VerifyAt(certs []*x509.Certificate, now time.Time) (Peer, error) {
	if len(certs) == 0 {
		return Peer{}, fmt.Errorf("%w: no certificate was presented", ErrUntrusted)
	}
	leaf := certs[0]
	if now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return Peer{}, fmt.Errorf("%w: valid from %s to %s, now is %s", ErrExpired, date(leaf.NotBefore), date(leaf.NotAfter), date(now))
	}
	between := x509.NewCertPool()
	for _, c := range certs[1:] {
		between.AddCert(c)
	}
	// Two calls, because KeyUsages in VerifyOptions means any of them.
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		_, err := leaf.Verify(x509.VerifyOptions{Roots: id.roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}})
		if err != nil {
			return Peer{}, fmt.Errorf("%w (issuer %q): %w", ErrUntrusted, leaf.Issuer.CommonName, err)
		}
	}
	domain, peer, err := nameIn(leaf)
	if err != nil {
		return Peer{}, err
	}
	if domain != id.TrustDomain {
		return Peer{}, fmt.Errorf("%w: it says %q, this fabric is %q", ErrTrustDomain, domain, id.TrustDomain)
	}
	return peer, nil
}

func date(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// certificates returns every certificate in b that parses; what else is in b
// is passed over.
func certificates(b []byte) []*x509.Certificate {
	var list []*x509.Certificate
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			return list
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			list = append(list, c)
		}
	}
}

// KeyID identifies the public key of a certificate: the SHA-256 of its
// SubjectPublicKeyInfo.
func KeyID(c *x509.Certificate) [32]byte { return sha256.Sum256(c.RawSubjectPublicKeyInfo) }
