package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"anyedge/internal/admin/client"
	"anyedge/internal/lab"
)

// demoPatience is how long a demo may take to start or stop on a busy machine.
const demoPatience = 90 * time.Second

// A demo is `edged demo` as a process.
type demo struct {
	dir    string
	file   lab.File
	cmd    *exec.Cmd
	out    *output
	exited chan struct{}
}

// startDemo runs `edged demo` until the test ends, and waits for its geos.
func startDemo(t *testing.T, args ...string) *demo {
	t.Helper()
	d := &demo{dir: filepath.Join(t.TempDir(), "run"), out: &output{}, exited: make(chan struct{})}
	d.cmd = exec.Command(edgedBinary, append([]string{"demo", "--dir", d.dir}, args...)...)
	d.cmd.Stdout, d.cmd.Stderr = d.out, d.out
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = d.cmd.Wait(); close(d.exited) }()
	t.Cleanup(func() {
		_ = d.cmd.Process.Kill()
		<-d.exited
		if t.Failed() {
			t.Logf("the demo said:\n%s", d.out)
		}
	})
	demoWait(t, "the demo to start", func() bool {
		select {
		case <-d.exited:
			t.Fatalf("the demo ended:\n%s", d.out)
		default:
		}
		return strings.Contains(d.out.String(), "Ctrl-C")
	})
	d.reread(t)
	return d
}

// reread reads demo.json.
func (d *demo) reread(t *testing.T) {
	t.Helper()
	f, err := lab.ReadFile(d.dir)
	if err != nil {
		t.Fatal(err)
	}
	d.file = f
}

func (d *demo) geo(t *testing.T, name string) lab.FileGeo {
	t.Helper()
	for _, g := range d.file.Geos {
		if g.Name == name {
			return g
		}
	}
	t.Fatalf("no geo %s in %+v", name, d.file)
	return lab.FileGeo{}
}

// ctl is `edged demo ctl`.
func (d *demo) ctl(t *testing.T, words ...string) ran {
	t.Helper()
	return runEdged(t, nil, append([]string{"demo", "ctl", "--dir", d.dir}, words...)...)
}

// curl asks an entry with curl and returns status, fields and body.
func (d *demo) curl(t *testing.T, region int, path string, flags ...string) string {
	t.Helper()
	args := append([]string{"-sS", "-i", "--max-time", "30", "--cacert", d.file.CA}, flags...)
	text, err := exec.CommandContext(t.Context(), "curl", append(args, d.file.Regions[region].Entry+path)...).CombinedOutput()
	if err != nil {
		t.Fatalf("curl %s: %v: %s", path, err, text)
	}
	return string(text)
}

// alive reports whether a process exists and is no zombie.
func alive(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(text), ") Z ")
}

func demoWait(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(demoPatience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited %s for %s", demoPatience, what)
		}
	}
}

// entryPort returns the first of three ports that are free for TCP and UDP.
func entryPort(t *testing.T) string {
	t.Helper()
	free := func(port int) bool {
		l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err != nil {
			return false
		}
		defer l.Close()
		u, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err != nil {
			return false
		}
		u.Close()
		return true
	}
	for port := 21000; port < 32000; port += 17 {
		if free(port) && free(port+1) && free(port+2) {
			return fmt.Sprint(port)
		}
	}
	t.Fatal("no three free ports")
	return ""
}

func TestDemoTour(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	cmd := exec.CommandContext(t.Context(), edgedBinary, "demo", "--tour", "-o", "json", "--dir", dir, "--port", entryPort(t))
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	err := cmd.Run()
	t.Logf("%s", &stderr)
	if err != nil {
		t.Fatalf("the tour failed: %v", err)
	}
	var got lab.TourResult
	if err := json.Unmarshal(stdout.Bytes(), &got); err != nil {
		t.Fatalf("%v in %s", err, &stdout)
	}
	var steps string
	for _, s := range got.Steps {
		steps += s.Step
		if !s.OK || s.Seconds <= 0 || len(s.Saw) == 0 || s.Name == "" {
			t.Errorf("%+v", s)
		}
	}
	if !got.OK || steps != "abcdefgh" || got.Sources < 1000 || got.Seconds > 120 {
		t.Errorf("ok %v, steps %s, %d addresses, %.0f s", got.OK, steps, got.Sources, got.Seconds)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the run directory is left: %v", err)
	}
}

