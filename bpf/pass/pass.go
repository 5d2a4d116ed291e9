// Package pass is the XDP program that lets everything through. The far end of
// a virtual Ethernet cable needs a native program before it takes what a
// program on the near end sends back (XDP_TX): labs put this one there.
package pass

import (
	"fmt"
	"net"

	"github.com/cilium/ebpf/link"
)

// Attach puts the program on an interface of the calling thread's network
// namespace, in native mode, until close is called.
func Attach(iface string) (closeFunc func() error, err error) {
	dev, err := net.InterfaceByName(iface)
	if err != nil {
		return nil, fmt.Errorf("pass: %w", err)
	}
	var objs passObjects
	if err := loadPassObjects(&objs, nil); err != nil {
		return nil, fmt.Errorf("pass: %w", err)
	}
	defer func() { _ = objs.Close() }() // the link holds the program
	l, err := link.AttachXDP(link.XDPOptions{Program: objs.Pass, Interface: dev.Index, Flags: link.XDPDriverMode})
	if err != nil {
		return nil, fmt.Errorf("pass on %s: %w", iface, err)
	}
	return l.Close, nil
}
