package certs

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
)

// Values of Terms.UnknownNames.
const (
	UnknownDefault = "default" // the first certificate
	UnknownRefuse  = "refuse"
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

// Terms are what a listener terminates TLS on. Listeners with the same terms
// take each other's session tickets, in every geo.
type Terms struct {
	Certificates []string // the one a client asks for is presented, else the first
	MinVersion   string   // "1.2", which "" means too, or "1.3"
	UnknownNames string   // UnknownDefault, which "" means too, or UnknownRefuse
	ClientAuth   string   // ClientAuthNone, which "" means too, ClientAuthRequest or ClientAuthRequire
	ClientCA     []string // files of CA certificates, with a ClientAuth that asks
}

// Validate reports every problem in t that can be seen without reading files.
func (t Terms) Validate() error {
	var errs []error
	if len(t.Certificates) == 0 {
		errs = append(errs, errors.New("a TLS listener needs a certificate"))
	}
	if _, err := parseVersion(t.MinVersion); err != nil {
		errs = append(errs, err)
	}
	if u := cmp.Or(t.UnknownNames, UnknownDefault); u != UnknownDefault && u != UnknownRefuse {
		errs = append(errs, fmt.Errorf("unknown_names: %q is unknown: want default or refuse", u))
	}
	switch a := cmp.Or(t.ClientAuth, ClientAuthNone); a {
	case ClientAuthNone:
		if len(t.ClientCA) > 0 {
			errs = append(errs, errors.New("client_ca: means nothing without client_auth: request or require"))
		}
	case ClientAuthRequest, ClientAuthRequire:
		if len(t.ClientCA) == 0 {
			errs = append(errs, fmt.Errorf("client_auth: %s needs client_ca, the files of the CAs that count", a))
		}
	default:
		errs = append(errs, fmt.Errorf("client_auth: %q is unknown: want none, request or require", a))
	}
	return errors.Join(errs...)
}

// scope names what a session ticket of t is good for.
func (t Terms) scope() string {
	return strings.Join([]string{
		strings.Join(t.Certificates, " "), cmp.Or(t.MinVersion, "1.2"),
		cmp.Or(t.ClientAuth, ClientAuthNone), strings.Join(t.ClientCA, "\x00"),
	}, "\n")
}

// TLSConfig returns what a listener needs that terminates TLS on t. protos are
// offered by ALPN in that order: its identifiers, or h1 for HTTP/1.1. A Reload
// changes what the result presents, and which client certificates it takes.
func (s *Store) TLSConfig(t Terms, protos []string) (*tls.Config, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	list, err := s.choose(t)
	if err != nil {
		return nil, err
	}
	version, _ := parseVersion(t.MinVersion)
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
	if err := s.askClients(c, t); err != nil {
		return nil, err
	}
	s.tickets.use(c, t.scope())
	return c, nil
}

// Covers returns what tells whether a connection that asked for a name (SNI)
// was shown a certificate that is good for a host too, both in lower case.
func (s *Store) Covers(t Terms) (func(name, host string) bool, error) {
	list, err := s.choose(t)
	if err != nil {
		return nil, err
	}
	return list.covers, nil
}

// choose returns the certificates that t names.
func (s *Store) choose(t Terms) (choice, error) {
	list := choice{strict: t.UnknownNames == UnknownRefuse}
	for _, n := range t.Certificates {
		e := s.entries[n]
		if e == nil {
			return list, fmt.Errorf("certificate %q is not configured", n)
		}
		list.entries = append(list.entries, e)
	}
	return list, nil
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
