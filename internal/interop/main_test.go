package interop_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"anyedge/internal/interop"
	"anyedge/internal/testpeer"
)

// edge is the running edged that all tests share, with the application behind
// it: over HTTP/1.1, and below /h2c over HTTP/2.
var edge *interop.Edge

// appAddr is where the application itself listens.
var appAddr netip.AddrPort

func TestMain(m *testing.M) {
	os.Exit(runAll(m))
}

func runAll(m *testing.M) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	dir, err := os.MkdirTemp("", "edged-interop-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	appAddr = l.Addr().(*net.TCPAddr).AddrPort()
	var serving sync.WaitGroup
	defer serving.Wait()
	defer cancel()
	serving.Go(func() {
		app := interop.App(func(what string) { panic(what) }) // the handler's: its client sees no answer
		if err := interop.Serve(ctx, l, pages(app)); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	})
	if edge, err = startEdge(ctx, dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if code != 0 {
		fmt.Fprintf(os.Stderr, "edged said:\n%s", edge.Log())
	}
	if err := edge.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func startEdge(ctx context.Context, dir string) (*interop.Edge, error) {
	binary, err := interop.Build(ctx, dir)
	if err != nil {
		return nil, err
	}
	return interop.Start(ctx, binary, dir, fmt.Sprintf(`
  - {name: app, hosts: ["*"], backends: [{name: one, url: "http://%[1]s"}]}
  - {name: h2c, hosts: ["*"], paths: ["/h2c"], backends: [{name: one, url: "h2c://%[1]s"}]}
`, appAddr))
}

// clientTLS trusts the edge.
func clientTLS(t *testing.T, protocols ...string) *tls.Config {
	t.Helper()
	pem, err := os.ReadFile(edge.CA)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatal("no certificate in " + edge.CA)
	}
	return &tls.Config{RootCAs: pool, ServerName: interop.Name, NextProtos: protocols}
}

// program runs a peer that has to end with 0, and returns what it wrote to its
// standard output.
func program(t *testing.T, input string, name string, args ...string) string {
	t.Helper()
	testpeer.Need(t, name)
	ctx, cancel := context.WithTimeout(t.Context(), testpeer.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	cmd.Stdin = strings.NewReader(input)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, last(string(out)), last(stderr.String()))
	}
	return string(out)
}

// last returns the end of a long text.
func last(s string) string { return s[max(0, len(s)-2000):] }
