package identity_test

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"anyedge/fabric/identity"
)

const domain = "edge.example.net"

var fra = identity.Peer{Geo: "fra", Node: "fra-edge1"}

func newCA(t *testing.T, domain string) *identity.CA {
	t.Helper()
	ca, err := identity.NewCA(domain)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func issue(t *testing.T, ca *identity.CA, p identity.Peer, from, until time.Duration) (cert, key []byte) {
	t.Helper()
	now := time.Now()
	cert, key, err := ca.Issue(p, now.Add(from), now.Add(until))
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func parse(t *testing.T, b []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(b)
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestLoad(t *testing.T) {
	ca, next, foreign := newCA(t, domain), newCA(t, domain), newCA(t, "other.example.net")
	cert, key := issue(t, ca, fra, -time.Hour, time.Hour)
	_, otherKey := issue(t, ca, fra, -time.Hour, time.Hour)
	oldCert, oldKey := issue(t, ca, fra, -2*time.Hour, -time.Hour)
	earlyCert, earlyKey := issue(t, ca, fra, time.Hour, 2*time.Hour)
	foreignCert, foreignKey := issue(t, foreign, fra, -time.Hour, time.Hour)
	both := append(next.CertPEM(), ca.CertPEM()...)
	for _, tt := range []struct {
		name          string
		cert, key, ca []byte
		want          error  // nil: any
		says          string // "" for success
	}{
		{"fits", cert, key, ca.CertPEM(), nil, ""},
		{"two CAs", cert, key, both, nil, ""},
		{"key of another certificate", cert, otherKey, ca.CertPEM(), nil, "private key does not match"},
		{"expired", oldCert, oldKey, ca.CertPEM(), identity.ErrExpired, parse(t, oldCert).NotAfter.UTC().Format(time.RFC3339)},
		{"not yet valid", earlyCert, earlyKey, ca.CertPEM(), identity.ErrExpired, "valid from " + parse(t, earlyCert).NotBefore.UTC().Format(time.RFC3339)},
		{"another CA", cert, key, next.CertPEM(), identity.ErrUntrusted, "fabric CA"},
		{"another trust domain", foreignCert, foreignKey, foreign.CertPEM(), identity.ErrTrustDomain, `"other.example.net", this fabric is "edge.example.net"`},
		{"no certificate", nil, key, ca.CertPEM(), nil, "no PEM certificate"},
		{"no CA", cert, key, []byte("x"), nil, "no PEM certificate"},
		{"a node as CA", cert, key, cert, nil, "no CA certificate"},
		{"a CA as node", ca.CertPEM(), key, ca.CertPEM(), nil, "private key does not match"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			id, err := identity.Load(domain, tt.cert, tt.key, tt.ca)
			if tt.says == "" {
				if err != nil || id.Peer != fra {
					t.Fatalf("got %v, %v", id, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.says) || tt.want != nil && !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want one that says %q", err, tt.says)
			}
		})
	}
}

func TestCheckNamesBothSides(t *testing.T) {
	ca := newCA(t, domain)
	cert, key := issue(t, ca, fra, -time.Hour, time.Hour)
	id, err := identity.Load(domain, cert, key, ca.CertPEM())
	if err != nil {
		t.Fatal(err)
	}
	if err := id.Check("fra", "fra-edge1"); err != nil {
		t.Error(err)
	}
	for _, want := range []identity.Peer{{Geo: "iad", Node: "fra-edge1"}, {Geo: "fra", Node: "fra-edge2"}} {
		err := id.Check(want.Geo, want.Node)
		if err == nil || !strings.Contains(err.Error(), fra.String()) || !strings.Contains(err.Error(), want.String()) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// Names in certificates of a CA that signs anything.
func TestVerifyNames(t *testing.T) {
	ca := newCA(t, domain)
	cert, key := issue(t, ca, fra, -time.Hour, time.Hour)
	id, err := identity.Load(domain, cert, key, ca.CertPEM())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := id.Verify(nil); !errors.Is(err, identity.ErrUntrusted) {
		t.Errorf("no certificate: %v", err)
	}
	if _, err := id.Verify([]*x509.Certificate{ca.Cert}); err == nil {
		t.Error("the CA itself passes for a node")
	}
	dir := t.TempDir()
	caKey, err := ca.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "ca.crt"), ca.CertPEM())
	write(t, filepath.Join(dir, "ca.key"), caKey)
	openssl(t, dir, "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "node.key")
	openssl(t, dir, "req", "-new", "-key", "node.key", "-subj", "/CN=x", "-out", "node.csr")
	const both = "clientAuth,serverAuth"
	for i, tt := range []struct {
		name, san, usage string
		want             error
	}{
		{"a node of another issuer's tool", "URI:spiffe://edge.example.net/geo/fra/node/fra-edge1", both, nil},
		{"no name", "DNS:fra-edge1", both, identity.ErrName},
		{"two names", "URI:spiffe://edge.example.net/geo/fra/node/a,URI:spiffe://edge.example.net/geo/iad/node/b", both, identity.ErrName},
		{"another scheme", "URI:https://edge.example.net/geo/fra/node/a", both, identity.ErrName},
		{"another path", "URI:spiffe://edge.example.net/fra/a", both, identity.ErrName},
		{"more path", "URI:spiffe://edge.example.net/geo/fra/node/a/b", both, identity.ErrName},
		{"empty node", "URI:spiffe://edge.example.net/geo/fra/node/", both, identity.ErrName},
		{"escaped slash", "URI:spiffe://edge.example.net/geo/fra/node/a%2Fb", both, identity.ErrName},
		{"capitals", "URI:spiffe://edge.example.net/geo/FRA/node/a", both, identity.ErrName},
		{"another domain", "URI:spiffe://example.org/geo/fra/node/a", both, identity.ErrTrustDomain},
		{"server only", "URI:spiffe://edge.example.net/geo/fra/node/a", "serverAuth", identity.ErrUntrusted},
		{"client only", "URI:spiffe://edge.example.net/geo/fra/node/a", "clientAuth", identity.ErrUntrusted},
	} {
		t.Run(tt.name, func(t *testing.T) {
			write(t, filepath.Join(dir, "ext"), []byte("subjectAltName="+tt.san+"\nextendedKeyUsage="+tt.usage+"\n"))
			openssl(t, dir, "x509", "-req", "-in", "node.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-set_serial", fmt.Sprint(i+1), "-days", "1", "-extfile", "ext", "-out", "node.crt")
			b, err := os.ReadFile(filepath.Join(dir, "node.crt"))
			if err != nil {
				t.Fatal(err)
			}
			p, err := id.Verify([]*x509.Certificate{parse(t, b)})
			if !errors.Is(err, tt.want) || tt.want == nil && p != fra {
				t.Fatalf("got %v, %v; want %v", p, err, tt.want)
			}
		})
	}
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func openssl(t *testing.T, dir string, args ...string) {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("EDGE_TEST_STRICT") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestInitAndIssueTo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "fabric")
	if err := identity.Init(dir, domain); err != nil {
		t.Fatal(err)
	}
	if err := identity.IssueTo(dir, "fra", "fra-edge1"); err != nil {
		t.Fatal(err)
	}
	want := map[string]fs.FileMode{
		"ca.crt": 0o644, "ca.key": 0o600, "secret": 0o600, "fra-fra-edge1.crt": 0o644, "fra-fra-edge1.key": 0o600,
	}
	before := read(t, dir)
	if len(before) != len(want) {
		t.Errorf("files %v", before)
	}
	for name, mode := range want {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	id, err := identity.Load(domain, []byte(before["fra-fra-edge1.crt"]), []byte(before["fra-fra-edge1.key"]), []byte(before["ca.crt"]))
	if err != nil || id.Check("fra", "fra-edge1") != nil {
		t.Errorf("the issued certificate: %v", err)
	}

	// Nothing is ever overwritten, and a refused Init leaves nothing behind.
	for _, gone := range []string{"", "ca.crt", "ca.key"} {
		if gone != "" {
			if err := os.Remove(filepath.Join(dir, gone)); err != nil {
				t.Fatal(err)
			}
			delete(before, gone)
		}
		err := identity.Init(dir, domain)
		if err == nil || !strings.Contains(err.Error(), "exists and is not overwritten") {
			t.Errorf("Init without %q: %v", gone, err)
		}
		if after := read(t, dir); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("Init without %q changed the directory", gone)
		}
	}
	if err := identity.IssueTo(dir, "fra", "fra-edge2"); err == nil || !strings.Contains(err.Error(), "edgectl fabric init") {
		t.Errorf("IssueTo without a CA: %v", err)
	}
}

func TestIssueToRefuses(t *testing.T) {
	dir := t.TempDir()
	if err := identity.Init(dir, domain); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		err := identity.IssueTo(dir, "fra", "a")
		if err != nil && !strings.Contains(err.Error(), "exists") {
			t.Error(err)
		}
	}
	for _, p := range []identity.Peer{{Geo: "", Node: "a"}, {Geo: "fra", Node: ""}, {Geo: "fra", Node: "a/b"}, {Geo: "Fra", Node: "a"}, {Geo: "..", Node: "a"}} {
		if err := identity.IssueTo(dir, p.Geo, p.Node); err == nil {
			t.Errorf("%q was issued", p)
		}
	}
	for _, d := range []string{"", "Edge", "a b", "a/b", "-a"} {
		if err := identity.Init(t.TempDir(), d); err == nil {
			t.Errorf("trust domain %q was taken", d)
		}
	}
}

// read returns the files in dir.
func read(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(b)
	}
	return files
}

func TestSecret(t *testing.T) {
	s, err := identity.NewSecret()
	if err != nil {
		t.Fatal(err)
	}
	b := s.Encode()
	again, err := identity.ParseSecret(b)
	if err != nil || again != s {
		t.Fatalf("%q: %v", b, err)
	}
	if !strings.HasPrefix(string(b), "edge fleet secret v1\n") {
		t.Errorf("the file begins with %q", b[:20])
	}
	for _, bad := range []string{"", "edge fleet secret v1", "edge fleet secret v1\nabc\n", "edge fleet secret v2\n" + strings.Repeat("a", 64), string(b) + "00"} {
		if _, err := identity.ParseSecret([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	for _, text := range []string{fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %s", s, s, s, s)} {
		if strings.Contains(text, fmt.Sprintf("%x", s[:4])) {
			t.Errorf("it prints as %q", text)
		}
	}
}

// The expected keys come from openssl, which derives the same.
func TestSecretKeys(t *testing.T) {
	s, err := identity.ParseSecret([]byte("edge fleet secret v1\n" + strings.Repeat("0b", 32) + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	seen := map[[32]byte]bool{}
	for _, tt := range []struct {
		purpose string
		epoch   uint32
	}{{"quic-stateless-reset", 0}, {"quic-stateless-reset", 1}, {"fabric-stateless-reset", 0}} {
		info := fmt.Sprintf("%x00%08x", "edge/"+tt.purpose, tt.epoch)
		openssl(t, dir, "kdf", "-keylen", "32", "-kdfopt", "digest:SHA256", "-kdfopt", "hexkey:"+strings.Repeat("0b", 32),
			"-kdfopt", "hexinfo:"+info, "-binary", "-out", "key", "HKDF")
		b, err := os.ReadFile(filepath.Join(dir, "key"))
		if err != nil {
			t.Fatal(err)
		}
		key := s.Key(tt.purpose, tt.epoch)
		if string(b) != string(key[:]) {
			t.Errorf("%s %d: %x, openssl says %x", tt.purpose, tt.epoch, key, b)
		}
		seen[key] = true
	}
	if len(seen) != 3 {
		t.Error("two purposes share a key")
	}
}

func TestExposed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "k")
	write(t, path, nil)
	if w := identity.Exposed(path); w != "" {
		t.Errorf("mode 0600: %q", w)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if w := identity.Exposed(path); !strings.Contains(w, "chmod 600 "+path) {
		t.Errorf("mode 0640: %q", w)
	}
	if w := identity.Exposed(path + "x"); w != "" {
		t.Errorf("no file: %q", w)
	}
}
