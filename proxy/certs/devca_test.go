package certs_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"anyedge/proxy/certs"
)

const helperDir = "EDGE_TEST_DEV_CA_DIR"

// TestMain lets the test binary be one of several processes that make a CA.
func TestMain(m *testing.M) {
	if dir := os.Getenv(helperDir); dir != "" {
		os.Exit(makeCA(dir))
	}
	os.Exit(m.Run())
}

// makeCA opens a store and prints the authority of what it presents.
func makeCA(dir string) int {
	s, err := certs.New([]certs.Config{dev}, dir, slog.New(slog.DiscardHandler))
	if err != nil {
		_, _ = os.Stderr.WriteString(err.Error())
		return 1
	}
	text, err := os.ReadFile(s.CAPath())
	if err != nil {
		_, _ = os.Stderr.WriteString(err.Error())
		return 1
	}
	_, _ = os.Stdout.Write(text)
	return 0
}

var dev = certs.Config{Name: "dev", SelfSigned: true, Domains: []string{"www.example.net", "*.app.example.net", "192.0.2.7"}}

func devStore(t *testing.T, dir string) (*certs.Store, *tls.Config) {
	t.Helper()
	s, err := certs.New([]certs.Config{dev}, dir, logTo(t))
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := s.TLSConfig(certs.Terms{Certificates: []string{"dev"}}, []string{"h2", "h1"})
	if err != nil {
		t.Fatal(err)
	}
	return s, cfg
}

func caPool(t *testing.T, s *certs.Store) *x509.CertPool {
	t.Helper()
	text, err := os.ReadFile(s.CAPath())
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		t.Fatal("no certificate in CAPath")
	}
	return pool
}

func TestDevCA(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	old := syscall.Umask(0o077) // must not keep curl of another user out
	defer syscall.Umask(old)
	s, cfg := devStore(t, state)
	if want := filepath.Join(state, "dev-ca", "ca.crt"); s.CAPath() != want {
		t.Errorf("CAPath = %s, want %s", s.CAPath(), want)
	}
	for file, want := range map[string]os.FileMode{"ca.crt": 0o644, "ca.key": 0o600} {
		info, err := os.Stat(filepath.Join(state, "dev-ca", file))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", file, info, err)
		}
	}
	left, err := os.ReadDir(state)
	if err != nil || len(left) != 1 {
		t.Errorf("the state directory holds %v, %v", left, err)
	}
	leaf := presented(t, cfg, "www.example.net", nil).PeerCertificates[0]
	if d := leaf.NotAfter.Sub(leaf.NotBefore); d >= 398*24*time.Hour || d < 365*24*time.Hour {
		t.Errorf("the leaf is valid for %s", d)
	}
	roots := caPool(t, s)
	for _, name := range []string{"www.example.net", "x.app.example.net", "localhost", "127.0.0.1", "::1", "192.0.2.7"} {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "other.example.net"}); err == nil {
		t.Error("valid for a name that is not configured")
	}

	again, _ := devStore(t, state)
	if !caPool(t, again).Equal(roots) {
		t.Error("a second start made another CA")
	}
}

