package proxy_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"anyedge/proxy"
	"anyedge/proxy/certs"
)

// writePair makes NAME.crt and NAME.key, valid until a time.
func writePair(t *testing.T, dir, name string, until time.Time, keyMode os.FileMode) proxy.CertificateConfig {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	of := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: until.Add(-90 * 24 * time.Hour), NotAfter: until,
	}
	der, err := x509.CreateCertificate(rand.Reader, of, of, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	files := certs.Files{Cert: filepath.Join(dir, name+".crt"), Key: filepath.Join(dir, name+".key")}
	for path, block := range map[string]*pem.Block{files.Cert: {Type: "CERTIFICATE", Bytes: der}, files.Key: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), keyMode); err != nil {
			t.Fatal(err)
		}
	}
	return proxy.CertificateConfig{Name: name, Files: &files}
}

func TestCheckCertificates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	now := time.Now()
	const aDay = 24 * time.Hour
	good := writePair(t, dir, "good", now.Add(40*aDay), 0o640)
	other := writePair(t, dir, "other", now.Add(40*aDay), 0o600)
	mixed := proxy.CertificateConfig{Name: "mixed", Files: &certs.Files{Cert: good.Files.Cert, Key: other.Files.Key}}
	missing := proxy.CertificateConfig{Name: "missing", Files: &certs.Files{Cert: filepath.Join(dir, "none.crt"), Key: good.Files.Key}}
	for _, tt := range []struct {
		config     proxy.CertificateConfig
		err, doubt string // parts of them; "": none
	}{
		{good, "", ""},
		{writePair(t, dir, "soon", now.Add(3*aDay), 0o600), "", "ends on "},
		{writePair(t, dir, "over", now.Add(-aDay), 0o600), "expired on " + now.Add(-aDay).UTC().Format(time.DateOnly), ""},
		{writePair(t, dir, "future", now.Add(100*aDay), 0o600), "not valid before ", ""},
		{writePair(t, dir, "open", now.Add(40*aDay), 0o644), "", "open.key can be read by everybody"},
		{mixed, "private key does not match", ""},
		{missing, "none.crt: no such file", ""},
		{proxy.CertificateConfig{Name: "dev", SelfSigned: true}, "", ""},
	} {
		got := proxy.CheckCertificates([]proxy.CertificateConfig{tt.config}, now)
		if len(got) != 1 || got[0].Name != tt.config.Name || got[0].SelfSigned != tt.config.SelfSigned {
			t.Fatalf("%+v", got)
		}
		wantPart(t, tt.config.Name, got[0].Err, tt.err)
		wantPart(t, tt.config.Name, got[0].Doubt, tt.doubt)
		if bad := tt.err+tt.doubt != ""; bad != (got[0].Hint != "") {
			t.Errorf("%s: hint %q", tt.config.Name, got[0].Hint)
		}
	}
}

func wantPart(t *testing.T, name string, err error, part string) {
	t.Helper()
	text := ""
	if err != nil {
		text = err.Error()
	}
	if (part == "") != (text == "") || !strings.Contains(text, part) {
		t.Errorf("%s: %q, want %q", name, text, part)
	}
}
