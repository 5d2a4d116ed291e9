package h1

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"time"

	"anyedge/internal/message"
	"anyedge/internal/message/nethttp"
)

// Defaults of ClientConfig.
const (
	DefaultConnect        = time.Second
	DefaultResponseHeader = 30 * time.Second
	DefaultClientIdle     = 60 * time.Second
)

// Limits of a Client.
const (
	maxIdleConns      = 1024
	maxResponseHeader = 256 * message.KiB
	continueTimeout   = time.Second // for a 100 before the content is sent all the same
	keepAliveProbe    = 30 * time.Second
)

// ClientConfig says how one backend is asked. Zero durations mean the defaults.
type ClientConfig struct {
	Name           string        // of the backend, for errors; default Addr
	Addr           string        // HOST:PORT
	Connect        time.Duration // for a new connection
	ResponseHeader time.Duration // from the end of the request to the answer's header section
	Idle           time.Duration // of a pooled connection
}

// A Client asks one backend.
type Client struct {
	client    nethttp.Client
	transport *http.Transport
}

// NewClient returns a client that has no connection yet.
func NewClient(cfg ClientConfig) *Client {
	dialer := &net.Dialer{Timeout: cmp.Or(cfg.Connect, DefaultConnect), KeepAlive: keepAliveProbe}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	t := &http.Transport{
		DialContext:            nethttp.Dialer(dialer.DialContext),
		Protocols:              &protocols,
		DisableCompression:     true,
		MaxIdleConns:           maxIdleConns,
		MaxIdleConnsPerHost:    maxIdleConns,
		IdleConnTimeout:        cmp.Or(cfg.Idle, DefaultClientIdle),
		ResponseHeaderTimeout:  cmp.Or(cfg.ResponseHeader, DefaultResponseHeader),
		ExpectContinueTimeout:  continueTimeout,
		MaxResponseHeaderBytes: int64(maxResponseHeader),
	}
	return &Client{
		client:    nethttp.Client{Transport: t, To: cmp.Or(cfg.Name, cfg.Addr), Scheme: "http", Host: cfg.Addr},
		transport: t,
	}
}

// RoundTrip sends req and returns the final answer. Errors are
// *message.TryError.
func (c *Client) RoundTrip(ctx context.Context, req *message.Request) (*message.Response, error) {
	return c.client.RoundTrip(ctx, req)
}

// Close closes idle connections; those in use are closed when their exchange
// ends.
func (c *Client) Close() { c.transport.CloseIdleConnections() }
