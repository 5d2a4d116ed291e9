// Package h2 speaks HTTP/2 (RFC 9113) with clients and with backends.
//
// A [Server] answers the requests on connections that are handed to it, TLS
// with ALPN "h2" or plain with prior knowledge, by a message.RoundTripper; a
// [Client] is a message.RoundTripper that asks one backend over h2c. The
// package knows no route, no backend's health and no geo, and retries nothing
// that a backend may have seen.
//
// In this version net/http does the framing. Trailer fields of a request pass
// only when its Trailer field announced them, there is no extended CONNECT
// (RFC 8441), and a client's Expect is answered by the server itself.
package h2

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"

	"anyedge/internal/message"
	"anyedge/internal/message/nethttp"
)

// Defaults of Config.
const (
	DefaultHeader        = 64 * message.KiB
	DefaultIdle          = 75 * time.Second
	DefaultHeaderTimeout = 10 * time.Second
	DefaultStreams       = 250
)

// Flow control windows: what a client may send before it is read.
const (
	streamWindow     = 256 * message.KiB
	connectionWindow = message.MiB
)

// Config says what a Server allows. Zero values mean the defaults.
type Config struct {
	Header        message.Size  // of a request's header section (SETTINGS_MAX_HEADER_LIST_SIZE)
	Idle          time.Duration // of a connection without a stream
	HeaderTimeout time.Duration // for the TLS handshake and the connection preface
	Streams       int           // at once on one connection
}

// A Server answers HTTP/2 connections.
type Server struct{ serve *nethttp.Server }

// NewServer returns a server that answers by handler.
func NewServer(cfg Config, handler message.RoundTripper, log *slog.Logger) *Server {
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &Server{nethttp.NewServer(&http.Server{
		Handler:           nethttp.Handler(handler, log),
		Protocols:         &protocols,
		MaxHeaderBytes:    int(cmp.Or(cfg.Header, DefaultHeader)),
		IdleTimeout:       cmp.Or(cfg.Idle, DefaultIdle),
		ReadHeaderTimeout: cmp.Or(cfg.HeaderTimeout, DefaultHeaderTimeout),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          cmp.Or(cfg.Streams, DefaultStreams),
			MaxReceiveBufferPerStream:     int(streamWindow),
			MaxReceiveBufferPerConnection: int(connectionWindow),
		},
	}, log)}
}

// ServeConn takes c over and returns at once; c may be a *tls.Conn whose
// handshake has not been done. After Shutdown it closes c.
func (s *Server) ServeConn(c net.Conn) { s.serve.ServeConn(c) }

// Shutdown takes no new request (GOAWAY), lets those that run end, and closes
// every connection. When ctx ends first it cuts off what still runs and
// returns the error of ctx.
func (s *Server) Shutdown(ctx context.Context) error { return s.serve.Shutdown(ctx) }