func TestDevCADamaged(t *testing.T) {
	leaf := good(t, "a.example.net")
	for _, tt := range []struct {
		name   string
		damage func(dir string) error
		want   string
	}{
		{"no key", func(dir string) error { return os.Remove(filepath.Join(dir, "ca.key")) }, "one of ca.crt and ca.key is missing: remove "},
		{"no certificate", func(dir string) error { return os.Remove(filepath.Join(dir, "ca.crt")) }, "one of ca.crt and ca.key is missing: remove "},
		{"garbage", func(dir string) error { return os.WriteFile(filepath.Join(dir, "ca.key"), []byte("x"), 0o600) }, "files.key: "},
		{"no CA", func(dir string) error {
			return errors.Join(os.Rename(leaf.Cert, filepath.Join(dir, "ca.crt")), os.Rename(leaf.Key, filepath.Join(dir, "ca.key")))
		}, "is no CA: remove "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			state := t.TempDir()
			s, _ := devStore(t, state)
			if err := tt.damage(filepath.Dir(s.CAPath())); err != nil {
				t.Fatal(err)
			}
			_, err := certs.New([]certs.Config{dev}, state, logTo(t))
			if err == nil || !strings.Contains(err.Error(), "development CA: ") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// Processes that start at once end with one CA, complete for each of them.
func TestDevCAMadeByManyProcesses(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	state := t.TempDir()
	const processes = 6
	var out [processes]bytes.Buffer
	var errs [processes]error
	var wg sync.WaitGroup
	for i := range processes {
		wg.Go(func() {
			cmd := exec.CommandContext(t.Context(), self)
			cmd.Env = append(os.Environ(), helperDir+"="+state)
			cmd.Stdout, cmd.Stderr = &out[i], t.Output()
			errs[i] = cmd.Run()
		})
	}
	wg.Wait()
	for i := range processes {
		if errs[i] != nil {
			t.Fatalf("process %d: %v", i, errs[i])
		}
		if block, _ := pem.Decode(out[i].Bytes()); block == nil || !bytes.Equal(out[i].Bytes(), out[0].Bytes()) {
			t.Errorf("process %d has another CA: %s", i, out[i].String())
		}
	}
	if left, err := os.ReadDir(state); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// serve answers over TLS on loopback until the test ends.
func serve(t *testing.T, cfg *tls.Config) (port string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{ReadHeaderTimeout: time.Minute, ErrorLog: slog.NewLogLogger(logTo(t).Handler(), slog.LevelInfo), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("hello over " + r.Proto))
	})}
	done := make(chan struct{})
	go func() { _ = srv.Serve(tls.NewListener(l, cfg)); close(done) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	_, port, err = net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// tool returns the path of a real peer.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("EDGE_TEST_STRICT") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return path
}

func run(t *testing.T, stdin string, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestCurlTrustsTheDevCA(t *testing.T) {
	curl := tool(t, "curl")
	s, cfg := devStore(t, t.TempDir())
	port := serve(t, cfg)
	for _, host := range []string{"www.example.net", "x.app.example.net", "localhost", "127.0.0.1"} {
		out, err := run(t, "", curl, "-sS", "--noproxy", "*", "--cacert", s.CAPath(), "--connect-to", "::127.0.0.1:"+port, "https://"+host+":"+port+"/")
		if err != nil || !strings.HasPrefix(out, "hello over HTTP/") {
			t.Errorf("%s: %v, %s", host, err, out)
		}
	}
	if out, err := run(t, "", curl, "-sS", "--noproxy", "*", "--cacert", s.CAPath(), "--connect-to", "::127.0.0.1:"+port, "https://other.example.net:"+port+"/"); err == nil {
		t.Errorf("curl took the certificate for another name: %s", out)
	}
}

func TestOpenSSLHandshakes(t *testing.T) {
	openssl := tool(t, "openssl")
	s, cfg := devStore(t, t.TempDir())
	port := serve(t, cfg)
	strict, err := s.TLSConfig(certs.Terms{Certificates: []string{"dev"}, MinVersion: "1.3"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	port13 := serve(t, strict)
	for _, tt := range []struct {
		name string
		port string
		args []string
		ok   bool
		want string
	}{
		{"1.3", port, []string{"-tls1_3"}, true, "Verify return code: 0 (ok)"},
		{"1.2", port, []string{"-tls1_2"}, true, "Verify return code: 0 (ok)"},
		{"1.2 with ChaCha", port, []string{"-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"}, true, "ECDHE-ECDSA-CHACHA20-POLY1305"},
		{"1.2 with CBC", port, []string{"-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"}, false, "handshake failure"},
		{"1.1", port, []string{"-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"}, false, "protocol version"},
		{"1.2 where 1.3 is required", port13, []string{"-tls1_2"}, false, "protocol version"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"s_client", "-connect", "127.0.0.1:" + tt.port, "-servername", "www.example.net", "-verify_hostname", "www.example.net", "-verify_return_error", "-CAfile", s.CAPath()}, tt.args...)
			out, err := run(t, "Q\n", openssl, args...)
			if (err == nil) != tt.ok || !strings.Contains(out, tt.want) {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// A second connection resumes the session of the first.
func TestSessionsResume(t *testing.T) {
	s, cfg := devStore(t, t.TempDir())
	port := serve(t, cfg)
	cache := tls.NewLRUClientSessionCache(1)
	roots := caPool(t, s)
	for i := range 2 {
		tr := &http.Transport{TLSClientConfig: &tls.Config{ClientSessionCache: cache, RootCAs: roots, ServerName: "localhost"}, DisableKeepAlives: true}
		resp, err := (&http.Client{Transport: tr}).Get("https://127.0.0.1:" + port + "/")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = bytes.NewBuffer(nil).ReadFrom(resp.Body)
		_ = resp.Body.Close()
		if resp.TLS.DidResume != (i == 1) {
			t.Errorf("connection %d: resumed %v", i, resp.TLS.DidResume)
		}
	}
}
