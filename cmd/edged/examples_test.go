package main_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"anyedge/internal/testpeer"
	"anyedge/replay"
)

// Where the documentation is.
const (
	docsDir     = "../../docs"
	examplesDir = docsDir + "/examples/replay-geo"
)

// The examples of docs/replay-geo.md, and what runs them.
var exampleApps = []struct { //nolint:gochecknoglobals // a table
	file  string
	start func(t *testing.T) []string // the command
}{
	{"app.mjs", func(t *testing.T) []string {
		t.Helper()
		if _, err := exec.LookPath("node"); err != nil {
			t.Skip("node is not installed")
		}
		return []string{"node", filepath.Join(examplesDir, "app.mjs")}
	}},
	{"app.py", func(t *testing.T) []string {
		t.Helper()
		testpeer.Need(t, "python3")
		return []string{"python3", filepath.Join(examplesDir, "app.py")}
	}},
	{"app.go", func(t *testing.T) []string {
		t.Helper()
		testpeer.Need(t, "go")
		program := filepath.Join(t.TempDir(), "app")
		if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, filepath.Join(examplesDir, "app.go")).CombinedOutput(); err != nil {
			t.Fatalf("build: %v\n%s", err, out)
		}
		return []string{program}
	}},
}

// TestReplayExamples runs each example behind two geos: what it says of the
// protocol is true.
func TestReplayExamples(t *testing.T) {
	t.Parallel()
	for _, app := range exampleApps {
		t.Run(app.file, func(t *testing.T) {
			addr := startProgram(t, app.start(t))
			f := newFleet(t, "fra", "nrt")
			g := &twoGeos{fleet: f, client: patient(t)}
			g.fra = startIn(t, f.write(t, "fra", appService(addr)))
			g.other = startIn(t, f.write(t, "nrt", appService(addr))) // the other one
			testpeer.WaitFor(t, "fra to know that nrt can serve", func() bool {
				return strings.HasPrefix(string(mustAsk(t, g.client, "POST", f.url("fra")+"/", nil).body), "POST served in nrt: ")
			})
			g.wantExample(t, app.file == "app.py")
		})
	}
}

// wantExample goes through what an example does. One that reads all of a
// request before it answers finds the limit of what is kept.
func (g *twoGeos) wantExample(t *testing.T, readsAll bool) {
	t.Helper()
	body := randomBytes(64 << 10)
	want := func(method, entry, says string) {
		t.Helper()
		got := mustAsk(t, g.client, method, g.url(entry)+"/order", body)
		if got.status != 200 || !strings.HasPrefix(string(got.body), says) {
			t.Errorf("%s at %s: %d %s, want %s", method, entry, got.status, got.body, says)
		}
		wantNoProtocol(t, got)
	}
	want("GET", "fra", "GET served in fra: it came in here\n")
	want("GET", "nrt", "GET served in nrt: it came in here\n")
	want("POST", "nrt", "POST served in nrt: it came in here\n")
	want("POST", "fra", "POST served in nrt: geo=fra, node=fra-edge1, t=")
	if readsAll {
		body = randomBytes(1 << 20) // the most that is kept
		want("POST", "fra", "POST served in nrt: geo=fra, node=fra-edge1, t=")
		got := mustAsk(t, g.client, "POST", g.url("fra")+"/order", randomBytes(1<<20+1))
		if got.status != 413 || got.header.Get("Replay-Geo-Error") != "body-too-large" {
			t.Errorf("a body over the limit: %d %v %s", got.status, got.header, got.body)
		}
		wantNoProtocol(t, got)
	}
	g.other.kill()
	testpeer.WaitFor(t, "the fallback", func() bool {
		got := mustAsk(t, g.client, "POST", g.url("fra")+"/order", []byte("x"))
		// While fra does not know yet, the try may be lost on its way.
		return got.status == 200 && strings.HasPrefix(string(got.body), "POST served in fra: geo=fra, node=fra-edge1, t=")
	})
}

// patient returns an HTTP client that keeps its connections: the server lets it
// read an answer that comes before the end of its request.
func patient(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: testpeer.Patience}
}

// startProgram runs an app until the test ends, and returns the address that it
// serves at.
func startProgram(t *testing.T, command []string) string {
	t.Helper()
	addr := fmt.Sprintf("127.0.0.1:%d", testpeer.FreePort(t, "127.0.0.1"))
	_, port, _ := strings.Cut(addr, ":")
	out := &output{}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "PORT="+port)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", command[0], out)
		}
	})
	testpeer.WaitFor(t, command[0]+" to listen", func() bool {
		var d net.Dialer
		c, err := d.DialContext(t.Context(), "tcp", addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return addr
}

// TestDocsShowExamples keeps the examples in the documentation equal to the
// files that TestReplayExamples runs.
func TestDocsShowExamples(t *testing.T) {
	t.Parallel()
	text := string(readFile(t, filepath.Join(docsDir, "replay-geo.md")))
	for _, app := range exampleApps {
		if code := string(readFile(t, filepath.Join(examplesDir, app.file))); !strings.Contains(text, "\n"+code+"```\n") {
			t.Errorf("docs/replay-geo.md does not show %s as it is", app.file)
		}
	}
}

// TestDocsListErrors keeps the table of errors equal to the code.
func TestDocsListErrors(t *testing.T) {
	t.Parallel()
	text := string(readFile(t, filepath.Join(docsDir, "replay-geo.md")))
	for _, c := range []replay.Code{
		replay.BodyTooLarge, replay.NoCandidate, replay.Loop, replay.NotAllowed, replay.BadInstruction, replay.Timeout,
	} {
		if row := fmt.Sprintf("\n| `%s` | %d | ", c, c.Status()); strings.Count(text, row) != 1 {
			t.Errorf("docs/replay-geo.md has no row %q", row)
		}
	}
}

// TestQuickstartConfiguration checks the configuration that the quickstart
// shows.
func TestQuickstartConfiguration(t *testing.T) {
	t.Parallel()
	_, rest, _ := strings.Cut(string(readFile(t, filepath.Join(docsDir, "quickstart.md"))), "```yaml\n")
	text, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("docs/quickstart.md shows no configuration")
	}
	file := filepath.Join(t.TempDir(), "edged.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := runEdged(t, nil, "--check", "--config", file); got.code != 0 {
		t.Errorf("exit code %d\n%s", got.code, got.stderr)
	}
}
