package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// handOverQUIC is how long requests over QUIC may go on when its sockets are
// handed over: two processes cannot both read one.
const handOverQUIC = time.Second

// Sockets are open ones that somebody else has bound: the service manager, or an
// edged whose place this one takes. A listener takes the one that is bound to its
// address in place of binding it.
type Sockets struct {
	mu   sync.Mutex
	list []passed
}

// passed is one of them.
type passed struct {
	network string // "tcp" or "udp"
	addr    netip.AddrPort
	file    *os.File
}

// NewSockets takes files over, each a listening TCP or a bound UDP socket.
func NewSockets(files []*os.File) (*Sockets, error) {
	s := &Sockets{}
	var errs []error
	for _, f := range files {
		network, addr, err := identify(f)
		if err != nil {
			errs = append(errs, fmt.Errorf("socket that was passed in, file %s: %w", f.Name(), err))
			continue
		}
		s.list = append(s.list, passed{network, addr, f})
	}
	return s, errors.Join(errs...)
}

// identify returns what a file is.
func identify(f *os.File) (network string, addr netip.AddrPort, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return "", addr, err
	}
	failed := raw.Control(func(fd uintptr) {
		var kind int
		if kind, err = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_TYPE); err != nil {
			return
		}
		network = map[int]string{syscall.SOCK_STREAM: "tcp", syscall.SOCK_DGRAM: "udp"}[kind]
		var name syscall.Sockaddr
		name, err = syscall.Getsockname(int(fd))
		switch a := name.(type) {
		case *syscall.SockaddrInet4:
			addr = netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
		case *syscall.SockaddrInet6:
			addr = netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))
		}
	})
	if err := errors.Join(failed, err); err != nil {
		return "", addr, err
	}
	if network == "" || !addr.IsValid() {
		return "", addr, errors.New("it is no TCP or UDP socket")
	}
	return network, addr, nil
}

// take returns the socket bound to an address; nil: there is none. s may be nil.
func (s *Sockets) take(network string, a netip.AddrPort) *os.File {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.list, func(p passed) bool { return p.network == network && p.addr == a })
	if i < 0 {
		return nil
	}
	f := s.list[i].file
	s.list = slices.Delete(s.list, i, i+1)
	return f
}

// closeRest closes those that no listener took, and names them. s may be nil.
func (s *Sockets) closeRest() []string {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for _, p := range s.list {
		names = append(names, p.network+" "+p.addr.String())
		_ = p.file.Close()
	}
	s.list = nil
	return names
}

// openStream returns the listening socket of an address, passed in or new.
func (l *listener) openStream(ctx context.Context, lc net.ListenConfig, network string, a netip.AddrPort) (net.Listener, error) {
	f := l.proxy.setup.Sockets.take("tcp", a)
	if f == nil {
		return lc.Listen(ctx, network, a.String())
	}
	defer func() { _ = f.Close() }()
	if lc.Control != nil {
		raw, err := f.SyscallConn()
		if err == nil {
			err = lc.Control(network, a.String(), raw)
		}
		if err != nil {
			return nil, err
		}
	}
	return net.FileListener(f)
}

// openPackets is the same for UDP.
func (l *listener) openPackets(ctx context.Context, lc net.ListenConfig, network string, a netip.AddrPort) (net.PacketConn, error) {
	f := l.proxy.setup.Sockets.take("udp", a)
	if f == nil {
		return lc.ListenPacket(ctx, network, a.String())
	}
	defer func() { _ = f.Close() }()
	return net.FilePacketConn(f)
}

// Files returns copies of the sockets of all listeners, for a process that takes
// this one's place. They are the caller's to close.
func (p *Proxy) Files() ([]*os.File, error) {
	var files []*os.File
	for _, l := range p.listeners {
		open := l.open.Load()
		if open == nil {
			continue
		}
		for _, s := range *open {
			f, err := s.File()
			if err != nil {
				for _, f := range files {
					_ = f.Close()
				}
				return nil, fmt.Errorf("listener %s: %w", l.cfg.Name, err)
			}
			files = append(files, f)
		}
	}
	return files, nil
}

// HandOver says that another process has the sockets of [Proxy.Files] and accepts
// on them, before Run is told to end. Requests over QUIC then have a second, and
// release is called when nobody here reads its sockets any more.
func (p *Proxy) HandOver(release func()) { p.release.Store(&release) }

// endQUIC ends h3 in every listener, and says that its sockets are free if that
// was asked for.
func (p *Proxy) endQUIC(ctx context.Context) {
	release := p.release.Load()
	if release != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, handOverQUIC)
		defer cancel()
	}
	var wg sync.WaitGroup
	for _, l := range p.listeners {
		if l.engines.h3 == nil {
			continue
		}
		wg.Go(func() {
			if err := l.engines.h3.Shutdown(ctx); err != nil {
				l.log.Warn("requests over QUIC were cut off", "err", err)
			}
			for _, s := range l.packets {
				_ = s.Close()
			}
		})
	}
	wg.Wait()
	if release != nil {
		(*release)()
	}
}

// servePackets serves a UDP socket when it is ours alone.
func (l *listener) servePackets(ctx context.Context, s net.PacketConn) {
	if wait := l.proxy.setup.Released; wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return
		}
	}
	if err := l.engines.h3.Serve(s); err != nil && l.bound.Load() != nil {
		l.log.Error("h3 ended", "err", err)
	}
}

// filer is a socket that can be copied.
type filer interface{ File() (*os.File, error) }

// filers returns the sockets that the listener has open.
func (l *listener) filers() []filer {
	var out []filer
	for _, s := range l.sockets {
		out = append(out, s.(filer))
	}
	for _, s := range l.packets {
		out = append(out, s.(filer))
	}
	return out
}

// leftOver logs sockets that were passed in for nobody.
func (p *Proxy) leftOver() {
	if names := p.setup.Sockets.closeRest(); len(names) > 0 {
		p.log.Warn("no listener has the address of a socket that was passed in: it is closed", "sockets", strings.Join(names, ", "))
	}
}
