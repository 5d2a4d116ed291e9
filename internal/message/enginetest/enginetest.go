// Package enginetest has the tests that every engine must pass, whatever
// stands behind it: [TestServer] for the side that answers clients,
// [TestClient] for the side that asks backends. The other end is always
// someone else's implementation.
package enginetest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"anyedge/internal/message"
)

// Patience bounds what a test waits for; nothing takes so long on a machine
// that is merely busy.
const Patience = 20 * time.Second

// Log returns a log that is shown with the test's output.
func Log(t *testing.T) *slog.Logger {
	t.Helper()
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// TLS returns the two sides' configurations for the host name "edge.example"
// and 127.0.0.1.
func TLS(t *testing.T, protos ...string) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		DNSNames:     []string{"edge.example"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		IsCA:         true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	server = &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		NextProtos:   protos, MinVersion: tls.VersionTLS12,
	}
	return server, &tls.Config{RootCAs: pool, NextProtos: protos, MinVersion: tls.VersionTLS12}
}

// Listen hands every connection to a loopback address to serve until the test
// ends, and returns the address. Then it closes all that are left.
func Listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l := loopback(t)
	done := make(chan struct{})
	var conns []net.Conn // owned by the goroutine until done
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns = append(conns, c)
			serve(c)
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
		for _, c := range conns {
			_ = c.Close()
		}
	})
	return l.Addr().String()
}

// loopback listens at a free port.
func loopback(t *testing.T) net.Listener {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Stop shuts a server down, patiently, when the test ends.
func Stop(t *testing.T, shutdown func(context.Context) error) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), Patience)
		defer cancel()
		if err := shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
}

// Tool skips the test when a program is missing, or fails it when strictness
// is asked for.
func Tool(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		if os.Getenv("EDGE_TEST_STRICT") == "1" {
			t.Fatalf("%s is missing", name)
		}
		t.Skipf("%s is missing", name)
	}
}

// Text returns an answer with this content.
func Text(status int, content string) *message.Response {
	return &message.Response{Status: status, Length: int64(len(content)), Body: io.NopCloser(strings.NewReader(content))}
}

// Within fails the test when c gives nothing in time, and returns what it gave.
func Within[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(Patience):
		t.Fatalf("%s: nothing after %v", what, Patience)
		panic("unreachable")
	}
}
