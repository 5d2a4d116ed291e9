package lab

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

const certDays = 7 // a demo does not last longer

// Files of the certificate that clients see, in the run directory.
const (
	clientCAFile = "ca.crt"
	siteCertFile = "site.crt"
	siteKeyFile  = "site.key"
)

// IssueSite makes a CA that may sign for these addresses and example names only,
// and with it the one certificate that all geos present: ca.crt, site.crt and
// site.key in dir. The CA's key is forgotten.
func IssueSite(dir string, addrs ...netip.Addr) error {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	names := []string{"localhost", "www.example.net"}
	ca := certTemplate("edged demo CA")
	ca.IsCA, ca.BasicConstraintsValid, ca.MaxPathLenZero = true, true, true
	ca.KeyUsage = x509.KeyUsageCertSign
	ca.PermittedDNSDomainsCritical = true
	ca.PermittedDNSDomains = names
	for _, a := range addrs {
		ca.PermittedIPRanges = append(ca.PermittedIPRanges, &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())})
	}
	site := certTemplate("edged demo")
	site.KeyUsage = x509.KeyUsageDigitalSignature
	site.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	site.DNSNames = names
	for _, a := range addrs {
		site.IPAddresses = append(site.IPAddresses, a.AsSlice())
	}

	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return err
	}
	siteDER, err := x509.CreateCertificate(rand.Reader, site, ca, key.Public(), caKey)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name, kind string
		der        []byte
	}{{clientCAFile, "CERTIFICATE", caDER}, {siteCertFile, "CERTIFICATE", siteDER}, {siteKeyFile, "PRIVATE KEY", keyDER}} {
		text := pem.EncodeToMemory(&pem.Block{Type: f.kind, Bytes: f.der})
		if err := os.WriteFile(filepath.Join(dir, f.name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func certTemplate(name string) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)) // the system's randomness cannot fail
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().AddDate(0, 0, certDays),
	}
}
