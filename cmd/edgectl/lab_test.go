package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"anyedge/internal/lab/metal"
	"anyedge/internal/lab/netns"
)

// A labUser uses edgectl lab as an operator does.
type labUser struct {
	t      *testing.T
	bin    string // directory of edgectl and edged
	prefix string
}

// newLabUser builds the programs, side by side.
func newLabUser(t *testing.T) *labUser {
	t.Helper()
	if err := metal.Check(); err != nil {
		if os.Getenv("EDGE_TEST_STRICT") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	u := &labUser{t: t, bin: t.TempDir(), prefix: fmt.Sprintf("edged-cli%d", os.Getpid())}
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", u.bin+"/", "anyedge/cmd/edged", "anyedge/cmd/edgectl").CombinedOutput()
	if err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return u
}

// lab runs edgectl lab, and returns what it wrote and its exit code.
func (u *labUser) lab(args ...string) (stdout, stderr string, code int) {
	u.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(u.bin, "edgectl"), append([]string{"lab", "--prefix", u.prefix}, args...)...)
	var out, why bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &why
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else if err != nil {
		u.t.Fatalf("edgectl lab %s: %v", strings.Join(args, " "), err)
	}
	return out.String(), why.String(), code
}

// does runs edgectl lab, which must succeed, and wants words in what it says.
func (u *labUser) does(command string, words ...string) string {
	u.t.Helper()
	return u.says(command, exitOK, words...)
}

// says runs edgectl lab, and wants an exit code and words in what it says.
func (u *labUser) says(command string, want int, words ...string) string {
	u.t.Helper()
	out, why, code := u.lab(strings.Fields(command)...)
	if code != want {
		u.t.Fatalf("edgectl lab %s: exit code %d, want %d: %s%s", command, code, want, out, why)
	}
	for _, w := range words {
		if !strings.Contains(out+why, w) {
			u.t.Errorf("edgectl lab %s: no %q in\n%s%s", command, w, out, why)
		}
	}
	return out
}

// fails runs edgectl lab, which must fail with one line.
func (u *labUser) fails(command string, want int, words string) {
	u.t.Helper()
	out, why, code := u.lab(strings.Fields(command)...)
	if code != want || !strings.Contains(why, words) || strings.Count(why, "\n") != 1 {
		u.t.Errorf("edgectl lab %s: exit code %d, want %d and one line with %q:\n%s%s", command, code, want, words, out, why)
	}
}

// well waits until status says that all is well.
func (u *labUser) well() {
	u.t.Helper()
	waitFor(u.t, "all is well", func() bool {
		_, _, code := u.lab("status")
		return code == exitOK
	})
}

// status returns the lab's status and its file.
func (u *labUser) status() (s metal.Status, f metal.File) {
	u.t.Helper()
	if err := json.Unmarshal([]byte(u.does("status -o json")), &s); err != nil {
		u.t.Fatal(err)
	}
	text, err := os.ReadFile(u.file())
	if err != nil {
		u.t.Fatal(err)
	}
	if err := json.Unmarshal(text, &f); err != nil {
		u.t.Fatal(err)
	}
	return s, f
}

func (u *labUser) file() string { return "/run/" + u.prefix + ".json" }

// nothingLeft checks that nothing of a lab is there.
func (u *labUser) nothingLeft(dir string) {
	u.t.Helper()
	if left := netns.List(u.prefix); len(left) > 0 {
		u.t.Errorf("left: %v", left)
	}
	for _, path := range []string{dir, u.file(), "/sys/fs/bpf/" + filepath.Base(dir)} {
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			u.t.Errorf("left: %s", path)
		}
	}
	if left := processes(u.t, dir, u.prefix); len(left) > 0 {
		u.t.Errorf("left: %v", left)
	}
}

// processes returns the command lines that contain one of the words.
func processes(t *testing.T, words ...string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // it has ended
		}
		line := strings.ReplaceAll(string(text), "\x00", " ")
		for _, w := range words {
			if strings.Contains(line, w) {
				found = append(found, line)
				break
			}
		}
	}
	return found
}

