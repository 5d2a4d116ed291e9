package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"anyedge/internal/message"
	"anyedge/proxy/certs"
	"anyedge/proxy/proxyproto"
	"anyedge/proxy/wire"
)

// Values of a listener's proxy_protocol.
const (
	proxyOff     = "off"
	proxyAccept  = "accept"
	proxyRequire = "require"
)

// accept hands connections to the engines until its socket is closed.
func (l *listener) accept(ctx context.Context, socket net.Listener) {
	for {
		conn, err := socket.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			l.log.Warn("accept", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(acceptRetry):
			}
			continue
		}
		if c := l.gate.enter(conn.(*net.TCPConn)); c != nil {
			l.arrive(ctx, c)
		}
	}
}

// arrive brings a connection to its engine, or ends it.
func (l *listener) arrive(ctx context.Context, c *clientConn) {
	from := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap().WithZone("")
	proxied := l.cfg.takesProxy() && within(l.cfg.TrustedProxies, from)
	switch {
	case l.cfg.ProxyProtocol == proxyRequire && !proxied:
		l.turnAway(c, RuleProxyHeader)
	case !proxied && !l.gate.admit(c):
		l.turnAway(c, RuleClientConnections)
	case !proxied && l.tls == nil:
		l.engines.plain().ServeConn(c)
	default:
		l.gate.arriving.add(c)
		l.greeting.Add(1)
		l.serving.Go(func() {
			defer l.greeting.Add(-1)
			l.greet(ctx, c, proxied)
		})
	}
}

// turnAway ends a connection that was refused.
func (l *listener) turnAway(c *clientConn, why Rule) {
	l.gate.refusals.add(why)
	_ = c.SetLinger(0)
	_ = c.Close()
}

// greet does what a connection begins with: the PROXY header when its peer is to
// send one, and the TLS handshake.
func (l *listener) greet(ctx context.Context, c *clientConn, proxied bool) {
	ctx, cancel := context.WithTimeout(ctx, l.gate.patience)
	defer cancel()
	if proxied {
		if err := c.readProxy(ctx); err != nil {
			l.sendOff(c, proxyRule(err), err)
			return
		}
		if !l.gate.admit(c) {
			l.gate.arriving.remove(c)
			l.turnAway(c, RuleClientConnections)
			return
		}
	}
	if l.tls == nil {
		if l.gate.arriving.remove(c) {
			l.engines.plain().ServeConn(c)
		} else {
			_ = c.Close()
		}
		return
	}
	l.handshake(ctx, c)
}

// sendOff ends a connection that did not get through; err says why.
func (l *listener) sendOff(c *clientConn, why Rule, err error) {
	if l.gate.arriving.remove(c) { // otherwise it was counted when it had to go
		l.gate.refusals.add(why)
	}
	l.log.Debug("handshake", "client", c.RemoteAddr().String(), "rule", why, "err", err)
	_ = c.Close()
}

// handshake does the TLS handshake and hands the connection to the engine that
// ALPN chose. A client without ALPN speaks HTTP/1.1.
func (l *listener) handshake(ctx context.Context, c *clientConn) {
	w, err := wire.New(c)
	if err != nil {
		l.sendOff(c, RuleGone, err)
		return
	}
	secure := tls.Server(w, l.tls)
	if err := secure.HandshakeContext(ctx); err != nil {
		answerPlainText(err)
		l.sendOff(c, handshakeRule(err), err)
		return
	}
	if !l.gate.arriving.remove(c) {
		_ = c.Close()
		return
	}
	state := secure.ConnectionState()
	switch state.NegotiatedProtocol {
	case "h2":
		l.greeted.add(message.HTTP2, state.DidResume)
		l.engines.h2.ServeConn(secure)
	default:
		if l.engines.h1 == nil {
			l.gate.refusals.add(RuleALPN)
			_ = secure.Close()
			return
		}
		l.greeted.add(message.HTTP1, state.DidResume)
		l.engines.h1.ServeConn(secure)
	}
}

// answerPlainText tells a client that spoke HTTP without TLS what is wrong.
func answerPlainText(err error) {
	record, ok := errors.AsType[tls.RecordHeaderError](err)
	if !ok || record.Conn == nil {
		return
	}
	switch string(record.RecordHeader[:3]) {
	case "GET", "HEA", "POS", "PUT", "OPT", "DEL", "PAT":
		_ = record.Conn.SetWriteDeadline(time.Now().Add(time.Second))
		const text = "this port speaks https, the request came as http\n"
		_, _ = fmt.Fprintf(record.Conn, "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
	}
}

// readProxy reads the PROXY header and takes the addresses in it for the
// connection's.
func (c *clientConn) readProxy(ctx context.Context) error {
	deadline, _ := ctx.Deadline()
	_ = c.SetReadDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	h, err := proxyproto.Read(c.TCPConn)
	if !stop() || err != nil {
		return errors.Join(err, ctx.Err())
	}
	_ = c.SetReadDeadline(time.Time{})
	if h.Source.IsValid() {
		c.remote, c.local = tcpAddr(h.Source), tcpAddr(h.Destination)
	}
	return nil
}

func tcpAddr(a netip.AddrPort) net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(a.Addr().Unmap(), a.Port()))
}

// proxyRule returns the rule for a PROXY header that did not come.
func proxyRule(err error) Rule {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return RuleArrival
	case gone(err):
		return RuleGone
	}
	return RuleProxyHeader
}

// handshakeRule returns the rule for a TLS handshake that came to nothing.
// crypto/tls has no types for most of its errors.
func handshakeRule(err error) Rule {
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return RuleNotTLS
	}
	text := err.Error()
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return RuleArrival
	case gone(err):
		return RuleGone
	case errors.Is(err, certs.ErrClientCertificate), strings.Contains(text, "client didn't provide a certificate"):
		return RuleClientCert
	case strings.Contains(text, "no certificates configured"):
		return RuleServerName
	case strings.HasPrefix(text, "remote error: "):
		return RuleAlert
	case strings.Contains(text, "unsupported versions"):
		return RuleVersion
	case strings.Contains(text, "no cipher suite"):
		return RuleCipher
	case strings.Contains(text, "unsupported application protocols"):
		return RuleALPN
	}
	return RuleHandshake
}

// gone reports whether err says that the peer has left.
func gone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
