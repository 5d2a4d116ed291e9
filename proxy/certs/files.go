package certs

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
)

// Validate reports every problem in c that can be seen without reading files.
func (c Config) Validate() error {
	switch {
	case c.Files != nil && c.SelfSigned:
		return errors.New("files and self_signed exclude each other")
	case c.Files == nil && !c.SelfSigned:
		return errors.New("one of files and self_signed is required")
	case c.Files != nil:
		return c.Files.validate(c.Domains)
	}
	var errs []error
	for i, d := range c.Domains {
		if !validName(d) {
			errs = append(errs, fmt.Errorf("domains[%d]: %q is no host name, *.NAME or IP address", i, d))
		}
	}
	return errors.Join(errs...)
}

func (f Files) validate(domains []string) error {
	var errs []error
	if f.Cert == "" {
		errs = append(errs, errors.New("files.cert is required"))
	}
	if f.Key == "" {
		errs = append(errs, errors.New("files.key is required"))
	}
	if len(domains) > 0 {
		errs = append(errs, errors.New("domains: a certificate from files has its names in it"))
	}
	return errors.Join(errs...)
}

// validName reports whether s can stand in a certificate (RFC 9525 section 6.3:
// a wildcard is the whole first label).
func validName(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	host := strings.TrimPrefix(s, "*.")
	if host == "" || len(host) > 253 {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "-") != label {
			return false
		}
		for _, r := range label {
			if r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
				return false
			}
		}
	}
	return true
}

// load reads the chain and its key. An error names the file at fault.
func (f Files) load() (*certificate, error) {
	chain, err := os.ReadFile(f.Cert)
	if err != nil {
		return nil, fmt.Errorf("files.cert: %w", err)
	}
	key, err := os.ReadFile(f.Key)
	if err != nil {
		return nil, fmt.Errorf("files.key: %w", err)
	}
	leaf, err := checkChain(chain)
	if err != nil {
		return nil, fmt.Errorf("files.cert: %s: %w", f.Cert, err)
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, fmt.Errorf("files.key: %s (for %s): %w", f.Key, f.Cert, err)
	}
	return newCertificate(pair, leaf), nil
}

// checkChain parses every certificate of a PEM file and returns the first.
func checkChain(text []byte) (*x509.Certificate, error) {
	var leaf *x509.Certificate
	for n := 1; ; {
		var block *pem.Block
		block, text = pem.Decode(text)
		if block == nil {
			break
		}
		if block.Type != pemCertificate {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of the chain: %w", n, err)
		}
		if leaf == nil {
			leaf = c
		}
		n++
	}
	if leaf == nil {
		return nil, errors.New("no certificate in PEM form (-----BEGIN CERTIFICATE-----)")
	}
	return leaf, nil
}
