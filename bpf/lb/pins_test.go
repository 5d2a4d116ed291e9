package lb_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"anyedge/bpf/lb"
)

// pinned puts a program with a state on v0 of a new namespace, and pins it.
func pinned(t *testing.T) (p *lb.Program, a *lb.Attachment, dir string) {
	t.Helper()
	p = load(t)
	mount := t.TempDir()
	if err := unix.Mount("bpf", mount, "bpf", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(mount, 0) })
	newNamespace(t)
	if out, err := exec.CommandContext(t.Context(), "ip", "link", "add", "name", "v0", "type", "veth", "peer", "name", "v1").CombinedOutput(); err != nil {
		t.Fatalf("ip: %s", out)
	}
	apply(t, p, spec(lb.Group{Ring: ring(t, "b")}))
	a, err := p.Attach("v0", lb.Native)
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(mount, "node", "v0")
	if err := p.Pin(a, dir); err != nil {
		t.Fatal(err)
	}
	return p, a, dir
}

func index(t *testing.T) int {
	t.Helper()
	dev, err := net.InterfaceByName("v0")
	if err != nil {
		t.Fatal(err)
	}
	return dev.Index
}

// TestAdopt: a successor has the state, the counters and their names, and goes on.
func TestAdopt(t *testing.T) {
	p, a, dir := pinned(t)
	apply(t, p, spec(lb.Group{Ring: ring(t, "c")})) // the note follows
	frame := tcp(client4, vip4, 1000, ack)
	run(t, p, frame)
	before, err := p.Counters()
	if err != nil {
		t.Fatal(err)
	}
	k, err := lb.OpenPinned(dir, index(t))
	if err != nil {
		t.Fatal(err)
	}
	if !k.Same || k.Mode != lb.Native {
		t.Errorf("pinned: %+v", k)
	}
	q, b, err := k.Adopt()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	after, err := q.Counters()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, after); diff != "" || after.Servers["c"].Packets != 1 {
		t.Errorf("counters (-before +after):\n%s", diff)
	}
	model := lb.Model{Spec: spec(lb.Group{Ring: ring(t, "c")})}
	if action, out := run(t, q, frame); action != lb.Transmit || !cmp.Equal(out, model.Run(frame).Frame) {
		t.Errorf("action %d, frame %x", action, out)
	}
	apply(t, q, spec(lb.Group{Ring: ring(t, "a")}))
	if action, _ := run(t, q, frame); action != lb.Pass {
		t.Errorf("action %d after a change", action)
	}
	if err := errors.Join(a.Close(), b.Close()); err != nil {
		t.Error(err)
	}
	if _, err := lb.OpenPinned(dir, index(t)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after the end: %v", err)
	}
	if c, err := load(t).Attach("v0", lb.Native); err != nil {
		t.Errorf("the interface is not free: %v", err)
	} else if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// TestOpenPinned: what is of no use is not taken.
func TestOpenPinned(t *testing.T) {
	_, a, dir := pinned(t)
	here := index(t)
	if _, err := lb.OpenPinned(dir, here+1); err == nil {
		t.Error("taken for another interface")
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	if _, err := lb.OpenPinned(dir, here); !errors.Is(err, lb.ErrElsewhere) {
		t.Errorf("in another namespace: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "note")); err != nil {
		t.Fatal(err)
	}
	if _, err := lb.OpenPinned(dir, here); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a note: %v", err)
	}
	if err := lb.Unpin(dir); err != nil {
		t.Error(err)
	}
	if at, err := a.Index(); at != 0 || err != nil {
		t.Errorf("unpinned, and still on interface %d: %v", at, err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory: %v", err)
	}
}
