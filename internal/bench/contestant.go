package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Ports, all on 127.0.0.1: the backend's, and behind it two for each contestant.
const backendPort = 9440

// A contestant is one proxy under measurement.
type contestant struct {
	name       string // with its version
	kind       string // key of kinds
	plain, tls int    // ports
	process    *exec.Cmd
}

// An entry is a program that shall take part.
type entry struct {
	label, kind, binary string
}

// parsePeer reads NAME=BINARY, where NAME is a kind or starts with one and a
// hyphen.
func parsePeer(s string) (entry, error) {
	label, binary, ok := strings.Cut(s, "=")
	name, _, _ := strings.Cut(label, "-")
	if _, known := kinds[name]; !ok || !known {
		return entry{}, fmt.Errorf("%q: want NAME=BINARY, NAME being edged, nginx, haproxy or caddy, with -ANYTHING behind it if you like", s)
	}
	path, err := exec.LookPath(binary)
	if err != nil {
		return entry{}, err
	}
	if path, err = filepath.Abs(path); err != nil {
		return entry{}, err
	}
	return entry{label, name, path}, nil
}

// entries are the programs that take part: edged as this checkout has it, the
// peers that the rows name, and those of the command line.
func (o proxyOptions) entries(ctx context.Context, dir string) ([]entry, error) {
	edged := filepath.Join(dir, "edged")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", edged, "./cmd/edged").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build edged: %s", out)
	}
	all := []entry{{"edged", "edged", edged}}
	for _, name := range []string{"nginx", "haproxy", "caddy"} {
		k := kinds[name]
		if !k.wanted(o.rows) {
			continue
		}
		path, err := exec.LookPath(k.binary)
		if err != nil {
			return nil, fmt.Errorf("%s is a peer of this benchmark: %w", k.title, err)
		}
		all = append(all, entry{k.title, name, path})
	}
	return append(all, o.peers...), nil
}

// wanted reports whether one of the rows measures programs of this kind.
func (k kind) wanted(rows []row) bool {
	return slices.ContainsFunc(rows, k.takes)
}

// takes reports whether the row measures programs of this kind.
func (k kind) takes(r row) bool {
	return r.h3 && k.h3 || !r.h3 && k.h12
}

// start runs every contestant on core 0 and waits until each answers. What it
// returns has to be stopped, with an error too.
func start(ctx context.Context, dir string, entries []entry) ([]*contestant, error) {
	shared := setting{
		Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), Both: filepath.Join(dir, "both.pem"),
		Backend: backendPort,
	}
	if err := writeCertificate(shared); err != nil {
		return nil, err
	}
	var all []*contestant
	for i, e := range entries {
		k := kinds[e.kind]
		c := &contestant{name: e.label, kind: e.kind, plain: backendPort + 1 + 2*i, tls: backendPort + 2 + 2*i}
		if i > 0 {
			c.name += " " + k.versionOf(ctx, e.binary)
		}
		s := shared
		s.Dir, s.Plain, s.TLS = filepath.Join(dir, fmt.Sprint(i)), c.plain, c.tls
		all = append(all, c)
		if err := c.start(ctx, k, e.binary, s); err != nil {
			return all, fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return all, nil
}

// start writes the configuration and runs the program.
func (c *contestant) start(ctx context.Context, k kind, binary string, s setting) error {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return err
	}
	file := filepath.Join(s.Dir, "conf")
	var text strings.Builder
	if err := errors.Join(k.conf.Execute(&text, s), os.WriteFile(file, []byte(text.String()), 0o600)); err != nil {
		return err
	}
	args := append([]string{"-c", "0", binary}, k.args...)
	c.process = exec.CommandContext(ctx, "taskset", append(args, file)...)
	output, err := os.Create(filepath.Join(s.Dir, "output"))
	if err != nil {
		return err
	}
	defer func() { _ = output.Close() }()
	c.process.Stderr = output
	c.process.Env = append(os.Environ(), "HOME="+s.Dir, "XDG_CONFIG_HOME="+s.Dir, "XDG_DATA_HOME="+s.Dir)
	c.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.process.Start(); err != nil {
		return err
	}
	if err := waitTLS(ctx, c.tls); err != nil {
		said, _ := os.ReadFile(output.Name())
		return fmt.Errorf("%w\n%s", err, said)
	}
	return nil
}

// pid is the program's: taskset becomes it.
func (c *contestant) pid() int { return c.process.Process.Pid }

// stop ends what start began.
func stop(all []*contestant) {
	for _, c := range all {
		if c.process != nil && c.process.Process != nil {
			_ = c.process.Process.Kill()
			_ = c.process.Wait()
		}
	}
}

// writeCertificate writes one ECDSA P-256 certificate for all.
func writeCertificate(s setting) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench.example.net"},
		DNSNames: []string{"bench.example.net"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	return errors.Join(
		os.WriteFile(s.Cert, certPEM, 0o600),
		os.WriteFile(s.Key, keyPEM, 0o600),
		os.WriteFile(s.Both, append(certPEM, keyPEM...), 0o600),
	)
}

// clientTLS is what our own loads connect with: h2load's OpenSSL 3.0 offers
// the same key exchange.
func clientTLS(protocol string) *tls.Config {
	return &tls.Config{
		InsecureSkipVerify: true, //nolint:gosec // a certificate made a moment ago
		MinVersion:         tls.VersionTLS13,
		CurvePreferences:   []tls.CurveID{tls.X25519},
		ServerName:         "bench.example.net",
		NextProtos:         []string{protocol},
	}
}

// waitTLS waits until something completes a TLS handshake at the port.
func waitTLS(ctx context.Context, port int) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	d := tls.Dialer{Config: clientTLS("http/1.1")}
	retry := time.NewTicker(50 * time.Millisecond)
	defer retry.Stop()
	for {
		c, err := d.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return c.Close()
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			return fmt.Errorf("does not answer: %w", err)
		}
	}
}