func TestDemoByHand(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		if os.Getenv("EDGE_TEST_STRICT") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	port := entryPort(t)
	d := startDemo(t, "--port", port)
	t.Run("every region is served by its nearest geo", func(t *testing.T) {
		for i, geo := range []string{"fra", "iad", "nrt"} {
			for _, flag := range []string{"--http1.1", "--http2"} {
				if got := d.curl(t, i, "/", flag); !strings.Contains(strings.ToLower(got), "edge-geo: "+geo) || !strings.Contains(got, `"geo":"`+geo+`"`) {
					t.Errorf("%s %s: %s", d.file.Regions[i].Name, flag, got)
				}
			}
		}
	})
	t.Run("every geo's DNS names its own apps", func(t *testing.T) { askDemoDNS(t, d) })
	t.Run("unknown geo in Replay-Geo", func(t *testing.T) {
		got := strings.ToLower(d.curl(t, 0, "/replay/atlantis"))
		if !strings.Contains(got, " 502") || !strings.Contains(got, "replay-geo-error: ") {
			t.Errorf("got %s", got)
		}
	})
	t.Run("every geo's socket answers", func(t *testing.T) {
		for _, g := range d.file.Geos {
			c := client.New(g.Socket)
			v, err := c.Version(t.Context())
			c.Close()
			if err != nil || v.Geo != g.Name || v.PID != g.PID {
				t.Errorf("%s: %+v, %v", g.Name, v, err)
			}
			if _, err := os.Stat(g.Config); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("control", d.testControl)
	t.Run("a second demo touches nothing", func(t *testing.T) {
		for want, args := range map[string][]string{
			"127.0.0.1:" + port + " (the entry of eu) is in use, perhaps by another demo": {"--port", port, "--dir", filepath.Join(t.TempDir(), "b")},
			"a demo runs in " + d.dir: {"--port", entryPort(t), "--dir", d.dir},
		} {
			got := runEdged(t, nil, append([]string{"demo"}, args...)...)
			if got.code != 1 || !strings.Contains(got.stderr, want) || strings.Count(got.stderr, "\n") != 1 {
				t.Errorf("exit %d, %q, want one line with %q", got.code, got.stderr, want)
			}
		}
		for _, g := range d.file.Geos {
			if !alive(g.PID) {
				t.Errorf("%s is dead", g.Name)
			}
		}
		if got := d.curl(t, 0, "/"); !strings.Contains(got, " 200") {
			t.Errorf("got %s", got)
		}
	})
	t.Run("Ctrl-C leaves nothing behind", func(t *testing.T) {
		d.reread(t)
		_ = d.cmd.Process.Signal(os.Interrupt)
		demoWait(t, "the demo to end", func() bool {
			select {
			case <-d.exited:
				return true
			default:
				return false
			}
		})
		if code := d.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		for _, g := range d.file.Geos {
			if alive(g.PID) {
				t.Errorf("%s lives", g.Name)
			}
		}
		if _, err := os.Stat(d.dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the run directory is left: %v", err)
		}
		if got := d.ctl(t, "cut", "fra-iad"); got.code != 1 {
			t.Errorf("ctl without a demo: exit %d, %s", got.code, got.stderr)
		}
	})
}

// testControl tries every command and every mistake.
func (d *demo) testControl(t *testing.T) {
	post := func(path string, fields ...string) (int, string) {
		got := mustAsk(t, http.DefaultClient, http.MethodPost, d.file.Control+path, nil, fields...)
		return got.status, strings.TrimSpace(string(got.body))
	}
	for _, test := range []struct {
		path   string
		status int
		want   string // in the text
	}{
		{"/kill/backend/fra-a", 200, "backend fra-a is killed"},
		{"/kill/backend/fra-a", 409, "backend fra-a is dead"},
		{"/revive/backend/fra-a", 200, "backend fra-a is revived"},
		{"/revive/backend/fra-a", 409, "backend fra-a is alive"},
		{"/kill/backend/sin-a", 404, "there are fra-a, fra-b, iad-a"},
		{"/kill/geo/sin", 404, "there are fra, iad, nrt"},
		{"/kill/link/fra", 404, "want backend or geo"},
		{"/cut/fra-iad", 200, "link fra-iad is cut"},
		{"/join/iad-fra", 200, "link iad-fra is joined"},
		{"/cut/fra-sin", 404, "there are fra-iad, iad-nrt, fra-nrt"},
		{"/load?region=sin&rate=10&for=2s", 404, "there are eu, us, asia"},
		{"/load?region=us&rate=x&for=2s", 400, "rate"},
		{"/load?region=us&rate=10&for=2", 400, "for"},
		{"/load?region=us&rate=100000&for=2s", 400, "rate"},
		{"/load?region=us&rate=NaN&for=2s", 400, "rate"},
		{"/load?region=us&rate=-1&for=2s", 400, "rate"},
		{"/load?region=us&rate=10&for=24h", 400, "for"},
		{"/load?region=us&rate=50&for=2s", 200, "50 requests/s at us for 2s"},
		{"/load?region=us&rate=50&for=2s", 409, "runs at us already"},
		{"/nonsense", 404, "want POST /kill"},
	} {
		if status, text := post(test.path); status != test.status || !strings.Contains(text, test.want) {
			t.Errorf("%s: %d %s, want %d %s", test.path, status, text, test.status, test.want)
		}
	}
	if status, _ := post("/kill/geo/fra", "Origin", "https://www.example.net"); status != http.StatusForbidden {
		t.Errorf("a web page may steer the demo: %d", status)
	}
	before := d.geo(t, "nrt").PID
	if got := d.ctl(t, "kill", "geo", "nrt"); got.code != 0 || !strings.Contains(got.stdout, "geo nrt is killed") {
		t.Errorf("exit %d: %s%s", got.code, got.stdout, got.stderr)
	}
	d.reread(t)
	if pid := d.geo(t, "nrt").PID; pid != 0 || alive(before) {
		t.Errorf("after the kill: pid %d, %d alive: %v", pid, before, alive(before))
	}
	if got := d.ctl(t, "kill", "geo", "nrt"); got.code != 1 || !strings.Contains(got.stderr, "geo nrt is dead") {
		t.Errorf("exit %d: %s%s", got.code, got.stdout, got.stderr)
	}
	demoWait(t, "asia to be served elsewhere", func() bool {
		return exec.CommandContext(t.Context(), "curl", "-sf", "--max-time", "5", "--cacert", d.file.CA, d.file.Regions[2].Entry+"/").Run() == nil
	})
	if got := d.ctl(t, "revive", "geo", "nrt"); got.code != 0 {
		t.Errorf("exit %d: %s%s", got.code, got.stdout, got.stderr)
	}
	d.reread(t)
	if pid := d.geo(t, "nrt").PID; pid == 0 || pid == before || !alive(pid) {
		t.Errorf("after the revival: pid %d", pid)
	}
	demoWait(t, "the load's outcome", func() bool { return strings.Contains(d.out.String(), "load at us is over: ") })
	if !strings.Contains(d.out.String(), " 0 failed, served by iad ") {
		t.Error("the load went wrong")
	}
}

func TestDemoWithOwnAppDiesWithItsParent(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "my own app: %s\n", r.URL.Path)
	}))
	defer app.Close()
	d := startDemo(t, "--port", entryPort(t), "--app", app.URL)
	for i := range d.file.Regions {
		if got := d.curl(t, i, "/x"); !strings.Contains(got, "my own app: /x") {
			t.Errorf("got %s", got)
		}
	}
	if got := d.ctl(t, "kill", "backend", "fra-a"); got.code != 1 || !strings.Contains(got.stderr, "your own app") {
		t.Errorf("exit %d: %s", got.code, got.stderr)
	}
	_ = d.cmd.Process.Signal(syscall.SIGKILL)
	<-d.exited
	for _, g := range d.file.Geos {
		demoWait(t, g.Name+" to die with its parent", func() bool { return !alive(g.PID) })
	}
	got := runEdged(t, nil, "demo", "--port", entryPort(t), "--dir", d.dir)
	if want := d.dir + " holds what an earlier demo left: remove it"; got.code != 1 || !strings.Contains(got.stderr, want) {
		t.Errorf("exit %d, %q, want %q", got.code, got.stderr, want)
	}
	if _, err := os.Stat(filepath.Join(d.dir, lab.FileName)); err != nil {
		t.Errorf("the stale directory was touched: %v", err)
	}
}

func TestDemoUsage(t *testing.T) {
	for _, test := range []struct {
		args string
		code int
		want string // in stderr
	}{
		{"--help", 0, "the story by itself"},
		{"ctl --help", 0, "cut|join A-B"},
		{"--port 0", 2, "want 1 to 65533"},
		{"-o yaml --tour", 2, "want table or json"},
		{"-o json", 2, "belongs to --tour"},
		{"--tour --app http://127.0.0.1:3000", 2, "demo's own app"},
		{"--app nonsense --port 65500", 1, "want http://HOST:PORT"},
		{"later", 2, `unexpected "later"`},
		{"ctl", 2, "want a command"},
		{"ctl --dir /nonexistent cut fra-iad", 1, "no demo in /nonexistent"},
	} {
		t.Run(test.args, func(t *testing.T) {
			got := runEdged(t, nil, append([]string{"demo"}, strings.Fields(test.args)...)...)
			if got.code != test.code || !strings.Contains(got.stderr, test.want) {
				t.Errorf("exit %d, %q; want %d, %q", got.code, got.stderr, test.code, test.want)
			}
		})
	}
}
