package lb

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// An AttachMode says where in an interface's receive path the program runs.
type AttachMode string

// The modes. Auto is native where the driver has it, else generic.
const (
	Auto    AttachMode = "auto"
	Native  AttachMode = "native"  // in the driver
	Generic AttachMode = "generic" // behind it, at some cost; every interface has it
)

// An Attachment keeps a program on an interface until it is closed.
type Attachment struct {
	Mode AttachMode // Native or Generic
	link link.Link
	pins string // directory; "": not pinned
}

// Close takes the program off the interface, and its pins away.
func (a *Attachment) Close() error {
	if a.pins != "" {
		return errors.Join(Unpin(a.pins), a.link.Close())
	}
	return errors.Join(detach(a.link), a.link.Close())
}

// detach takes a link's program off at once; the kernel would do it some time
// after the last reference is gone.
func detach(l link.Link) error {
	if err := l.Detach(); err != nil && !errors.Is(err, link.ErrNotSupported) {
		return fmt.Errorf("take the program off: %w", err)
	}
	return nil
}

// Index returns the number of the interface that the program is on; 0 once
// somebody has taken it off, or the interface away.
func (a *Attachment) Index() (int, error) { return linkIndex(a.link) }

// Attach puts the program on the interface, which is looked up in the calling
// thread's network namespace.
func (p *Program) Attach(iface string, mode AttachMode) (*Attachment, error) {
	return attach(p.objs.Lb, iface, mode)
}

func attach(prog *ebpf.Program, iface string, mode AttachMode) (*Attachment, error) {
	dev, err := net.InterfaceByName(iface)
	if err != nil {
		return nil, fmt.Errorf("attach to %s: %w", iface, err)
	}
	switch mode {
	case Native:
		return try(prog, dev, Native, link.XDPDriverMode)
	case Generic:
		return try(prog, dev, Generic, link.XDPGenericMode)
	case Auto:
		a, err := try(prog, dev, Native, link.XDPDriverMode)
		if errors.Is(err, unix.EOPNOTSUPP) {
			return try(prog, dev, Generic, link.XDPGenericMode)
		}
		return a, err
	}
	return nil, fmt.Errorf("attach to %s: unknown mode %q (want auto, native or generic)", iface, mode)
}

func try(prog *ebpf.Program, dev *net.Interface, mode AttachMode, flags link.XDPAttachFlags) (*Attachment, error) {
	l, err := link.AttachXDP(link.XDPOptions{Program: prog, Interface: dev.Index, Flags: flags})
	if err != nil {
		return nil, fmt.Errorf("attach to %s (%s): %s: %w", dev.Name, mode, hint(err, dev), err)
	}
	return &Attachment{Mode: mode, link: l}, nil
}

// hint says what an error means and what to do.
func hint(err error, dev *net.Interface) string {
	switch {
	case errors.Is(err, os.ErrPermission):
		return "no privilege: run as root or give the process CAP_BPF and CAP_NET_ADMIN"
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EEXIST):
		return fmt.Sprintf("another XDP program is on it: see `ip link show dev %s`; take it off with `ip link set dev %s xdp off` or end its owner", dev.Name, dev.Name)
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, link.ErrNotSupported):
		return "its driver has no native XDP: use mode generic or auto"
	case errors.Is(err, unix.ERANGE), errors.Is(err, unix.EINVAL):
		return fmt.Sprintf("its MTU of %d is too large for the driver's native XDP: lower it or use mode generic", dev.MTU)
	case errors.Is(err, unix.ENOSPC):
		return fmt.Sprintf("too few receive queues: raise them with `ethtool -L %s` or use mode generic", dev.Name)
	}
	return "the kernel refused"
}
