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
	"strings"
	"syscall"
	"time"
)

// Ports of the contestants, all on 127.0.0.1.
const (
	edgedPort   = 9441
	nginxPort   = 9442
	haproxyPort = 9443
	backendPort = 9440
)

// A contestant is one proxy under measurement.
type contestant struct {
	name    string // with its version
	port    int
	process *exec.Cmd
}

// files are what the contestants share.
type files struct {
	dir, cert, key, both string
}

// makeFiles writes one ECDSA P-256 certificate for all.
func makeFiles(dir string) (files, error) {
	f := files{dir, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "both.pem")}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return f, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench.example.net"},
		DNSNames: []string{"bench.example.net"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return f, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return f, err
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	return f, errors.Join(
		os.WriteFile(f.cert, certPEM, 0o600),
		os.WriteFile(f.key, keyPEM, 0o600),
		os.WriteFile(f.both, append(certPEM, keyPEM...), 0o600),
	)
}

const edgedConf = `version: 1
certificates:
  - {name: bench, files: {cert: %[1]s, key: %[2]s}}
listeners:
  - {name: https, bind: ["127.0.0.1:%[3]d"], protocols: [h1, h2], tls: {certificates: [bench]}}
services:
  - name: bench
    hosts: ["*"]
    backends: [{name: one, url: "http://127.0.0.1:%[4]d"}]
admin: {socket: %[5]s}
state: {dir: %[6]s}
log: {level: warn, access: {sample: 0}}
`

const nginxConf = `daemon off; master_process off; worker_processes 1; pid %[6]s/nginx.pid;
error_log stderr warn;
events { worker_connections 4096; }
http {
  access_log off;
  client_body_temp_path %[6]s/body; proxy_temp_path %[6]s/proxy; fastcgi_temp_path %[6]s/f; uwsgi_temp_path %[6]s/u; scgi_temp_path %[6]s/s;
  keepalive_requests 1000000;
  upstream backend { server 127.0.0.1:%[4]d; keepalive 64; keepalive_requests 1000000; }
  server {
    listen 127.0.0.1:%[3]d ssl http2;
    ssl_certificate %[1]s; ssl_certificate_key %[2]s; ssl_protocols TLSv1.2 TLSv1.3;
    location / {
      proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }
  }
}
`

const haproxyConf = `global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout connect 1s
  timeout client 75s
  timeout server 30s
  option forwardfor
frontend f
  bind 127.0.0.1:%[3]d ssl crt %[7]s alpn h2,http/1.1
  default_backend b
backend b
  http-reuse always
  server one 127.0.0.1:%[4]d check
`

// start runs every contestant on core 0 and waits until each answers.
func start(ctx context.Context, f files) ([]*contestant, error) {
	edged := filepath.Join(f.dir, "edged")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", edged, "./cmd/edged").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build edged: %s", out)
	}
	all := []*contestant{
		{name: "edged", port: edgedPort},
		{name: "nginx " + version(ctx, "nginx", "-v", "nginx/"), port: nginxPort},
		{name: "HAProxy " + version(ctx, "haproxy", "-v", "version "), port: haproxyPort},
	}
	commands := []struct {
		conf string
		args []string
	}{
		{edgedConf, []string{edged, "--config"}},
		{nginxConf, []string{"nginx", "-e", "stderr", "-p", f.dir, "-c"}},
		{haproxyConf, []string{"haproxy", "-f"}},
	}
	for i, c := range all {
		conf := filepath.Join(f.dir, fmt.Sprintf("contestant%d.yaml", i))
		text := fmt.Sprintf(commands[i].conf+"%[8]s", f.cert, f.key, c.port, backendPort, filepath.Join(f.dir, "edged.sock"), f.dir, f.both, "")
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			return all, err
		}
		args := append([]string{"-c", "0"}, append(commands[i].args, conf)...)
		c.process = exec.CommandContext(ctx, "taskset", args...)
		c.process.Stderr = os.Stderr
		c.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := c.process.Start(); err != nil {
			return all, fmt.Errorf("start %s: %w", c.name, err)
		}
		if err := waitTLS(ctx, c.port); err != nil {
			return all, fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return all, nil
}

// stop ends what start began.
func stop(all []*contestant) {
	for _, c := range all {
		if c.process != nil && c.process.Process != nil {
			_ = c.process.Process.Kill()
			_ = c.process.Wait()
		}
	}
}

// version asks a program for its version: the word behind mark.
func version(ctx context.Context, program, flag, mark string) string {
	out, err := exec.CommandContext(ctx, program, flag).CombinedOutput()
	if err != nil {
		return "(not found)"
	}
	_, rest, _ := strings.Cut(string(out), mark)
	word, _, _ := strings.Cut(rest, " ")
	return strings.TrimSpace(word)
}

// waitTLS waits until something completes a TLS handshake at the port.
func waitTLS(ctx context.Context, port int) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // a certificate made a moment ago
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
