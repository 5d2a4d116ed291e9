package host_test

import (
	"bufio"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"anyedge/internal/testpeer"
)

// namespaceEnv names the test that a process in its own namespace runs.
const namespaceEnv = "HOST_TEST_NAMESPACE"

// inNamespace runs the test once more as a process with a network namespace of
// its own, whose lo is up, and reports whether this is that process.
func inNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv(namespaceEnv) == t.Name() {
		ip(t, "link set lo up")
		return true
	}
	t.Parallel()
	testpeer.NeedRoot(t)
	testpeer.Need(t, "ip", "unshare", "nsenter")
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout=3m")
	cmd.Env = append(os.Environ(), namespaceEnv+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("in a namespace: %v\n%s", err, out)
	}
	return false
}

// ip runs ip(8) and returns what it prints.
func ip(t *testing.T, words string) string {
	t.Helper()
	return command(t, "ip", strings.Fields(words)...)
}

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// A neighbor is another host, on a segment with this one.
type neighbor struct{ pid string }

// newNeighbor makes another namespace and the segment: near is this machine's
// interface, far the other's.
func newNeighbor(t *testing.T, near, far string) neighbor {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "unshare", "--net", "sh", "-c", "echo ready; exec cat")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	open, err := cmd.StdinPipe() // its end is the process's
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = open.Close(); _ = cmd.Wait() })
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	n := neighbor{strconv.Itoa(cmd.Process.Pid)}
	ip(t, "link add "+near+" type veth peer name "+far)
	ip(t, "link set "+far+" netns "+n.pid)
	ip(t, "link set "+near+" up")
	n.ip(t, "link set lo up")
	n.ip(t, "link set "+far+" up")
	return n
}

func (n neighbor) ip(t *testing.T, words string) string {
	t.Helper()
	return command(t, "nsenter", append([]string{"-t", n.pid, "-n", "ip"}, strings.Fields(words)...)...)
}

// mac returns the hardware address of the neighbor's interface.
func (n neighbor) mac(t *testing.T, link string) string {
	t.Helper()
	_, rest, _ := strings.Cut(n.ip(t, "link show "+link), "link/ether ")
	mac, _, _ := strings.Cut(rest, " ")
	return mac
}
