package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/renameio/v2"
)

// Where the development CA lies under the state directory.
const (
	devCADir  = "dev-ca"
	devCACert = "ca.crt"
	devCAKey  = "ca.key"
)

const (
	pemCertificate = "CERTIFICATE"
	pemKey         = "PRIVATE KEY"
)

// How long what is issued is valid. Browsers refuse leaves of 398 days and
// more; the start lies back so that a slow clock does no harm.
const (
	caLife   = 10 * 365 * 24 * time.Hour
	leafLife = 397 * 24 * time.Hour
	backdate = time.Hour
)

// A devCA signs certificates that only those trust who were told to.
type devCA struct {
	path string // of its certificate
	cert *x509.Certificate
	key  crypto.Signer
}

// openDevCA returns the CA in dir and makes it when there is none. Of several
// processes that make one at the same time, one wins and all use its CA.
func openDevCA(dir string) (*devCA, error) {
	ca, err := readDevCA(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return ca, err
	}
	if err := makeDevCA(dir); err != nil {
		return nil, err
	}
	return readDevCA(dir)
}

// readDevCA loads the CA in dir; fs.ErrNotExist means that there is none.
func readDevCA(dir string) (*devCA, error) {
	f := Files{Cert: filepath.Join(dir, devCACert), Key: filepath.Join(dir, devCAKey)}
	c, err := f.load()
	if errors.Is(err, fs.ErrNotExist) && halfThere(f) {
		return nil, fmt.Errorf("one of %s and %s is missing: remove %s to make a new CA", devCACert, devCAKey, dir)
	}
	if err != nil {
		return nil, err
	}
	key, ok := c.tls.PrivateKey.(crypto.Signer)
	switch {
	case !ok || !c.leaf.IsCA:
		return nil, fmt.Errorf("%s is no CA: remove %s to make a new one", f.Cert, dir)
	case time.Now().After(c.leaf.NotAfter):
		return nil, fmt.Errorf("%s expired at %s: remove %s to make a new one", f.Cert, c.leaf.NotAfter.Format(time.DateOnly), dir)
	}
	return &devCA{path: f.Cert, cert: c.leaf, key: key}, nil
}

// halfThere reports whether one of the files exists.
func halfThere(f Files) bool {
	return slices.ContainsFunc([]string{f.Cert, f.Key}, func(p string) bool {
		_, err := os.Lstat(p)
		return err == nil
	})
}

// makeDevCA fills a directory beside dir and renames it to dir: the pair
// appears whole or not at all. A rename onto a CA that came first fails, and
// that CA stays.
func makeDevCA(dir string) (err error) {
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o755); err != nil { //nolint:gosec // what must stay secret has a mode of its own
		return err
	}
	tmp, err := os.MkdirTemp(parent, "."+filepath.Base(dir)+"-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	certPEM, keyPEM, err := newDevCA(time.Now())
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(filepath.Join(tmp, devCAKey), keyPEM, 0o600, renameio.IgnoreUmask()); err != nil {
		return err
	}
	if err := renameio.WriteFile(filepath.Join(tmp, devCACert), certPEM, 0o644, renameio.IgnoreUmask()); err != nil {
		return err
	}
	if err := os.Chmod(tmp, 0o755); err != nil { //nolint:gosec // the CA's certificate is for everybody
		return err
	}
	if err := os.Rename(tmp, dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// newDevCA returns a new CA as PEM.
func newDevCA(now time.Time) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, nil, err
	}
	// The serial in the name tells apart the CAs that a browser was given.
	t := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: fmt.Sprintf("edged development CA %.8x", serial.Bytes())},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(caLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: keyDER}), nil
}

// issue returns a certificate for names, and for this machine's loopback. It
// ends with the CA at the latest.
func (ca *devCA) issue(names []string, now time.Time) (*certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "edged development"},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(leafLife - backdate),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	if t.NotAfter.After(ca.cert.NotAfter) {
		t.NotAfter = ca.cert.NotAfter
	}
	for _, n := range append(slices.Clone(names), "localhost", "127.0.0.1", "::1") {
		if ip := net.ParseIP(n); ip == nil {
			t.DNSNames = append(t.DNSNames, n)
		} else {
			t.IPAddresses = append(t.IPAddresses, ip)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, ca.cert, key.Public(), ca.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return newCertificate(tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, leaf), nil
}

// newSerial returns a serial number of 127 random bits (RFC 5280 section
// 4.1.2.2 wants it positive).
func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
}
