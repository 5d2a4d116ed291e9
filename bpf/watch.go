package bpf

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// settle is how long changes of the machine are gathered before it is looked at.
const settle = 50 * time.Millisecond

// watch tells when the kernel's interfaces, addresses, routes or neighbors have
// changed, until ctx ends. What it cannot watch is seen by looking every second.
func (p *Path) watch(ctx context.Context, wg *sync.WaitGroup) <-chan struct{} {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE,
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_NEIGH)
	if err != nil {
		p.log.Warn("changes of the machine are seen a second late", "err", err)
		return nil
	}
	heard, out := make(chan struct{}, 1), make(chan struct{}, 1)
	wg.Go(func() {
		for {
			// Too much at once (ENOBUFS) is a change as well.
			if _, _, err := s.Receive(); err != nil && !errors.Is(err, unix.ENOBUFS) {
				return
			}
			tell(heard)
		}
	})
	wg.Go(func() {
		defer s.Close()
		for {
			select {
			case <-ctx.Done():
				return
			case <-heard:
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(settle):
				tell(out)
			}
		}
	})
	return out
}

// tell leaves one token in c.
func tell(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
