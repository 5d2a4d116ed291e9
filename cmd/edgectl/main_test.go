package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"anyedge/internal/api"
)

// scriptTime is the clock of the edgectl that the scripts run.
var scriptTime = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func TestMain(m *testing.M) {
	testscript.Main(leakless{m}, map[string]func(){
		"edgectl": func() {
			e := hostEnv()
			e.now = func() time.Time { return scriptTime }
			if e.getenv("TEST_TERMINAL") != "" {
				e.answers = true
				e.width, _ = strconv.Atoi(e.getenv("TEST_TERMINAL"))
			}
			os.Exit(execute(e, os.Args[1:]))
		},
	})
}

// leakless fails a run that leaves goroutines behind.
type leakless struct{ m *testing.M }

func (l leakless) Run() int {
	code := l.m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata",
		UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"daemon": startDaemon,
			"exits":  exits,
			"served": served,
		},
		Setup: func(e *testscript.Env) error {
			e.Setenv("TZ", "UTC")
			e.Setenv("EDGECTL_SOCKET", filepath.Join(e.WorkDir, "edged.sock"))
			return nil
		},
	})
}

// exits runs a command and checks its exit code: exits CODE COMMAND ARGS...
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARGS...")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("%s: exit code %d, want %s", strings.Join(args[1:], " "), code, args[0])
	}
}

// A daemon answers from files: PATH.json, with / as -, then PATH.2.json for
// the second question of that kind, and so on; the last one stays. The file
// PATH.status has another status than 200.
type daemon struct {
	dir string

	mu    sync.Mutex
	asked map[string]int
	more  chan struct{} // closed and replaced with every question
}

// answers are the paths of the API and what they answer.
var answers = map[string]func() any{
	api.PathVersion:     func() any { return new(api.Version) },
	api.PathStatus:      func() any { return new(api.Status) },
	api.PathGeos:        func() any { return new(api.Geos) },
	api.PathRoutes:      func() any { return new(api.Routes) },
	api.PathServices:    func() any { return new(api.Services) },
	api.PathBackends:    func() any { return new(api.Backends) },
	api.PathFabricPeers: func() any { return new(api.FabricPeers) },
	api.PathEvents:      func() any { return new(api.Events) },
	api.PathL4:          func() any { return new(api.L4) },
	api.PathL4Trace:     func() any { return new(api.L4Trace) },
	api.PathExplain:     func() any { return new(api.Explanation) },
	api.PathTraces:      func() any { return new(api.Traces) },
	api.PathTraceLive:   func() any { return new(api.TraceEvent) },
	api.PathDrain:       func() any { return new(api.DrainReply) },
	api.PathUndrain:     func() any { return new(api.DrainReply) },
}

// daemons are the running ones, by script directory.
var daemons sync.Map

// startDaemon serves the files of a directory: daemon DIR.
func startDaemon(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: daemon DIR")
	}
	d := &daemon{dir: ts.MkAbs(args[0]), asked: map[string]int{}, more: make(chan struct{})}
	l, err := net.Listen("unix", ts.MkAbs("edged.sock"))
	ts.Check(err)
	s := &http.Server{Handler: d, ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l) // ends with Close
	}()
	daemons.Store(ts.MkAbs("."), d)
	ts.Defer(func() {
		_ = s.Close()
		<-done
	})
}

// served waits until a path was asked for that often: served PATH TIMES.
func served(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: served PATH TIMES")
	}
	found, ok := daemons.Load(ts.MkAbs("."))
	if !ok {
		ts.Fatalf("no daemon runs")
	}
	d := found.(*daemon)
	times, err := strconv.Atoi(args[1])
	ts.Check(err)
	for deadline := time.After(time.Minute); ; {
		d.mu.Lock()
		n, more := d.asked[args[0]], d.more
		d.mu.Unlock()
		if n >= times {
			return
		}
		select {
		case <-more:
		case <-deadline:
			ts.Fatalf("%s was asked for %d times in a minute, want %d", args[0], n, times)
		}
	}
}

func (d *daemon) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	d.asked[r.URL.Path]++
	n := d.asked[r.URL.Path]
	defer func() {
		d.mu.Lock()
		close(d.more)
		d.more = make(chan struct{})
		d.mu.Unlock()
	}()
	d.mu.Unlock()
	status, body, err := d.answer(r, n)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(fmt.Sprintf(`{"error": %q}`, err))
	}
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// answer returns the n-th answer of a path.
func (d *daemon) answer(r *http.Request, n int) (int, []byte, error) {
	base := filepath.Join(d.dir, strings.ReplaceAll(strings.TrimPrefix(r.URL.Path, "/v1/"), "/", "-"))
	if r.Method == http.MethodPost {
		var req api.DrainRequest
		if err := strict(json.NewDecoder(r.Body), &req); err != nil {
			return 0, nil, err
		}
		posted, _ := json.Marshal(req)
		if err := os.WriteFile(base+".posted", append(posted, '\n'), 0o600); err != nil {
			return 0, nil, err
		}
	} else if err := os.WriteFile(base+".asked", []byte(r.URL.RawQuery+"\n"), 0o600); err != nil {
		return 0, nil, err
	}
	body, err := os.ReadFile(base + ".json")
	for i := 2; i <= n; i++ {
		if next, nerr := os.ReadFile(fmt.Sprintf("%s.%d.json", base, i)); nerr == nil {
			body, err = next, nil
		}
	}
	if err != nil {
		return 0, nil, errors.New("the script has no such answer")
	}
	if text, err := os.ReadFile(base + ".status"); err == nil {
		status, err := strconv.Atoi(strings.TrimSpace(string(text)))
		return status, body, err
	}
	if strings.HasPrefix(string(body), `{"error"`) {
		return http.StatusInternalServerError, body, nil
	}
	return http.StatusOK, body, strict(json.NewDecoder(strings.NewReader(string(body))), answers[r.URL.Path]())
}

// strict decodes v and refuses fields that the API does not have.
func strict(d *json.Decoder, v any) error {
	d.DisallowUnknownFields()
	return d.Decode(v)
}