func TestLab(t *testing.T) {
	u := newLabUser(t)
	t.Cleanup(func() { u.lab("down") })
	for _, command := range []string{"status", "break node fra-edge2", "heal", "down"} {
		u.fails(command, exitUnreachable, "no lab of that prefix runs: start one with: edgectl lab up --prefix "+u.prefix)
	}
	for _, prefix := range []string{"", "a/b", "-x", "A"} {
		if _, stderr, code := u.lab("--prefix="+prefix, "status"); code != exitUsage || !strings.Contains(stderr, "lower-case letters, digits and -") {
			t.Errorf("prefix %q: %d %s", prefix, code, stderr)
		}
	}
	u.fails("up --edged /nowhere/edged", exitUnhealthy, "/nowhere/edged")

	try := printed(u.does("up --l4 off", "fra-edge2", "BIRD", "FRR"))
	if len(try) != 7 {
		t.Fatalf("up prints %d commands to try, want 7: %q", len(try), try)
	}
	u.well()
	s, f := u.status()
	if len(s.Edges) != 4 || len(s.Routers) != 4 || len(s.Clients) != 4 || len(s.Faults) != 0 {
		t.Errorf("status: %+v", s)
	}
	u.fails("up --l4 off", exitUnhealthy, "a lab is there already")
	u.fails("break moon fra", exitUsage, "cannot be broken")
	u.does("break link fra-iad loss=1%", "link fra-iad loses 1%")
	u.says("status", exitUnhealthy, "broken: link fra-iad loses 1%")
	u.does("break process fra-edge2", "process fra-edge2 is dead")
	u.does("break router iad", "router iad is dead")
	if out := u.says("status", exitUnhealthy, "broken: process fra-edge2 is dead", "broken: router iad is dead"); strings.Count(out, "DEAD") != 2 {
		u.t.Errorf("status: one edge and one router are dead:\n%s", out)
	}
	u.does("heal", "Nothing is broken.")
	u.well()
	u.curl(s.Dir)
	for _, command := range try[:6] { // the last one is lab down
		u.shell(command)
	}
	u.says("status", exitUnhealthy, "broken: process fra-edge2 is dead")
	if out, want := u.shell(try[6]), "the lab "+u.prefix+" is gone, with its namespaces and files\n"; out != want {
		t.Errorf("down says %q, want %q", out, want)
	}
	u.nothingLeft(f.Dir)
}

// printed returns the commands that lab up prints.
func printed(out string) []string {
	_, text, _ := strings.Cut(out, " Try:\n")
	var commands []string
	for line := range strings.Lines(text) {
		commands = append(commands, strings.TrimSpace(line))
	}
	return commands
}

// shell runs a command as a shell takes it from the screen.
func (u *labUser) shell(command string) string {
	u.t.Helper()
	ctx, cancel := context.WithTimeout(u.t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "sh", "-c", command).CombinedOutput()
	if err != nil {
		u.t.Errorf("%s: %v: %s", command, err, out)
	}
	return string(out)
}

// TestLabHints wants the printed commands to work where edgectl was started.
func TestLabHints(t *testing.T) {
	s := metal.Status{Dir: "/tmp/lab", Edges: []metal.EdgeStatus{{Name: "fra-edge1", Socket: "/tmp/lab/fra-edge1.sock", L4: "native"}}}
	for _, tt := range []struct {
		name, self, sudo, prefix string
		want                     []string // the first, second and last three
	}{
		{"from PATH", "edgectl", "", metal.DefaultPrefix, []string{
			"ip netns exec edged-lab-client-eu curl --cacert /tmp/lab/ca.crt https://192.0.2.10/",
			"ip netns exec edged-lab-client-eu curl --cacert /tmp/lab/ca.crt 'https://[2001:db8:100::10]/'",
			"edgectl --socket /tmp/lab/fra-edge1.sock l4 status",
			"edgectl lab break process fra-edge2      # then lab status, lab heal",
			"edgectl lab down",
		}},
		{"by its path, by sudo, with a name", "bin/edgectl", "1000", "mine", []string{
			"sudo ip netns exec mine-client-eu curl --cacert /tmp/lab/ca.crt https://192.0.2.10/",
			"sudo ip netns exec mine-client-eu curl --cacert /tmp/lab/ca.crt 'https://[2001:db8:100::10]/'",
			"sudo bin/edgectl --socket /tmp/lab/fra-edge1.sock l4 status",
			"sudo bin/edgectl lab break process fra-edge2 --prefix mine      # then lab status, lab heal",
			"sudo bin/edgectl lab down --prefix mine",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := &app{env: env{self: tt.self, getenv: func(name string) string { return map[string]string{"SUDO_UID": tt.sudo}[name] }}}
			got := printed(strings.Join(a.labHints(s, tt.prefix), "\n"))
			if len(got) != 7 {
				t.Fatalf("%d commands: %q", len(got), got)
			}
			if d := cmp.Diff(tt.want, append(got[:2:2], got[4:]...)); d != "" {
				t.Error(d)
			}
		})
	}
}

