package certs_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"anyedge/proxy/certs"
)

func logTo(t *testing.T) *slog.Logger {
	t.Helper()
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

// A pair is a certificate written to files.
type pair struct {
	certs.Files
	der []byte
}

// write makes a certificate for names that is valid from and to these times
// from now.
func write(t *testing.T, useRSA bool, from, to time.Duration, names ...string) pair {
	t.Helper()
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var private, public any = ec, ec.Public()
	if useRSA {
		r, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		private, public = r, r.Public()
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: strings.Join(names, " ")},
		DNSNames:     names,
		NotBefore:    time.Now().Add(from),
		NotAfter:     time.Now().Add(to),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, public, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p := pair{Files: certs.Files{Cert: filepath.Join(dir, "chain.pem"), Key: filepath.Join(dir, "key.pem")}, der: der}
	put(t, p.Cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	put(t, p.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	return p
}

func good(t *testing.T, names ...string) pair {
	t.Helper()
	return write(t, false, -time.Hour, time.Hour, names...)
}

func put(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func files(name string, p pair) certs.Config { return certs.Config{Name: name, Files: &p.Files} }

// presented returns the first certificate that cfg presents to a client that
// asks for name.
func presented(t *testing.T, cfg *tls.Config, name string, change func(*tls.Config)) *tls.ConnectionState {
	t.Helper()
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	done := make(chan error, 1)
	go func() { done <- tls.Server(server, cfg).Handshake() }()
	cc := &tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}}
	if change != nil {
		change(cc)
	}
	c := tls.Client(client, cc)
	if err := c.HandshakeContext(t.Context()); err != nil {
		t.Fatalf("%s: client: %v", name, err)
	}
	if err := <-done; err != nil {
		t.Fatalf("%s: server: %v", name, err)
	}
	state := c.ConnectionState()
	return &state
}

func TestChoiceBySNI(t *testing.T) {
	pairs := map[string]pair{
		"first": good(t, "one.example.net"),
		"wild":  good(t, "*.example.net", "*.app.example.net"),
		"exact": good(t, "www.example.net", "Mixed.example.net"),
		"late":  good(t, "www.example.net", "*.example.net"),
	}
	var list []certs.Config
	names := []string{"first", "wild", "exact", "late"}
	for _, n := range names {
		list = append(list, files(n, pairs[n]))
	}
	s, err := certs.New(list, "", logTo(t))
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := s.TLSConfig(certs.Terms{Certificates: names}, []string{"h2", "h1"})
	if err != nil {
		t.Fatal(err)
	}
	if s.CAPath() != "" {
		t.Errorf("CAPath = %q without a self-signed certificate", s.CAPath())
	}
	for _, tt := range []struct{ sni, want string }{
		{"one.example.net", "first"},
		{"www.example.net", "exact"}, // before a wildcard that stands earlier
		{"WWW.Example.NET", "exact"},
		{"mixed.example.net", "exact"},
		{"other.example.net", "wild"},
		{"a.app.example.net", "wild"},
		{"a.b.example.net", "first"}, // a wildcard is one label
		{"example.net", "first"},
		{"unknown.example.org", "first"},
		{"", "first"},
	} {
		state := presented(t, cfg, tt.sni, nil)
		if !bytes.Equal(state.PeerCertificates[0].Raw, pairs[tt.want].der) {
			t.Errorf("%q got the certificate of %q, want %s", tt.sni, state.PeerCertificates[0].Subject.CommonName, tt.want)
		}
		if state.NegotiatedProtocol != "h2" {
			t.Errorf("%q: ALPN %q", tt.sni, state.NegotiatedProtocol)
		}
	}
	onlyH1 := presented(t, cfg, "", func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} })
	if onlyH1.NegotiatedProtocol != "http/1.1" {
		t.Errorf("ALPN %q", onlyH1.NegotiatedProtocol)
	}
}

