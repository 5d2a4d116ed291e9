// Package netns makes machines out of network namespaces: cables, bridges,
// addresses, processes and sockets inside them, and cables with delay.
//
// A [Space] is one network namespace, named so that `ip netns exec` finds it.
// Everything is done over netlink and in-process; only where the kernel looks
// at the calling thread ([Space.Do]) a thread enters the namespace, and is
// thrown away after. Root is needed. The package knows no topology.
package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// dir is where namespaces have names.
const dir = "/run/netns/"

// A Space is one network namespace.
type Space struct {
	Name string

	handle netns.NsHandle
	nl     *netlink.Handle
	jobs   chan func() // run by the thread that starts processes
	end    context.CancelFunc
	done   <-chan struct{}
}

// New makes a namespace with lo up. The sysctls are set before any other
// interface exists, because "default" is copied into each new one: paths below
// /proc/sys/net.
func New(name string, sysctls map[string]string) (*Space, error) {
	ctx, end := context.WithCancel(context.Background())
	s := &Space{Name: name, jobs: make(chan func()), end: end, done: ctx.Done()}
	made := make(chan error)
	go func() { made <- onFreshThread(func() error { return s.make(sysctls) }) }()
	if err := <-made; err != nil {
		err = fmt.Errorf("namespace %s: %w", name, err)
		if s.handle == 0 { // it was not made; one of that name is another one's
			end()
			return nil, err
		}
		return nil, errors.Join(err, s.Close())
	}
	go s.keeper(made)
	err := <-made
	if err == nil {
		err = s.Up("lo")
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// make runs on a thread of its own, which it leaves in the new namespace.
func (s *Space) make(sysctls map[string]string) error {
	h, err := netns.NewNamed(s.Name)
	if err != nil {
		return err
	}
	s.handle = h
	if s.nl, err = netlink.NewHandleAt(h); err != nil {
		return err
	}
	for path, value := range sysctls {
		// The kernel shows the namespace of the thread that opens the file.
		if err := os.WriteFile("/proc/sys/net/"+path, []byte(value), 0); err != nil {
			return err
		}
	}
	return nil
}

// onFreshThread runs f on a thread that ends with the calling goroutine. That
// must not be the main thread, which cannot end: /proc/self would show the
// wrong namespace from then on.
func onFreshThread(f func() error) error {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		return f()
	}
	defer runtime.UnlockOSThread()
	answer := make(chan error)
	go func() { answer <- onFreshThread(f) }()
	return <-answer
}

// Do runs f on a thread that is inside the namespace. Sockets that f opens and
// processes that it starts stay there.
func (s *Space) Do(f func() error) error {
	answer := make(chan error, 1)
	go func() {
		answer <- onFreshThread(func() error {
			if err := netns.Set(s.handle); err != nil {
				return fmt.Errorf("enter %s: %w", s.Name, err)
			}
			return f()
		})
	}()
	return <-answer
}

// keeper is the thread that starts processes: the kernel ties their death to
// its own.
func (s *Space) keeper(entered chan<- error) {
	_ = onFreshThread(func() error {
		err := netns.Set(s.handle)
		entered <- err
		if err != nil {
			return err
		}
		for {
			select {
			case f := <-s.jobs:
				f()
			case <-s.done:
				return nil
			}
		}
	})
}

// Start starts cmd inside the namespace, in a process group of its own. It dies
// with this process.
func (s *Space) Start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	select {
	case s.jobs <- func() { started <- cmd.Start() }:
		return <-started
	case <-s.done:
		return fmt.Errorf("namespace %s is gone", s.Name)
	}
}

// Dial connects from inside the namespace; the address must be a literal.
func (s *Space) Dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	err = s.Do(func() (err error) {
		var d net.Dialer
		c, err = d.DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// Close deletes the namespace and kills what still runs inside.
func (s *Space) Close() error {
	s.end()
	if s.nl != nil {
		s.nl.Close()
	}
	_ = s.handle.Close()
	return Delete(s.Name)
}

// Delete removes a namespace by its name and kills what still runs inside; it is
// fine when there is none.
func Delete(name string) error {
	errs := []error{killInside(name)}
	if err := netns.DeleteNamed(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, fmt.Errorf("delete namespace %s: %w", name, err))
	}
	return errors.Join(errs...)
}

// List returns the namespaces whose names begin with prefix.
func List(prefix string) []string {
	paths, _ := filepath.Glob(dir + prefix + "*") // a bad pattern finds none
	var names []string
	for _, p := range paths {
		names = append(names, strings.TrimPrefix(p, dir))
	}
	slices.Sort(names)
	return names
}