// curl asks as the printed command does.
func (u *labUser) curl(dir string) {
	u.t.Helper()
	ctx, cancel := context.WithTimeout(u.t.Context(), 30*time.Second)
	defer cancel()
	for _, vip := range []string{"192.0.2.10", "[2001:db8:100::10]"} {
		out, err := exec.CommandContext(ctx, "ip", "netns", "exec", u.prefix+"-client-asia",
			"curl", "-sS", "--fail", "--cacert", dir+"/ca.crt", "https://"+vip+"/").CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("nrt")) {
			u.t.Errorf("curl %s: %v: %s", vip, err, out)
		}
	}
}

// TestLabKilled kills the process behind a lab, while the lab runs and while it
// comes up: down removes what is left.
func TestLabKilled(t *testing.T) {
	u := newLabUser(t)
	u.prefix += "k"
	t.Cleanup(func() { u.lab("down") })
	u.does("up")
	u.well()
	_, f := u.status()
	shell := exec.Command("ip", "netns", "exec", u.prefix+"-client-eu", "sleep", "600")
	if err := shell.Start(); err != nil { // what somebody left running in it
		t.Fatal(err)
	}
	kill(t, f.PID)
	for _, command := range []string{"status", "break node fra-edge2", "heal"} {
		u.fails(command, exitUnreachable, "is dead; remove what is left with: edgectl lab down --prefix "+u.prefix)
	}
	u.fails("up", exitUnhealthy, "a lab is there already")
	u.does("down", "its owner was gone: removed namespace "+u.prefix+"-fra-edge1", "the lab "+u.prefix+" is gone")
	if err := shell.Wait(); err == nil {
		t.Error("the shell lives")
	}
	u.nothingLeft(f.Dir)

	up := exec.Command(filepath.Join(u.bin, "edgectl"), "lab", "own", "--prefix", u.prefix, "--edged", filepath.Join(u.bin, "edged"), "--l4", "off")
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the first namespaces", func() bool { return len(netns.List(u.prefix)) > 3 })
	text, err := os.ReadFile(u.file())
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &f); err != nil {
		t.Fatal(err)
	}
	kill(t, up.Process.Pid)
	_ = up.Wait()
	u.does("down")
	u.nothingLeft(f.Dir)
}

// TestLabTakenDownEarly takes a lab down while it comes up.
func TestLabTakenDownEarly(t *testing.T) {
	u := newLabUser(t)
	u.prefix += "e"
	t.Cleanup(func() { u.lab("down") })
	up := exec.Command(filepath.Join(u.bin, "edgectl"), "lab", "own", "--prefix", u.prefix, "--edged", filepath.Join(u.bin, "edged"), "--l4", "off")
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- up.Wait() }()
	waitFor(t, "the first namespaces", func() bool { return len(netns.List(u.prefix)) > 3 })
	u.fails("status", exitUnreachable, "still coming up")
	u.does("down")
	if err := <-ended; err == nil {
		t.Error("the owner ended as if all were well")
	}
	u.nothingLeft("/tmp/" + u.prefix)
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), u.prefix+"-*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// kill ends a process with SIGKILL and waits for its end.
func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the end of the process", func() bool {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || bytes.Contains(text, []byte(") Z "))
	})
}

// waitFor waits until cond holds.
func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	late := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-late:
			t.Fatalf("%s: not in time", what)
		case <-tick.C:
		}
	}
}
