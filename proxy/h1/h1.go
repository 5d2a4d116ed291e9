// Package h1 speaks HTTP/1.1 (RFC 9112) with clients and with backends.
//
// A [Server] answers the requests on connections that are handed to it, after
// TLS or before its handshake, by a message.RoundTripper; a [Client] is a
// message.RoundTripper that asks one backend over pooled connections. The
// package knows no route, no backend's health and no geo, and retries nothing
// of which a byte may have been read.
//
// In this version net/http does the parsing: the order of field lines and the
// spelling of their names is not kept, and a client that ends its sending half
// before it has its answer counts as gone.
package h1

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
)

// Config says what a Server allows. Zero values mean the defaults.
type Config struct {
	Header        message.Size  // of a request's line and header section; more is answered with 431
	Idle          time.Duration // of a connection between requests
	HeaderTimeout time.Duration // for the TLS handshake, and for a request's header section
}

// A Server answers HTTP/1 connections.
type Server struct{ serve *nethttp.Server }

// NewServer returns a server that answers by handler.
func NewServer(cfg Config, handler message.RoundTripper, log *slog.Logger) *Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &Server{nethttp.NewServer(&http.Server{
		Handler:           nethttp.Handler(handler, log),
		Protocols:         &protocols,
		MaxHeaderBytes:    int(cmp.Or(cfg.Header, DefaultHeader)),
		IdleTimeout:       cmp.Or(cfg.Idle, DefaultIdle),
		ReadHeaderTimeout: cmp.Or(cfg.HeaderTimeout, DefaultHeaderTimeout),
	}, log)}
}

// ServeConn takes c over and returns at once; c may be a *tls.Conn whose
// handshake has not been done. After Shutdown it closes c.
func (s *Server) ServeConn(c net.Conn) { s.serve.ServeConn(c) }

// Shutdown takes no new request, lets those that run end, and closes every
// connection. When ctx ends first it cuts off what still runs, upgraded
// connections too, and returns the error of ctx.
func (s *Server) Shutdown(ctx context.Context) error { return s.serve.Shutdown(ctx) }
