package lab

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// A Protocol is what a client speaks.
type Protocol string

// The protocols of clients.
const (
	H1 Protocol = "h1"
	H2 Protocol = "h2"
	H3 Protocol = "h3"
)

// requestTimeout is how long a client waits for an answer.
const requestTimeout = 10 * time.Second

// A Client is one person's browser: one address, one protocol, and one
// connection that is kept while it works. It never tries a request twice, so
// that whatever breaks is seen. Use it from one goroutine at a time.
type Client struct {
	Source   netip.Addr
	Protocol Protocol
	// Inside, when not nil, runs what opens sockets where the client is.
	Inside func(open func() error) error

	entry netip.AddrPort
	tls   *tls.Config
	conn  clientConn // nil: none
	life  int64      // of the load that uses it: a new one needs a new connection
}

// A clientConn is one connection.
type clientConn interface {
	http.RoundTripper
	Close() error
	Err() error // not nil: of no use any more
}

// NewClient returns a client of an entry. tlsConfig says whom to trust; it is
// not changed.
func NewClient(entry netip.AddrPort, source netip.Addr, p Protocol, tlsConfig *tls.Config) *Client {
	cfg := tlsConfig.Clone()
	cfg.ServerName = entry.Addr().String()
	return &Client{Source: source, Protocol: p, entry: entry, tls: cfg}
}

// A Result is what came of one request.
type Result struct {
	Err    error // no answer, a status of 500 or above, or a broken body
	Status int
	Header http.Header
	Answer Answer // of the demo app
	Fresh  bool   // on a new connection
	Took   time.Duration
}

// Served returns the geo that answered.
func (r *Result) Served() string {
	if r.Answer.Geo != "" {
		return r.Answer.Geo
	}
	return r.Header.Get("Edge-Geo")
}

// Entered returns the geo that took the request in.
func (r *Result) Entered() string {
	if e := r.Header.Get("Edge-Entry"); e != "" {
		return e
	}
	return r.Header.Get("Edge-Geo")
}

// Get asks for a path.
func (c *Client) Get(ctx context.Context, path string) Result {
	return c.Do(ctx, http.MethodGet, path, nil)
}

// Do sends one request, on the connection that there is or a new one.
func (c *Client) Do(ctx context.Context, method, path string, body io.Reader) Result {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	r := c.do(ctx, method, path, body)
	r.Took = time.Since(start)
	if r.Err != nil && r.Status == 0 {
		c.Close()
	}
	return r
}

func (c *Client) do(ctx context.Context, method, path string, body io.Reader) (r Result) {
	if c.conn == nil || c.conn.Err() != nil {
		c.Close()
		r.Fresh = true
		if c.conn, r.Err = c.dial(ctx); r.Err != nil {
			r.Err = fmt.Errorf("connect: %w", r.Err)
			return r
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, "https://"+c.entry.String()+path, body)
	if err != nil {
		return Result{Err: err}
	}
	resp, err := c.conn.RoundTrip(req)
	if err != nil {
		r.Err = err
		return r
	}
	defer func() { _ = resp.Body.Close() }()
	r.Header = resp.Header
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		r.Err = fmt.Errorf("body: %w", err)
		return r
	}
	r.Status = resp.StatusCode
	if r.Status >= http.StatusInternalServerError {
		r.Err = fmt.Errorf("status %d: %.120s", r.Status, text)
		return r
	}
	if resp.Header.Get("Content-Type") == "application/json" {
		if err := json.Unmarshal(text, &r.Answer); err != nil {
			r.Err = fmt.Errorf("body: %w", err)
		}
	}
	return r
}

// Close ends the client's connection, if there is one.
func (c *Client) Close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

// inside runs f where the client is.
func (c *Client) inside(f func() error) error {
	if c.Inside == nil {
		return f()
	}
	return c.Inside(f)
}

func (c *Client) dial(ctx context.Context) (clientConn, error) {
	if c.Protocol == H3 {
		return c.dialH3(ctx)
	}
	var protocols http.Protocols
	protocols.SetHTTP1(c.Protocol == H1)
	protocols.SetHTTP2(c.Protocol == H2)
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: c.Source.AsSlice()}}
	t := &http.Transport{
		TLSClientConfig: c.tls, Protocols: &protocols, DisableCompression: true,
		ReadBufferSize: 2 << 10, WriteBufferSize: 1 << 10,
	}
	t.DialContext = func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		err = c.inside(func() (err error) {
			conn, err = d.DialContext(ctx, network, address)
			return err
		})
		return conn, err
	}
	conn, err := t.NewClientConn(ctx, "https", c.entry.String())
	if err != nil {
		return nil, err // not conn: a nil pointer in an interface is no nil
	}
	return conn, nil
}

func (c *Client) dialH3(ctx context.Context) (clientConn, error) {
	var socket *net.UDPConn
	err := c.inside(func() (err error) {
		socket, err = net.ListenUDP("udp", &net.UDPAddr{IP: c.Source.AsSlice()})
		return err
	})
	if err != nil {
		return nil, err
	}
	transport := &quic.Transport{Conn: socket}
	cfg := c.tls.Clone()
	cfg.NextProtos = []string{http3.NextProtoH3}
	cfg.ClientSessionCache = nil // its tickets come from TCP
	conn, err := transport.Dial(ctx, net.UDPAddrFromAddrPort(c.entry), cfg, &quic.Config{
		MaxIdleTimeout: 30 * time.Second, KeepAlivePeriod: 10 * time.Second,
	})
	if err != nil {
		return nil, errors.Join(err, transport.Close(), socket.Close())
	}
	layer := &http3.Transport{DisableCompression: true}
	return &h3Conn{conn: conn, http: layer.NewClientConn(conn), transport: transport, socket: socket}, nil
}

// An h3Conn is one QUIC connection with a socket of its own.
type h3Conn struct {
	conn      *quic.Conn
	http      *http3.ClientConn
	transport *quic.Transport
	socket    *net.UDPConn
}

// RoundTrip sends one request.
func (c *h3Conn) RoundTrip(r *http.Request) (*http.Response, error) { return c.http.RoundTrip(r) }

// Err returns why the connection has ended, nil while it lives.
func (c *h3Conn) Err() error { return context.Cause(c.conn.Context()) }

// Close ends the connection and closes the socket.
func (c *h3Conn) Close() error {
	err := c.conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
	return errors.Join(err, c.transport.Close(), c.socket.Close())
}
