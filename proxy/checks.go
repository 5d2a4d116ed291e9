package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// ErrNotPermitted means that this process may not read a file.
var ErrNotPermitted = errors.New("not permitted")

// renewSoon is how long before its end a certificate should have a successor.
const renewSoon = 14 * 24 * time.Hour

// A CertificateCheck is what was found out about one configured certificate.
type CertificateCheck struct {
	Name       string
	SelfSigned bool
	NotAfter   time.Time // of one from files that could be read
	Err        error     // listeners cannot present it; ErrNotPermitted: it could not be seen
	Doubt      error     // they can, but somebody should look
	Hint       string    // what to do, for a person
}

// CheckCertificates reads the files of every certificate and judges them at
// now. A self-signed one has no files to judge: it is issued when edged starts.
func CheckCertificates(cfgs []CertificateConfig, now time.Time) []CertificateCheck {
	out := make([]CertificateCheck, 0, len(cfgs))
	for _, c := range cfgs {
		check := CertificateCheck{Name: c.Name, SelfSigned: c.SelfSigned}
		if c.Files != nil {
			check.files(c.Files.Cert, c.Files.Key, now)
		}
		out = append(out, check)
	}
	return out
}

// files judges a chain and its key.
func (c *CertificateCheck) files(certFile, keyFile string, now time.Time) {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	var leaf *x509.Certificate
	if err == nil {
		leaf, err = x509.ParseCertificate(pair.Certificate[0])
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		c.Err, c.Hint = fmt.Errorf("%w: %w", ErrNotPermitted, err), "run doctor as root, or as edged's user"
		return
	case errors.Is(err, fs.ErrNotExist):
		c.Err, c.Hint = err, "put the file there, or correct files of the certificate"
		return
	case err != nil:
		c.Err, c.Hint = err, fmt.Sprintf("see that %s and %s are a PEM chain, the certificate first, and its key", certFile, keyFile)
		return
	}
	c.NotAfter = leaf.NotAfter
	const renew = "renew it: edged reads the files again when they change"
	switch {
	case now.After(leaf.NotAfter):
		c.Err, c.Hint = fmt.Errorf("expired on %s", day(leaf.NotAfter)), renew
	case now.Before(leaf.NotBefore):
		c.Err, c.Hint = fmt.Errorf("not valid before %s", day(leaf.NotBefore)), "see that the clock is right"
	case leaf.NotAfter.Sub(now) < renewSoon:
		c.Doubt, c.Hint = fmt.Errorf("ends on %s", day(leaf.NotAfter)), renew
	default:
		if info, err := os.Stat(keyFile); err == nil && info.Mode().Perm()&0o007 != 0 {
			c.Doubt, c.Hint = fmt.Errorf("%s can be read by everybody", keyFile), "chmod o= "+keyFile
		}
	}
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }
