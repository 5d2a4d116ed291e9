package main_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"anyedge/internal/admin/client"
	"anyedge/internal/testpeer"
)

// A lineage is an edged and those that take its place.
type lineage struct {
	dir, log string
	pid      int // of the one that serves
	first    *exec.Cmd
}

// startLineage runs edged so that its output outlives it.
func startLineage(t *testing.T, config string, env []string, files ...*os.File) *lineage {
	t.Helper()
	l := &lineage{dir: t.TempDir()}
	l.log = filepath.Join(l.dir, "log")
	out, err := os.Create(l.log)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	args := []string{edgedBinary, "--config", setUp(t, l.dir, config)}
	if len(env) > 0 { // the process that becomes edged knows its number
		args = append([]string{"sh", "-c", strings.Join(env, " ") + ` exec "$@"`, "sh"}, args...)
	}
	l.first = exec.Command(args[0], args[1:]...)
	l.first.Stdout, l.first.Stderr, l.first.ExtraFiles = out, out, files
	l.first.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := l.first.Start(); err != nil {
		t.Fatal(err)
	}
	l.pid = l.first.Process.Pid
	ended := make(chan struct{})
	go func() { defer close(ended); _ = l.first.Wait() }()
	t.Cleanup(func() {
		_ = syscall.Kill(-l.first.Process.Pid, syscall.SIGKILL) // of all generations
		<-ended
		if t.Failed() {
			t.Log(string(readFile(t, l.log)))
		}
	})
	testpeer.WaitFor(t, "edged to serve", func() bool { return l.says(t, `"edged serves"`) == 1 })
	return l
}

// says counts lines of the log.
func (l *lineage) says(t *testing.T, text string) int {
	t.Helper()
	return strings.Count(string(readFile(t, l.log)), text)
}

var successorForm = regexp.MustCompile(`another process has the sockets.*"pid":(\d+)`)

// next has a successor take over, and waits until it has.
func (l *lineage) next(t *testing.T) {
	t.Helper()
	before := l.says(t, "another process has the sockets")
	if err := syscall.Kill(l.pid, syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	testpeer.WaitFor(t, "a successor", func() bool { return l.says(t, "another process has the sockets") == before+1 })
	all := successorForm.FindAllStringSubmatch(string(readFile(t, l.log)), -1)
	l.pid, _ = strconv.Atoi(all[len(all)-1][1])
}

// edged gives its sockets to a successor, twice, under a steady load of new
// connections: none is refused, and no request is lost. What was under way is
// finished by who took it.
func TestHandOver(t *testing.T) {
	t.Parallel()
	app := startSlowApp(t)
	plain, secure := testpeer.FreePort(t, edgeIP), testpeer.FreePort(t, edgeIP)
	l := startLineage(t, fmt.Sprintf(`listeners:
  - {name: http, bind: ["%[1]s:%[2]d"]}
  - {name: https, bind: ["%[1]s:%[3]d"], protocols: [h1, h2, h3], tls: {certificates: [dev]}}
certificates: [{name: dev, self_signed: true, domains: [localhost]}]
services:
%[4]s`, edgeIP, plain, secure, appService(app.addr())), nil)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	slow := make(chan string, 1)
	go func() {
		got, err := ask(context.WithoutCancel(ctx), browser(t, ""), "GET", fmt.Sprintf("http://%s:%d/slow", edgeIP, plain), nil)
		slow <- fmt.Sprintf("%s %v", got.body, err)
	}()
	<-app.began

	var asked, failed atomic.Int64
	var load sync.WaitGroup
	for i := range 4 {
		url := fmt.Sprintf("http://%s:%d/", edgeIP, plain)
		if i%2 == 1 {
			url = fmt.Sprintf("https://%s:%d/", edgeIP, secure)
		}
		load.Go(func() {
			for ctx.Err() == nil {
				// A connection for each request.
				one := &http.Client{Timeout: testpeer.Patience, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
				got, err := ask(context.WithoutCancel(ctx), one, "GET", url, nil)
				asked.Add(1)
				if err != nil || string(got.body) != "quick" {
					failed.Add(1)
					t.Errorf("%s: %q, %v", url, got.body, err)
				}
			}
		})
	}
	more := func() {
		t.Helper()
		at := asked.Load()
		testpeer.WaitFor(t, "some more requests", func() bool { return asked.Load() > at+20 })
	}
	more()
	for range 2 {
		l.next(t)
		more()
	}
	cancel()
	load.Wait()
	t.Logf("%d new connections, %d failed", asked.Load(), failed.Load())

	if v, err := client.New(filepath.Join(l.dir, "edged.sock")).Status(t.Context()); err != nil {
		t.Errorf("the admin socket: %v, %v", v, err)
	}
	if l.says(t, "edged ended") != 1 { // the second generation; the first has a request
		testpeer.WaitFor(t, "the second generation to end", func() bool { return l.says(t, "edged ended") == 1 })
	}
	app.release()
	if got := <-slow; got != "first half, second half <nil>" {
		t.Errorf("the request under way: %s", got)
	}
	testpeer.WaitFor(t, "the first generation to end", func() bool { return l.says(t, "edged ended") == 2 })
	if err := syscall.Kill(l.pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	testpeer.WaitFor(t, "the last generation to end", func() bool { return l.says(t, "edged ended") == 3 })
	if _, err := os.Stat(filepath.Join(l.dir, "edged.sock")); err == nil {
		t.Error("the admin socket is still there")
	}
}

// A successor that cannot start changes nothing.
func TestHandOverFails(t *testing.T) {
	t.Parallel()
	port := testpeer.FreePort(t, edgeIP)
	app := startSlowApp(t)
	l := startLineage(t, fmt.Sprintf("listeners: [{name: http, bind: [\"%s:%d\"]}]\nservices:\n%s", edgeIP, port, appService(app.addr())), nil)
	file := filepath.Join(l.dir, "edged.yaml")
	good := readFile(t, file)
	if err := os.WriteFile(file, []byte("version: 1\nlisteners: nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(l.pid, syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	testpeer.WaitFor(t, "a word about it", func() bool { return l.says(t, "not handed over, this process goes on") == 1 })
	url := fmt.Sprintf("http://%s:%d/", edgeIP, port)
	if got, err := ask(t.Context(), browser(t, ""), "GET", url, nil); err != nil || string(got.body) != "quick" {
		t.Errorf("afterwards: %q, %v", got.body, err)
	}
	if err := os.WriteFile(file, good, 0o600); err != nil {
		t.Fatal(err)
	}
	l.next(t)
	if got, err := ask(t.Context(), browser(t, ""), "GET", url, nil); err != nil || string(got.body) != "quick" {
		t.Errorf("after the next try: %q, %v", got.body, err)
	}
}

// Sockets that a service manager passes in are taken by the listeners of their
// addresses: here edged could not bind the port itself.
func TestListenFDs(t *testing.T) {
	t.Parallel()
	socket, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", edgeIP+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	stray, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", edgeIP+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer stray.Close()
	var files []*os.File
	for _, s := range []net.Listener{socket, stray} {
		f, err := s.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files = append(files, f)
	}
	// A client that is there before edged is waits, and is served.
	early, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", socket.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	_ = early.SetDeadline(time.Now().Add(testpeer.Patience))
	_, _ = io.WriteString(early, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
	app := startSlowApp(t)
	l := startLineage(t, fmt.Sprintf("listeners: [{name: http, bind: [\"%s\"]}]\nservices:\n%s", socket.Addr(), appService(app.addr())),
		[]string{"LISTEN_PID=$$", "LISTEN_FDS=2"}, files...)
	if b, err := io.ReadAll(early); err != nil || !strings.HasSuffix(string(b), "quick") {
		t.Errorf("got %q, %v", b, err)
	}
	if l.says(t, "no listener has the address of a socket that was passed in") != 1 {
		t.Error("nothing is said of the socket that is nobody's")
	}
}
