package lb_test

import (
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"anyedge/bpf/lb"
)

// newNamespace moves the test's thread into a network namespace of its own.
// The thread is not handed back: it ends with the test's goroutine.
func newNamespace(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	before, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Setns(before, unix.CLONE_NEWNET); err != nil {
			t.Error(err) // and keep the thread locked
			return
		}
		runtime.UnlockOSThread()
		_ = unix.Close(before)
	})
}

func TestAttach(t *testing.T) {
	p, q := load(t), load(t)
	newNamespace(t)
	if out, err := exec.CommandContext(t.Context(), "ip", "link", "add", "name", "v0", "type", "veth", "peer", "name", "v1").CombinedOutput(); err != nil {
		t.Fatalf("ip: %s", out)
	}
	tests := []struct {
		iface string
		mode  lb.AttachMode
		want  lb.AttachMode
		err   string // part of the text
	}{
		{"v0", lb.Native, lb.Native, ""},
		{"v0", lb.Auto, lb.Native, ""},
		{"v0", lb.Generic, lb.Generic, ""},
		{"lo", lb.Auto, lb.Generic, ""},
		{"lo", lb.Native, "", "use mode generic or auto"},
		{"nosuch0", lb.Auto, "", "nosuch0"},
		{"lo", "fast", "", "want auto, native or generic"},
	}
	for _, tt := range tests {
		a, err := p.Attach(tt.iface, tt.mode)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s %s: error %v, want one with %q", tt.iface, tt.mode, err, tt.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s %s: %v", tt.iface, tt.mode, err)
			continue
		}
		if a.Mode != tt.want {
			t.Errorf("%s %s: mode %s, want %s", tt.iface, tt.mode, a.Mode, tt.want)
		}
		if _, err := q.Attach(tt.iface, tt.mode); err == nil || !strings.Contains(err.Error(), "another XDP program") {
			t.Errorf("%s %s, second program: %v", tt.iface, tt.mode, err)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
}