// Of two certificates for one name a client gets the one it can use.
func TestChoiceByKey(t *testing.T) {
	ec, rs := good(t, "www.example.net"), write(t, true, -time.Hour, time.Hour, "www.example.net")
	s, err := certs.New([]certs.Config{files("ec", ec), files("rsa", rs)}, "", logTo(t))
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := s.TLSConfig(certs.Terms{Certificates: []string{"ec", "rsa"}, MinVersion: "1.2"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for suite, want := range map[uint16]pair{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256: ec,
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256:   rs,
	} {
		state := presented(t, cfg, "www.example.net", func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{suite}
		})
		if !bytes.Equal(state.PeerCertificates[0].Raw, want.der) {
			t.Errorf("%s: wrong certificate", tls.CipherSuiteName(suite))
		}
	}
}

func TestTLSConfigVersions(t *testing.T) {
	s, err := certs.New([]certs.Config{files("main", good(t, "www.example.net"))}, "", logTo(t))
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := s.TLSConfig(certs.Terms{Certificates: []string{"main"}, MinVersion: "1.3"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.MinVersion != tls.VersionTLS13 || cfg.SessionTicketsDisabled {
		t.Errorf("%+v", cfg)
	}
	for _, tt := range []struct {
		names   []string
		version string
		want    string
	}{
		{nil, "", "a TLS listener needs a certificate"},
		{[]string{"main", "other"}, "", `certificate "other" is not configured`},
		{[]string{"main"}, "1.1", `TLS version "1.1" is unknown: want 1.2 or 1.3`},
	} {
		if _, err := s.TLSConfig(certs.Terms{Certificates: tt.names, MinVersion: tt.version}, nil); err == nil || err.Error() != tt.want {
			t.Errorf("%v %s: %v", tt.names, tt.version, err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	a, b := good(t, "a.example.net"), good(t, "b.example.net")
	crossed := certs.Files{Cert: a.Cert, Key: b.Key}
	swapped := certs.Files{Cert: a.Key, Key: a.Cert}
	missing := certs.Files{Cert: a.Cert, Key: filepath.Join(t.TempDir(), "none.pem")}
	broken := filepath.Join(t.TempDir(), "broken.pem")
	put(t, broken, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}))
	for _, tt := range []struct {
		name string
		cfg  []certs.Config
		want []string
	}{
		{
			"another key",
			[]certs.Config{{Name: "main", Files: &crossed}},
			[]string{"certificate main: files.key: " + b.Key + " (for " + a.Cert + "): tls: private key does not match public key"},
		},
		{"swapped", []certs.Config{{Name: "main", Files: &swapped}}, []string{"files.cert: " + a.Key + ": no certificate in PEM form"}},
		{"no file", []certs.Config{{Name: "main", Files: &missing}}, []string{"files.key: open " + missing.Key + ": no such file"}},
		{
			"broken, and another one",
			[]certs.Config{{Name: "main", Files: &certs.Files{Cert: broken, Key: a.Key}}, {Name: "two", Files: &crossed}},
			[]string{"certificate main: files.cert: " + broken + ": certificate 1 of the chain: ", "certificate two: files.key: "},
		},
		{"both", []certs.Config{{Name: "main", Files: &a.Files, SelfSigned: true}}, []string{"certificate main: files and self_signed exclude each other"}},
		{"neither", []certs.Config{{Name: "main"}}, []string{"certificate main: one of files and self_signed is required"}},
		{"half", []certs.Config{{Name: "main", Files: &certs.Files{}}}, []string{"files.cert is required", "files.key is required"}},
		{"domains of files", []certs.Config{{Name: "main", Files: &a.Files, Domains: []string{"x"}}}, []string{"domains: a certificate from files has its names in it"}},
		{"a bad domain", []certs.Config{{Name: "main", SelfSigned: true, Domains: []string{"ok.example.net", "a..b", "x*.example.net"}}}, []string{`domains[1]: "a..b" is no host name`, `domains[2]: "x*.example.net"`}},
		{"twice", []certs.Config{files("main", a), files("main", b)}, []string{"certificate main is configured twice"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := certs.New(tt.cfg, t.TempDir(), logTo(t))
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("got  %v\nwant %s", err, w)
				}
			}
		})
	}
}

func TestOutOfTimeIsLogged(t *testing.T) {
	for _, tt := range []struct {
		name     string
		from, to time.Duration
		want     string
	}{
		{"valid", -time.Hour, time.Hour, ""},
		{"expired", -2 * time.Hour, -time.Hour, "certificate has expired"},
		{"early", time.Hour, 2 * time.Hour, "certificate is not yet valid"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			log := slog.New(slog.NewTextHandler(&out, nil))
			if _, err := certs.New([]certs.Config{files("main", write(t, false, tt.from, tt.to, "a.example.net"))}, "", log); err != nil {
				t.Fatal(err)
			}
			if got := out.String(); tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
				t.Errorf("log: %q", got)
			}
		})
	}
}

func TestReload(t *testing.T) {
	a, b := good(t, "a.example.net"), good(t, "b.example.net")
	s, err := certs.New([]certs.Config{files("main", a), {Name: "dev", SelfSigned: true}}, t.TempDir(), logTo(t))
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := s.TLSConfig(certs.Terms{Certificates: []string{"main", "dev"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := func(step string, der []byte) {
		t.Helper()
		if got := presented(t, cfg, "a.example.net", nil).PeerCertificates[0]; !bytes.Equal(got.Raw, der) {
			t.Errorf("%s: got %s", step, got.Subject.CommonName)
		}
	}
	want("start", a.der)
	put(t, a.Cert, []byte("garbage"))
	if err := s.Reload(); err == nil || !strings.Contains(err.Error(), "certificate main: files.cert: "+a.Cert) {
		t.Fatalf("Reload of garbage: %v", err)
	}
	want("garbage", a.der)
	for from, to := range map[string]string{b.Cert: a.Cert, b.Key: a.Key} {
		content, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		put(t, to, content)
	}
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	want("renewed", b.der)
}
