package bpf_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"anyedge/bpf"
	"anyedge/bpf/lb"
)

// A stream sends a packet every two milliseconds and counts what its node answers.
type stream struct {
	owner     string
	sent, got atomic.Int64
	stop      context.CancelFunc
	wg        sync.WaitGroup
}

// flow starts a stream whose packets belong to a node.
func (s *site) flow(owner string, r *lb.Ring) *stream {
	s.t.Helper()
	at := netip.AddrPortFrom(vip4, 443)
	for {
		c, err := s.router.Dial(s.t.Context(), "udp", at.String())
		s.must(err)
		from, err := netip.ParseAddrPort(c.LocalAddr().String())
		s.must(err)
		if r.Owner(lb.Flow{Src: from, Dst: at, Proto: 17}.Bucket(key)) != owner {
			s.must(c.Close())
			continue
		}
		ctx, stop := context.WithCancel(s.t.Context())
		x := &stream{owner: owner, stop: stop}
		x.wg.Go(func() { x.send(ctx, c) })
		x.wg.Go(func() { x.receive(c) })
		s.t.Cleanup(x.end)
		return x
	}
}

func (x *stream) send(ctx context.Context, c net.Conn) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			_ = c.SetReadDeadline(time.Now().Add(time.Second)) // for what is on its way
			return
		case <-tick.C:
		}
		x.sent.Add(1)
		_, _ = c.Write([]byte("who")) // what is not sent is not answered
	}
}

func (x *stream) receive(c net.Conn) {
	defer func() { _ = c.Close() }()
	for buf := make([]byte, 64); ; {
		n, err := c.Read(buf)
		switch {
		case err == nil && string(buf[:n]) != x.owner: // by who does not have the flow: lost
		case err == nil:
			x.got.Add(1)
		case !errors.Is(err, syscall.ECONNREFUSED): // an answer to a packet before
			return
		}
	}
}

func (x *stream) end() {
	x.stop()
	x.wg.Wait()
}

// more waits for a hundred more answers.
func (x *stream) more(t *testing.T) {
	t.Helper()
	want := x.got.Load() + 100
	waitFor(t, "answers to a stream of packets", func() bool { return x.got.Load() >= want })
}

// program tells whether a packet program is on the node's interface.
func (m *member) program() bool {
	m.site.t.Helper()
	on := false
	m.site.must(m.space.Do(func() error {
		l, err := netlink.LinkByName("eth0")
		on = err == nil && l.Attrs().Xdp != nil && l.Attrs().Xdp.Attached
		return err
	}))
	return on
}

func total(x said) uint64 {
	var n uint64
	for _, c := range x.Status.Interfaces[0].Counters.Servers {
		n += c.Packets
	}
	return n
}

// TestRestart: a daemon that is killed leaves its packet path working; the next
// one goes on with it; one that is stopped takes it away.
func TestRestart(t *testing.T) {
	s := newSite(t)
	a := s.nodes["a"]
	s.startAll()
	r := newRing(t, members("a", "b", "c"))
	s.by("a")
	streams := []*stream{s.flow("b", r), s.flow("c", r)}
	each := func() {
		t.Helper()
		for _, x := range streams {
			x.more(t)
		}
	}
	each()
	counted := total(a.is("counts", func(x said) bool { return total(x) > 0 }))
	a.kill()
	if !a.program() {
		t.Error("the program went with the process")
	}
	each()
	a.start()
	got := a.is("adopts", func(x said) bool { return x.Self.Up })
	if i := got.Status.Interfaces[0]; !i.Adopted || !i.Pinned || i.Mode != lb.Native || total(got) < counted {
		t.Errorf("%+v; %d packets counted before", i, counted)
	}
	if got.Self.Applied != 0 {
		t.Errorf("says that it follows generation %d, and knows none", got.Self.Applied)
	}
	each()
	s.tell(bpf.State{Generation: 2, Members: members("a", "b", "c")})
	if a.is("follows", func(x said) bool { return x.Self.Applied == 2 }).Status.Interfaces[0].Adopted {
		t.Error("still says that it follows what its predecessor knew")
	}
	each()
	for _, x := range streams {
		x.end()
		if sent, got := x.sent.Load(), x.got.Load(); sent != got {
			t.Errorf("%d of %d packets were lost", sent-got, sent)
		} else {
			t.Logf("0 of %d packets were lost", sent)
		}
	}
	a.stop()
	if a.program() {
		t.Error("the program stays behind a daemon that was stopped")
	}
	if _, err := os.Stat(filepath.Join(s.pins, "a")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its pins stay: %v", err)
	}
}

