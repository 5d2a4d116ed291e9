package main_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"anyedge/internal/admin/client"
	"anyedge/internal/api"
	"anyedge/internal/testpeer"
)

// edgedBinary is the program under test; TestMain builds it.
var edgedBinary string

func TestMain(m *testing.M) {
	os.Exit(buildAndRun(m))
}

// buildAndRun builds the daemon once for all tests: they start it as a process,
// as an operator does.
func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "edged-test")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	edgedBinary = filepath.Join(dir, "edged")
	build := exec.CommandContext(context.Background(), "go", "build", "-o", edgedBinary, ".")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build edged:", err)
		return 1
	}
	if err := os.Chmod(dir, 0o755); err != nil { // tests start it as another user, too
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// A daemon is a running edged.
type daemon struct {
	dir    string // of its files
	cmd    *exec.Cmd
	log    *output // its stderr
	admin  *client.Client
	exited chan struct{}
}

// setUp writes the configuration, completed by what every test's has, and
// returns its path.
func setUp(t *testing.T, dir, config string) string {
	t.Helper()
	text := "version: 1\n" + config
	if !strings.Contains(config, "\nadmin:") {
		text += fmt.Sprintf("\nadmin: {socket: %s}\n", filepath.Join(dir, "edged.sock"))
	}
	if !strings.Contains(config, "\nstate:") {
		text += fmt.Sprintf("\nstate: {dir: %s}\n", filepath.Join(dir, "state"))
	}
	path := filepath.Join(dir, "edged.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// start runs edged with the configuration until the test ends, and waits until
// it serves.
func start(t *testing.T, config string) *daemon {
	t.Helper()
	dir := t.TempDir()
	setUp(t, dir, config)
	return startIn(t, dir)
}

// startIn runs edged with the files in dir.
func startIn(t *testing.T, dir string) *daemon {
	t.Helper()
	return startWith(t, dir, edgedBinary, "--config", filepath.Join(dir, "edged.yaml"))
}

// startWith runs a command that becomes edged with the files in dir.
func startWith(t *testing.T, dir string, command ...string) *daemon {
	t.Helper()
	d := &daemon{dir: dir, log: &output{}, exited: make(chan struct{}), admin: client.New(filepath.Join(dir, "edged.sock"))}
	d.cmd = exec.Command(command[0], command[1:]...)
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = d.cmd.Wait()
		close(d.exited)
	}()
	t.Cleanup(func() {
		d.admin.Close()
		d.kill()
		if t.Failed() {
			t.Logf("edged in %s said:\n%s", dir, d.log)
		}
	})
	testpeer.WaitFor(t, "edged to serve", func() bool {
		if d.ended() {
			t.Fatalf("edged ended with %s:\n%s", d.cmd.ProcessState, d.log)
		}
		return strings.Contains(d.log.String(), `"edged serves"`)
	})
	return d
}

func (d *daemon) ended() bool {
	select {
	case <-d.exited:
		return true
	default:
		return false
	}
}

// signal sends sig.
func (d *daemon) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := d.cmd.Process.Signal(sig); err != nil {
		t.Fatalf("signal %s: %v", sig, err)
	}
}

// kill ends the process with SIGKILL and waits for its end.
func (d *daemon) kill() {
	_ = d.cmd.Process.Kill()
	<-d.exited
}

// wantEnd waits for the end of the process, which must be in peace.
func (d *daemon) wantEnd(t *testing.T) {
	t.Helper()
	select {
	case <-d.exited:
	case <-time.After(testpeer.Patience):
		t.Fatal("edged does not end")
	}
	if got := d.cmd.ProcessState.ExitCode(); got != 0 {
		t.Errorf("exit code %d, want 0", got)
	}
}

// routes asks the daemon what it announces.
func (d *daemon) routes(t *testing.T) api.Routes {
	t.Helper()
	r, err := d.admin.Routes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// ca returns the path of the development CA that the status shows.
func (d *daemon) ca(t *testing.T) string {
	t.Helper()
	s, err := d.admin.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range s.Parts {
		if _, path, ok := strings.Cut(p.Text, "--cacert "); ok && p.Name == "certs" {
			return path
		}
	}
	t.Fatalf("the status shows no CA: %+v", s.Parts)
	return ""
}

// browser returns an HTTP client that trusts the CA and opens a new connection
// for every request, so that each one meets the listener.
func browser(t *testing.T, caFile string) *http.Client {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	if caFile != "" {
		transport.TLSClientConfig = &tls.Config{RootCAs: caPool(t, caFile)}
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: testpeer.Patience}
}

func caPool(t *testing.T, file string) *x509.CertPool {
	t.Helper()
	pem, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatalf("%s holds no certificate", file)
	}
	return pool
}

// A reply is an answer that was read to its end.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// ask sends one request and reads the answer.
func ask(ctx context.Context, c *http.Client, method, url string, body []byte, fields ...string) (reply, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	for i := 0; i+1 < len(fields); i += 2 {
		if fields[i] == "Host" {
			r.Host = fields[i+1]
			continue
		}
		r.Header.Set(fields[i], fields[i+1])
	}
	resp, err := c.Do(r)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, b}, err
}

// mustAsk is ask where an error ends the test.
func mustAsk(t *testing.T, c *http.Client, method, url string, body []byte, fields ...string) reply {
	t.Helper()
	got, err := ask(t.Context(), c, method, url, body, fields...)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return got
}

// A ran is a program that has ended.
type ran struct {
	code           int
	stdout, stderr string
}

// runEdged runs edged to its end, which must come by itself.
func runEdged(t *testing.T, attr *syscall.SysProcAttr, args ...string) ran {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testpeer.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, edgedBinary, args...)
	cmd.Env = append(os.Environ(), "EDGED_CONFIG=")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if attr == nil {
		attr = &syscall.SysProcAttr{}
	}
	attr.Pdeathsig = syscall.SIGKILL
	cmd.SysProcAttr = attr
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Fatalf("edged %s did not end:\n%s%s", strings.Join(args, " "), &out, &errs)
	}
	return ran{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// output is a bytes.Buffer for several goroutines.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (d *daemon) startedAt(t *testing.T) time.Time {
	t.Helper()
	v, err := d.admin.Version(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return v.Started
}
