package h2

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
	maxResponseHeader = 256 * message.KiB
	continueTimeout   = time.Second // for a 100 before the content is sent all the same
	keepAliveProbe    = 30 * time.Second
	pingAfter         = 5 * time.Second // of silence on a connection with open streams
	pingTimeout       = 5 * time.Second
)

// ClientConfig says how one backend is asked. Zero durations mean the defaults.
type ClientConfig struct {
	Name           string        // of the backend, for errors; default Addr
	Addr           string        // HOST:PORT
	Connect        time.Duration // for a new connection
	ResponseHeader time.Duration // from the end of the request to the answer's header section
	Idle           time.Duration // of a connection without a stream
}

// A Client asks one backend over HTTP/2 without TLS, with prior knowledge (RFC
// 9113 section 3.3). It refuses upgrades.
type Client struct {
	client    nethttp.Client
	transport *http.Transport
}

// NewClient returns a client that has no connection yet.
func NewClient(cfg ClientConfig) *Client {
	dialer := &net.Dialer{Timeout: cmp.Or(cfg.Connect, DefaultConnect), KeepAlive: keepAliveProbe}
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	t := &http.Transport{
		DialContext:            dialer.DialContext,
		Protocols:              &protocols,
		DisableCompression:     true,
		IdleConnTimeout:        cmp.Or(cfg.Idle, DefaultClientIdle),
		ResponseHeaderTimeout:  cmp.Or(cfg.ResponseHeader, DefaultResponseHeader),
		ExpectContinueTimeout:  continueTimeout,
		MaxResponseHeaderBytes: int64(maxResponseHeader),
		HTTP2: &http.HTTP2Config{
			SendPingTimeout: pingAfter,
			PingTimeout:     pingTimeout,
		},
	}
	return &Client{
		client:    nethttp.Client{Transport: t, To: cmp.Or(cfg.Name, cfg.Addr), Scheme: "http", Host: cfg.Addr, NoUpgrade: true},
		transport: t,
	}
}

// RoundTrip sends req and returns the final answer. Errors are
// *message.TryError.
func (c *Client) RoundTrip(ctx context.Context, req *message.Request) (*message.Response, error) {
	return c.client.RoundTrip(ctx, req)
}

// Close closes idle connections; those in use are closed once they have been
// idle for ClientConfig.Idle.
func (c *Client) Close() { c.transport.CloseIdleConnections() }