func TestCleanup(t *testing.T) {
	s := newSite(t)
	a, b := s.nodes["a"], s.nodes["b"]
	a.start()
	b.start()
	a.is("is up", func(x said) bool { return x.Self.Up })
	b.is("is up", func(x said) bool { return x.Self.Up })
	a.kill()
	want := []string{filepath.Join(s.pins, "a", "eth0")}
	for _, dry := range []bool{true, false} {
		got, err := bpf.Cleanup(s.pins, dry)
		if err == nil || !strings.Contains(err.Error(), "an edged that runs holds it") {
			t.Errorf("dry %v: error %v, want one that tells of b", dry, err)
		}
		if len(got) != 1 || got[0] != want[0] {
			t.Errorf("dry %v: %v, want %v", dry, got, want)
		}
		if a.program() != dry {
			t.Errorf("dry %v: a has a program: %v", dry, a.program())
		}
	}
	if !b.program() {
		t.Error("b lost its program")
	}
	b.stop()
	if got, err := bpf.Cleanup(s.pins, false); got != nil || err != nil {
		t.Errorf("nothing is left: %v, %v", got, err)
	}
	if got, err := bpf.Cleanup(t.TempDir(), false); err == nil || got != nil {
		t.Errorf("another file system: %v, %v", got, err)
	}
}

// TestUnpinned: without a BPF file system the path works, and ends with its process.
func TestUnpinned(t *testing.T) {
	s := newSite(t)
	a := s.nodes["a"]
	a.pins = t.TempDir()
	a.start()
	got := a.is("is up", func(x said) bool { return x.Self.Up })
	if got.Status.Pins != "" || !strings.Contains(got.Status.Unpinned, "mount -t bpf") || got.Status.Interfaces[0].Pinned {
		t.Errorf("%+v", got.Status)
	}
	a.kill()
	waitFor(t, "the program goes with the process", func() bool { return !a.program() })
}

// TestSecondOfTheName: two processes of one node's name do not share pins.
func TestSecondOfTheName(t *testing.T) {
	s := newSite(t)
	a, b := s.nodes["a"], s.nodes["b"]
	b.name = "a"
	a.start()
	a.is("is up", func(x said) bool { return x.Self.Up && x.Status.Pins != "" })
	b.start()
	b.is("is up without pins", func(x said) bool { return x.Self.Up && strings.Contains(x.Status.Unpinned, "holds it") })
	a.kill()
	b.kill()
	b.start() // finds the pins of the other machine's program
	got := b.is("is up", func(x said) bool { return x.Self.Up })
	if i := got.Status.Interfaces[0]; i.Adopted || i.Pinned || !a.program() || !b.program() {
		t.Errorf("%+v; programs: a %v, b %v", i, a.program(), b.program())
	}
}

// TestOtherMode: a predecessor's program in another mode is taken off first.
func TestOtherMode(t *testing.T) {
	s := newSite(t)
	a := s.nodes["a"]
	a.mode = "generic"
	a.start()
	a.is("is up", func(x said) bool { return x.Self.Up && x.Status.Interfaces[0].Mode == lb.Generic })
	a.kill()
	a.mode = "native"
	a.start()
	got := a.is("is up", func(x said) bool { return x.Self.Up })
	if i := got.Status.Interfaces[0]; i.Mode != lb.Native || i.Adopted || !i.Pinned {
		t.Errorf("%+v", i)
	}
}

// TestUpgrade: the program of a daemon of another version works on until its
// successor knows a ring, and is then replaced without a gap.
func TestUpgrade(t *testing.T) {
	s := newSite(t)
	a := s.nodes["a"]
	s.startAll()
	s.by("a")
	x := s.flow("b", newRing(t, members("a", "b", "c")))
	x.more(t)
	a.kill()
	otherVersion(t, filepath.Join(s.pins, "a", "eth0"))
	a.start()
	got := a.is("waits", func(x said) bool { return x.Status.Interfaces[0].Adopted })
	if i := got.Status.Interfaces[0]; !got.Self.Up || got.Self.Applied != 0 || i.Mode != lb.Native || i.Program != "" {
		t.Errorf("while it waits: %+v", got)
	}
	x.more(t)
	s.tell(bpf.State{Generation: 2, Members: members("a", "b", "c")})
	got = a.is("has its own", func(x said) bool { return x.Status.Interfaces[0].Program != "" })
	if i := got.Status.Interfaces[0]; i.Adopted || !i.Pinned {
		t.Errorf("with its own: %+v", i)
	}
	x.more(t)
	a.kill()
	a.start()
	a.is("adopts its own", func(x said) bool { return x.Status.Interfaces[0].Adopted && x.Status.Interfaces[0].Program != "" })
	x.more(t)
	x.end()
	if sent, got := x.sent.Load(), x.got.Load(); sent != got {
		t.Errorf("%d of %d packets were lost", sent-got, sent)
	}
}

// otherVersion changes what is noted of a pinned program.
func otherVersion(t *testing.T, dir string) {
	t.Helper()
	m, err := ebpf.LoadPinnedMap(filepath.Join(dir, "note"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Close() }()
	text := make([]byte, m.ValueSize())
	if err := m.Lookup(uint32(0), &text); err != nil {
		t.Fatal(err)
	}
	changed := bytes.Replace(text, []byte(`"object":"`), []byte(`"obj":   "`), 1)
	if bytes.Equal(text, changed) {
		t.Fatalf("no object in the note %.100q", text)
	}
	if err := m.Put(uint32(0), changed); err != nil {
		t.Fatal(err)
	}
}
