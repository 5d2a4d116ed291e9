package lab

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"
)

const (
	maxConns    = 16384 // of one entry; more are refused
	dialTimeout = 3 * time.Second
	// deathGrace is how long an end of stream waits for the news that the
	// process behind it is dead: the kernel closes a killed process's sockets
	// a moment before anyone can know.
	deathGrace = 50 * time.Millisecond
	copyBuffer = 8 << 10
)

func (e *Entry) serveTCP(ctx context.Context) error {
	for {
		c, err := e.tcp.AcceptTCP()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				reset(c)
			}
			return nil
		case err != nil:
			return err
		}
		if e.conns.Add(1) > maxConns {
			e.conns.Add(-1)
			reset(c)
			continue
		}
		e.wg.Go(func() {
			defer e.conns.Add(-1)
			e.carry(ctx, c)
		})
	}
}

// carry takes one connection to a geo and copies both ways until it ends.
func (e *Entry) carry(ctx context.Context, client *net.TCPConn) {
	site := e.route()
	if site == nil {
		reset(client)
		return
	}
	from := client.RemoteAddr().(*net.TCPAddr).AddrPort().Addr()
	server, err := dialFrom(ctx, e.sourceOf(from), site.Addr)
	if err != nil {
		reset(client) // nobody listens there: the geo's machine would say so too
		return
	}
	abort := func() { reset(client); reset(server) }
	defer site.onDeath(abort)()
	defer context.AfterFunc(ctx, abort)()

	up := make(chan error, 1)
	go func() { up <- pipe(server, client, func() {}) }()
	down := pipe(client, server, func() {
		select {
		case <-site.Gone():
		case <-time.After(deathGrace):
		}
	})
	if down != nil {
		abort()
	}
	if err := <-up; err != nil || down != nil {
		abort()
		return
	}
	_ = client.Close()
	_ = server.Close()
}

// pipe copies src to dst until its end and passes the end on, after hold.
func pipe(dst, src *net.TCPConn, hold func()) error {
	buf := make([]byte, copyBuffer)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				reset(src)
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			hold()
			return dst.CloseWrite()
		}
		if err != nil {
			hold()
			reset(dst)
			return err
		}
	}
}

func dialFrom(ctx context.Context, src netip.Addr, dst netip.AddrPort) (*net.TCPConn, error) {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(src, 0)), Timeout: dialTimeout}
	c, err := d.DialContext(ctx, "tcp4", dst.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// reset ends c with RST. Safe to call twice.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}
