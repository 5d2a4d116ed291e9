// Package interop holds a running edged against programs that others wrote:
// its tests start the built binary with a configuration and ask through it
// with curl, h2load, wrk, Node.js, ngtcp2's client, Chromium and Go's
// clients. docs/interop.md says what was tried with which version.
//
// An [Edge] is that process; an [App] is the application behind it, whose
// contents a client can check. The soak test uses both, too.
package interop

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"anyedge/internal/lab"
)

// Name is what the certificate of an [Edge] is for, beside 127.0.0.1.
const Name = "localhost"

const startTime = time.Minute // for an edge to serve; a loaded machine is slow

// An Edge is a running edged with three listeners on 127.0.0.1.
type Edge struct {
	Dir     string         // of its files
	CA      string         // file
	Plain   netip.AddrPort // HTTP/1.1 without TLS
	H2C     netip.AddrPort // HTTP/2 without TLS
	TLS     netip.AddrPort // HTTP/1.1 and 2, and HTTP/3
	Process *os.Process

	log    *log
	exited chan struct{}
}

// Build builds edged into dir and returns the binary's path.
func Build(ctx context.Context, dir string) (string, error) {
	binary := filepath.Join(dir, "edged")
	out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, "anyedge/cmd/edged").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build edged: %w\n%s", err, out)
	}
	return binary, nil
}

// Start runs the binary with files in dir, which exists, at free ports, and
// waits until it serves. The services are YAML of that section.
func Start(ctx context.Context, binary, dir, services string) (*Edge, error) {
	if err := lab.IssueSite(dir, netip.MustParseAddr("127.0.0.1")); err != nil {
		return nil, err
	}
	ports, err := FreePorts(ctx, 3)
	if err != nil {
		return nil, err
	}
	e := &Edge{
		Dir: dir, CA: filepath.Join(dir, "ca.crt"), Plain: ports[0], H2C: ports[1], TLS: ports[2],
		log: newLog(), exited: make(chan struct{}),
	}
	conf := filepath.Join(dir, "edged.yaml")
	text := fmt.Sprintf(`version: 1
certificates:
  - {name: site, files: {cert: %[1]s/site.crt, key: %[1]s/site.key}}
listeners:
  - {name: http, bind: ["%[2]s"], protocols: [h1], limits: {idle: 10s}}
  - {name: h2c, bind: ["%[3]s"], protocols: [h2], limits: {idle: 10s}}
  - {name: https, bind: ["%[4]s"], protocols: [h1, h2, h3], tls: {certificates: [site]}, limits: {idle: 10s}}
admin: {socket: %[1]s/edged.sock}
state: {dir: %[1]s/state}
log: {level: info, access: {sample: 0}}
services:
%[5]s`, dir, e.Plain, e.H2C, e.TLS, services)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, binary, "--config", conf)
	cmd.Stdout, cmd.Stderr = e.log, e.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	e.Process = cmd.Process
	go func() {
		_ = cmd.Wait()
		close(e.exited)
	}()
	select {
	case <-e.log.serves:
		return e, nil
	case <-e.exited:
		return nil, fmt.Errorf("edged ended:\n%s", e.Log())
	case <-time.After(startTime):
	case <-ctx.Done():
	}
	return nil, errors.Join(fmt.Errorf("edged does not serve:\n%s", e.Log()), e.Stop())
}

// Log returns what the process wrote, its last part if that is long.
func (e *Edge) Log() string { return e.log.String() }

// Stop ends the process as an operator does, and waits for its end.
func (e *Edge) Stop() error {
	return e.end(syscall.SIGTERM)
}

// Stacks ends the process by way of a dump of its goroutines and returns that.
func (e *Edge) Stacks() (string, error) {
	err := e.end(syscall.SIGQUIT)
	_, dump, _ := strings.Cut(e.Log(), "SIGQUIT: quit")
	return dump, err
}

func (e *Edge) end(sig syscall.Signal) error {
	if err := e.Process.Signal(sig); err != nil {
		return err
	}
	select {
	case <-e.exited:
		return nil
	case <-time.After(startTime):
		err := errors.Join(errors.New("edged does not end"), e.Process.Kill())
		<-e.exited
		return err
	}
}

const logSize = 4 << 20 // bytes that are kept

// A log keeps the last of what is written and sees when the process serves.
type log struct {
	serves chan struct{}

	mu    sync.Mutex // guards what follows
	kept  []byte
	ready bool
}

func newLog() *log { return &log{serves: make(chan struct{})} }

// Write keeps p.
func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = append(l.kept, p...)
	if !l.ready && strings.Contains(string(l.kept), `"edged serves"`) {
		l.ready = true
		close(l.serves)
	}
	if extra := len(l.kept) - logSize; extra > 0 {
		l.kept = l.kept[extra:]
	}
	return len(p), nil
}

// String returns what is kept.
func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.kept)
}
