package main_test

import (
	"crypto/tls"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"anyedge/internal/testpeer"
)

// makeCert writes a self-signed certificate of that name.
func makeCert(t *testing.T, dir, name string) {
	t.Helper()
	testpeer.Need(t, "openssl")
	out, err := exec.CommandContext(t.Context(), "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
		"-nodes", "-days", "2", "-subj", "/CN="+name, "-addext", "subjectAltName=DNS:"+name,
		"-keyout", filepath.Join(dir, "key.pem"), "-out", filepath.Join(dir, "cert.pem")).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl: %s", out)
	}
}

// served returns the name in the certificate that the listener shows.
func served(t *testing.T, addr string) string {
	t.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].Subject.CommonName
}

// SIGHUP reads certificate files again, keeps the old one when the new one is
// no good, and never ends the process.
func TestHangupReloadsCertificates(t *testing.T) {
	dir := t.TempDir()
	makeCert(t, dir, "one.example.net")
	addr := fmt.Sprintf("127.0.0.1:%d", testpeer.FreePort(t, "127.0.0.1"))
	path := setUp(t, dir, fmt.Sprintf(`
certificates: [{name: main, files: {cert: %s/cert.pem, key: %s/key.pem}}]
listeners: [{name: https, bind: ["%s"], tls: {certificates: [main]}}]
services: [{name: shop, hosts: ["*"], backends: [{name: a, url: "http://127.0.0.1:9"}]}]
`, dir, dir, addr))
	d := startIn(t, dir)
	for _, step := range []struct {
		name, said, want string
		change           func()
	}{
		{"a new certificate", "certificates reloaded", "two.example.net", func() { makeCert(t, dir, "two.example.net") }},
		{"garbage in its place", "the old ones stay", "two.example.net", func() {
			if err := os.WriteFile(filepath.Join(dir, "cert.pem"), []byte("none"), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{"another configuration", "applies it at a restart", "two.example.net", func() {
			text := strings.Replace(string(readFile(t, path)), "name: shop", "name: store", 1)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{"a broken configuration", "is not valid, what runs stays", "two.example.net", func() {
			if err := os.WriteFile(path, []byte("version: 7\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		step.change()
		d.signal(t, syscall.SIGHUP)
		testpeer.WaitFor(t, "edged to say: "+step.said, func() bool { return strings.Contains(d.log.String(), step.said) })
		if got := served(t, addr); got != step.want {
			t.Errorf("%s: the listener shows %s, want %s", step.name, got, step.want)
		}
	}
	if d.ended() {
		t.Error("edged has ended")
	}
}
