package pass_test

import (
	"fmt"
	"net"
	"os"
	"testing"

	"github.com/vishvananda/netlink"

	"anyedge/bpf/pass"
	"anyedge/internal/lab/netns"
)

// mode returns how a program is attached to an interface of the calling
// thread's namespace: 0 none, 1 native.
func mode(iface string) (uint32, error) {
	l, err := netlink.LinkByName(iface)
	if err != nil {
		return 0, err
	}
	if x := l.Attrs().Xdp; x != nil && x.Attached {
		return x.AttachMode, nil
	}
	return 0, nil
}

func TestAttach(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("EDGE_TEST_STRICT") != "" {
			t.Fatal("it needs root")
		}
		t.Skip("it needs root")
	}
	var spaces []*netns.Space
	for i := range 2 {
		s, err := netns.New(fmt.Sprintf("edged-pass-%d-%d", os.Getpid(), i), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		spaces = append(spaces, s)
	}
	if err := netns.Veth(spaces[0], "eth0", spaces[1], "eth0", 1500); err != nil {
		t.Fatal(err)
	}
	for i, s := range spaces {
		if err := s.Addr("eth0", fmt.Sprintf("198.51.100.%d/30", i+1)); err != nil {
			t.Fatal(err)
		}
	}
	err := spaces[0].Do(func() error {
		if _, err := pass.Attach("none"); err == nil {
			t.Error("attached to no interface")
		}
		undo, err := pass.Attach("eth0")
		if err != nil {
			return err
		}
		if m, err := mode("eth0"); err != nil || m != 1 {
			t.Errorf("attached in mode %d, %v; want native", m, err)
		}
		if _, err := pass.Attach("eth0"); err == nil {
			t.Error("attached twice")
		}
		reach(t, spaces)
		if err := undo(); err != nil {
			return err
		}
		if m, err := mode("eth0"); err != nil || m != 0 {
			t.Errorf("mode %d, %v after close; want none", m, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// reach connects through the program.
func reach(t *testing.T, spaces []*netns.Space) {
	t.Helper()
	var l net.Listener
	err := spaces[0].Do(func() (err error) {
		var lc net.ListenConfig
		l, err = lc.Listen(t.Context(), "tcp4", "198.51.100.1:0")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	c, err := spaces[1].Dial(t.Context(), "tcp4", l.Addr().String())
	if err != nil {
		t.Fatalf("nothing comes through: %v", err)
	}
	_ = c.Close()
}
