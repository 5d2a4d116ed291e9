package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"time"
)

// How long what Init and IssueTo sign is valid.
const (
	CAValidity   = 10 * 365 * 24 * time.Hour
	NodeValidity = 397 * 24 * time.Hour
)

// backdate is how far in the past a new certificate begins, for nodes whose
// clocks are behind.
const backdate = time.Hour

// A CA signs node certificates (ECDSA P-256).
type CA struct {
	TrustDomain string
	Cert        *x509.Certificate

	key *ecdsa.PrivateKey
}

// NewCA makes a CA for a trust domain, valid for CAValidity.
func NewCA(trustDomain string) (*CA, error) {
	if err := CheckTrustDomain(trustDomain); err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: trustDomain + " fabric CA"},
		URIs:      []*url.URL{{Scheme: "spiffe", Host: trustDomain}},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(CAValidity),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	cert, err := sign(template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return &CA{trustDomain, cert, key}, nil
}

// LoadCA reads a CA's certificate and key, both PEM.
func LoadCA(certPEM, keyPEM []byte) (*CA, error) {
	list := certificates(certPEM)
	if len(list) == 0 {
		return nil, errors.New("CA certificate: no PEM certificate in it")
	}
	block, _ := pem.Decode(keyPEM)
	if block == nil {
		return nil, errors.New("CA key: no PEM block in it")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("CA key: %w", err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("CA key: want an ECDSA P-256 key")
	}
	for _, c := range list { // several while they rotate: the key tells which one signs
		if key.PublicKey.Equal(c.PublicKey) && c.IsCA && len(c.URIs) == 1 && c.URIs[0].Scheme == "spiffe" {
			return &CA{c.URIs[0].Host, c, key}, nil
		}
	}
	return nil, errors.New("CA key: it belongs to none of the CA certificates")
}

// CertPEM returns the CA's certificate.
func (ca *CA) CertPEM() []byte { return certPEM(ca.Cert) }

// KeyPEM returns the CA's key.
func (ca *CA) KeyPEM() ([]byte, error) { return keyPEM(ca.key) }

// Issue makes a key for p and signs a certificate for it that is valid in the
// given time and never longer than the CA's own.
func (ca *CA) Issue(p Peer, from, until time.Time) (cert, key []byte, err error) {
	if err := p.check(); err != nil {
		return nil, nil, err
	}
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if until.After(ca.Cert.NotAfter) {
		until = ca.Cert.NotAfter
	}
	leaf, err := sign(&x509.Certificate{
		Subject:   pkix.Name{CommonName: p.Node},
		URIs:      []*url.URL{p.uri(ca.TrustDomain)},
		NotBefore: from, NotAfter: until,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}, ca.Cert, &k.PublicKey, ca.key)
	if err != nil {
		return nil, nil, err
	}
	if key, err = keyPEM(k); err != nil {
		return nil, nil, err
	}
	return certPEM(leaf), key, nil
}

// sign gives template a random serial number and signs it.
func sign(template, parent *x509.Certificate, pub *ecdsa.PublicKey, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial.Add(serial, big.NewInt(1))
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func certPEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

func keyPEM(k *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
