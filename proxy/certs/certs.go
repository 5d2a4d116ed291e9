// Package certs holds the certificates that listeners present and chooses one
// by the name a client asks for.
//
// A [Store] owns every certificate of the configuration: read from PEM files,
// or issued by a development CA that is kept under the state directory. It
// makes the [tls.Config] of a listener: what it presents, which clients'
// certificates it takes, and whose session tickets. Who listens is not its
// business. [Store.Run] watches files; [Store.Reload] reads them at once.
package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// A Store is the certificates of one edge. Its methods are safe for concurrent
// use.
type Store struct {
	log     *slog.Logger
	ca      *devCA // nil: nothing is self-signed
	tickets *ticketer
	entries map[string]*entry // not changed after New

	mu      sync.Mutex           // one reads files at a time; guards readings and what follows
	clients map[string]*clientCA // by files
}

// An entry is one configured certificate and what was last loaded for it.
type entry struct {
	cfg  Config
	cert atomic.Pointer[certificate]
	read reading // guarded by the store's mu
}

// New loads every certificate. Certificates whose configuration is
// self-signed need stateDir, where the development CA is made once. Every
// problem is reported, each with its certificate's name.
func New(cfgs []Config, stateDir string, log *slog.Logger) (*Store, error) {
	s := &Store{log: log, entries: make(map[string]*entry, len(cfgs)), tickets: processTickets(), clients: map[string]*clientCA{}}
	var errs []error
	for _, c := range cfgs {
		if err := c.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("certificate %s: %w", c.Name, err))
			continue
		}
		if s.entries[c.Name] != nil {
			errs = append(errs, fmt.Errorf("certificate %s is configured twice", c.Name))
			continue
		}
		if c.SelfSigned && s.ca == nil {
			ca, err := openDevCA(filepath.Join(stateDir, devCADir))
			if err != nil {
				return nil, fmt.Errorf("development CA: %w", err)
			}
			s.ca = ca
		}
		s.entries[c.Name] = &entry{cfg: c}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if err := s.Reload(); err != nil {
		return nil, err
	}
	return s, nil
}

// CAPath returns the file of the development CA's certificate, "" when nothing
// is self-signed.
func (s *Store) CAPath() string {
	if s.ca == nil {
		return ""
	}
	return s.ca.path
}

// UseTicketKeys makes session tickets ones that every store opens with the same
// keys, one for each epoch of 12 hours. Without it a ticket is good in this process
// alone. It comes before TLSConfig.
func (s *Store) UseTicketKeys(derive func(epoch uint32) [32]byte) {
	s.tickets = &ticketer{derive: derive, now: time.Now}
}

func (s *Store) load(c Config) (*certificate, error) {
	if c.SelfSigned {
		return s.ca.issue(c.Domains, time.Now())
	}
	return c.Files.load()
}

// warn logs a certificate that clients will refuse now.
func (s *Store) warn(name string, leaf *x509.Certificate, now time.Time) {
	switch {
	case now.After(leaf.NotAfter):
		s.log.Warn("certificate has expired", "certificate", name, "not_after", leaf.NotAfter)
	case now.Before(leaf.NotBefore):
		s.log.Warn("certificate is not yet valid", "certificate", name, "not_before", leaf.NotBefore)
	}
}

// A certificate is a chain with its key, ready to present.
type certificate struct {
	tls  tls.Certificate
	leaf *x509.Certificate
}

func newCertificate(pair tls.Certificate, leaf *x509.Certificate) *certificate {
	pair.Leaf = leaf
	return &certificate{tls: pair, leaf: leaf}
}
