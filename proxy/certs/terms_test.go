package certs_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"anyedge/proxy/certs"
)

func store(t *testing.T, cfgs ...certs.Config) *certs.Store {
	t.Helper()
	s, err := certs.New(cfgs, t.TempDir(), logTo(t))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func terminates(t *testing.T, s *certs.Store, terms certs.Terms) *tls.Config {
	t.Helper()
	c, err := s.TLSConfig(terms, []string{"h2", "h1"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// shake does a handshake and one byte each way: a client of TLS 1.3 learns only
// then what became of its certificate, and gets its ticket.
func shake(t *testing.T, server, client *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			defer c.Close()
			err = c.(*tls.Conn).HandshakeContext(t.Context())
		}
		if err == nil {
			_, err = c.Write([]byte{1})
		}
		done <- err
	}()
	client.InsecureSkipVerify = true
	var state tls.ConnectionState
	c, err := (&tls.Dialer{Config: client}).DialContext(t.Context(), "tcp", l.Addr().String())
	if err == nil {
		defer c.Close()
		_, err = io.ReadFull(c, make([]byte, 1))
		state = c.(*tls.Conn).ConnectionState()
	}
	if failed := <-done; failed != nil {
		return state, failed
	}
	return state, err
}

// A client that was at one node resumes its session at another, which has the
// same keys, and nowhere else.
func TestTicketsOfAFleet(t *testing.T) {
	key := func(secret byte) func(uint32) [32]byte {
		return func(epoch uint32) [32]byte { return [32]byte{secret, byte(epoch), byte(epoch >> 8)} }
	}
	node := func(t *testing.T, secret byte, terms certs.Terms) *tls.Config {
		t.Helper()
		s := store(t, files("main", good(t, "a.example.net")))
		if secret != 0 {
			s.UseTicketKeys(key(secret))
		}
		terms.Certificates = []string{"main"}
		return terminates(t, s, terms)
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, tt := range []struct {
			name   string
			other  func(t *testing.T) *tls.Config
			resume bool
		}{
			{"the same fleet", func(t *testing.T) *tls.Config { t.Helper(); return node(t, 1, certs.Terms{}) }, true},
			{"another fleet", func(t *testing.T) *tls.Config { t.Helper(); return node(t, 2, certs.Terms{}) }, false},
			{"no fleet", func(t *testing.T) *tls.Config { t.Helper(); return node(t, 0, certs.Terms{}) }, false},
			{"a listener of other terms", func(t *testing.T) *tls.Config {
				t.Helper()
				ca := good(t, "ca")
				return node(t, 1, certs.Terms{ClientAuth: "request", ClientCA: []string{ca.Cert}})
			}, false},
		} {
			t.Run(tls.VersionName(version)+" "+tt.name, func(t *testing.T) {
				client := &tls.Config{ServerName: "a.example.net", MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
				if s, err := shake(t, node(t, 1, certs.Terms{}), client); err != nil || s.DidResume {
					t.Fatalf("first: resumed %v, %v", s.DidResume, err)
				}
				s, err := shake(t, tt.other(t), client)
				if err != nil || s.DidResume != tt.resume {
					t.Errorf("resumed %v, want %v; %v", s.DidResume, tt.resume, err)
				}
			})
		}
	}
}

// X25519MLKEM768 is what a client of today and we agree on.
func TestPostQuantum(t *testing.T) {
	c := terminates(t, store(t, files("main", good(t, "a.example.net"))), certs.Terms{Certificates: []string{"main"}})
	s, err := shake(t, c, &tls.Config{ServerName: "a.example.net"})
	if err != nil || s.CurveID != tls.X25519MLKEM768 {
		t.Errorf("key exchange %v, %v", s.CurveID, err)
	}
}

func TestUnknownNames(t *testing.T) {
	s := store(t, files("main", good(t, "a.example.net")), files("other", good(t, "*.b.example.net")))
	for _, tt := range []struct {
		policy, name string
		ok           bool
	}{
		{"", "nobody.example.net", true},
		{"default", "", true},
		{"refuse", "a.example.net", true},
		{"refuse", "x.b.example.net", true},
		{"refuse", "nobody.example.net", false},
		{"refuse", "", false},
	} {
		c := terminates(t, s, certs.Terms{Certificates: []string{"main", "other"}, UnknownNames: tt.policy})
		_, err := shake(t, c, &tls.Config{ServerName: tt.name})
		if (err == nil) != tt.ok {
			t.Errorf("%s %q: %v, want success %v", tt.policy, tt.name, err, tt.ok)
		}
	}
}

func TestCovers(t *testing.T) {
	s := store(t, files("main", good(t, "a.example.net", "b.example.net")), files("wild", good(t, "*.c.example.net")))
	covers, err := s.Covers(certs.Terms{Certificates: []string{"main", "wild"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, host string
		want       bool
	}{
		{"a.example.net", "b.example.net", true},
		{"a.example.net", "x.c.example.net", false},
		{"x.c.example.net", "y.c.example.net", true},
		{"x.c.example.net", "a.example.net", false},
		{"x.c.example.net", "y.x.c.example.net", false},
		{"nobody.example.net", "a.example.net", true}, // it got the default
		{"a.example.net", "192.0.2.1", false},
	} {
		if got := covers(tt.name, tt.host); got != tt.want {
			t.Errorf("covers(%q, %q) = %v", tt.name, tt.host, got)
		}
	}
}

// A client's certificate counts when one of the CAs in the files has signed it,
// from the moment that the files say so.
func TestClientCertificates(t *testing.T) {
	dir := t.TempDir()
	authority := func(name string) (ca string, client tls.Certificate) { // a certificate that is its own CA
		p := good(t, name)
		cert, err := tls.LoadX509KeyPair(p.Cert, p.Key)
		if err != nil {
			t.Fatal(err)
		}
		return p.Cert, cert
	}
	mineFile, mine := authority("mine")
	_, other := authority("other")
	ca := filepath.Join(dir, "clients.crt")
	copyFile(t, mineFile, ca)
	s := store(t, files("main", good(t, "a.example.net")))
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, tt := range []struct {
			auth string
			show []tls.Certificate
			ok   bool
		}{
			{"none", nil, true},
			{"request", nil, true},
			{"request", []tls.Certificate{mine}, true},
			{"request", []tls.Certificate{other}, false},
			{"require", nil, false},
			{"require", []tls.Certificate{mine}, true},
			{"require", []tls.Certificate{other}, false},
		} {
			terms := certs.Terms{Certificates: []string{"main"}, ClientAuth: tt.auth, ClientCA: []string{ca}}
			if tt.auth == "none" {
				terms.ClientCA = nil
			}
			_, err := shake(t, terminates(t, s, terms), &tls.Config{ServerName: "a.example.net", MaxVersion: version, Certificates: tt.show})
			if (err == nil) != tt.ok {
				t.Errorf("%s %s, %d shown: %v, want success %v", tls.VersionName(version), tt.auth, len(tt.show), err, tt.ok)
			}
			if len(tt.show) > 0 && !tt.ok && !errors.Is(err, certs.ErrClientCertificate) {
				t.Errorf("%s: %v is no ErrClientCertificate", tt.auth, err)
			}
		}
	}
	// A session does not outlive the CA that it was begun with.
	c := terminates(t, s, certs.Terms{Certificates: []string{"main"}, ClientAuth: "require", ClientCA: []string{ca}})
	client := &tls.Config{ServerName: "a.example.net", Certificates: []tls.Certificate{mine}, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	for i, resumed := range []bool{false, true} {
		if state, err := shake(t, c, client); err != nil || state.DidResume != resumed {
			t.Fatalf("handshake %d: resumed %v, %v", i, state.DidResume, err)
		}
	}
	otherFile, _ := authority("another")
	copyFile(t, otherFile, ca)
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	if _, err := shake(t, c, client); !errors.Is(err, certs.ErrClientCertificate) {
		t.Errorf("with another CA: %v", err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	put(t, to, b)
}

func TestTermsRefused(t *testing.T) {
	one := []string{"main"}
	for _, tt := range []struct {
		terms certs.Terms
		want  string
	}{
		{certs.Terms{}, "needs a certificate"},
		{certs.Terms{Certificates: one, UnknownNames: "x"}, "want default or refuse"},
		{certs.Terms{Certificates: one, ClientAuth: "x"}, "want none, request or require"},
		{certs.Terms{Certificates: one, ClientAuth: "require"}, "needs client_ca"},
		{certs.Terms{Certificates: one, ClientCA: one}, "means nothing without client_auth"},
	} {
		if err := tt.terms.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.terms, err, tt.want)
		}
	}
	s := store(t, files("main", good(t, "a")))
	if _, err := s.TLSConfig(certs.Terms{Certificates: one, ClientAuth: "require", ClientCA: []string{"/nowhere"}}, nil); err == nil {
		t.Error("a CA file that is not there is no error")
	}
}

// Files are read again when they change, however they change: written in place
// in pieces, renamed onto, one after the other. Meanwhile the last good pair stays.
func TestFilesAreWatched(t *testing.T) {
	var log lockedBuffer
	a, b := good(t, "a.example.net"), good(t, "b.example.net")
	s, err := certs.New([]certs.Config{files("main", a)}, t.TempDir(), slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	cfg := terminates(t, s, certs.Terms{Certificates: []string{"main"}})
	is := func(der []byte) bool {
		return bytes.Equal(presented(t, cfg, "", nil).PeerCertificates[0].Raw, der)
	}
	step := func(what string, der []byte, said string) {
		t.Helper()
		before := len(log.String())
		for range 3 {
			s.Look()
		}
		if !is(der) {
			t.Errorf("%s: another certificate", what)
		}
		if got := log.String()[before:]; strings.Count(got, said) != 1 || strings.Count(got, "\n") != 1 {
			t.Errorf("%s: logged %q, want one line with %q", what, got, said)
		}
	}
	chain, err := os.ReadFile(b.Cert)
	if err != nil {
		t.Fatal(err)
	}
	put(t, a.Cert, chain[:len(chain)/2])
	step("half a chain", a.der, "no certificate in PEM form")
	put(t, a.Cert, chain)
	step("a chain without its key", a.der, "private key does not match")
	copyFile(t, b.Key, a.Key)
	step("the new pair", b.der, "changed files were read")
	if err := os.Remove(a.Key); err != nil {
		t.Fatal(err)
	}
	step("no key", b.der, "no such file")

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, func() {}) }()
	defer func() { cancel(); <-ended }()
	c := good(t, "c.example.net")
	for from, to := range map[string]string{c.Key: a.Key, c.Cert: a.Cert} { // as renewal programs do it
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !is(c.der) {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("a renamed pair is not presented")
		}
	}
}

// lockedBuffer is what was logged.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
