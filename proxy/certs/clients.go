package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
)

// Values of Terms.ClientAuth.
const (
	ClientAuthNone    = "none"
	ClientAuthRequest = "request" // one that is shown must be good
	ClientAuthRequire = "require"
)

// ErrClientCertificate means that a client showed no certificate that counts
// here.
var ErrClientCertificate = errors.New("client certificate")

// A clientCA is files of CA certificates, and what was last loaded.
type clientCA struct {
	files []string
	pool  atomic.Pointer[x509.CertPool]
	read  reading // guarded by the store's mu
}

// load reads the files. The store's mu is held.
func (c *clientCA) load() error {
	c.read.begin(c.files...)
	pool := x509.NewCertPool()
	for _, file := range c.files {
		text, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("client CA: %w", err)
		}
		if _, err := checkChain(text); err != nil {
			return fmt.Errorf("client CA: %s: %w", file, err)
		}
		pool.AppendCertsFromPEM(text)
	}
	c.pool.Store(pool)
	return nil
}

// verify judges what a client showed, also when it resumes a session: a CA that
// was taken out counts no more.
func (c *clientCA) verify(require bool) func(tls.ConnectionState) error {
	return func(s tls.ConnectionState) error {
		if len(s.PeerCertificates) == 0 {
			if require {
				return fmt.Errorf("%w: none was shown", ErrClientCertificate)
			}
			return nil
		}
		o := x509.VerifyOptions{
			Roots: c.pool.Load(), Intermediates: x509.NewCertPool(),
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}
		for _, more := range s.PeerCertificates[1:] {
			o.Intermediates.AddCert(more)
		}
		if _, err := s.PeerCertificates[0].Verify(o); err != nil {
			return fmt.Errorf("%w: %w", ErrClientCertificate, err)
		}
		return nil
	}
}

// askClients makes c ask for client certificates as t says.
func (s *Store) askClients(c *tls.Config, t Terms) error {
	switch t.ClientAuth {
	case "", ClientAuthNone:
		return nil
	case ClientAuthRequest:
		c.ClientAuth = tls.RequestClientCert
	case ClientAuthRequire:
		c.ClientAuth = tls.RequireAnyClientCert
	}
	ca, err := s.clientCA(t.ClientCA)
	if err != nil {
		return err
	}
	c.VerifyConnection = ca.verify(t.ClientAuth == ClientAuthRequire)
	return nil
}

// clientCA returns the CAs in files, loaded once for all listeners.
func (s *Store) clientCA(files []string) (*clientCA, error) {
	key := strings.Join(files, "\x00")
	s.mu.Lock()
	defer s.mu.Unlock()
	if ca := s.clients[key]; ca != nil {
		return ca, nil
	}
	ca := &clientCA{files: files}
	if err := ca.load(); err != nil {
		return nil, err
	}
	s.clients[key] = ca
	return ca, nil
}
