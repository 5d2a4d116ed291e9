// Package client speaks the admin API of an edged over its unix socket.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"syscall"
	"time"

	"anyedge/internal/api"
)

// ErrUnreachable means that no edged answers at the socket; the error that
// wraps it says why and what to do.
var ErrUnreachable = errors.New("cannot reach edged")

// ErrNotAllowed means that the daemon refused the caller.
var ErrNotAllowed = errors.New("not allowed")

// A Client calls one daemon. It is safe for concurrent use.
type Client struct {
	socket string
	http   http.Client
}

// New returns a Client for the socket at that path. It connects on use.
func New(socket string) *Client {
	return &Client{
		socket: socket,
		http: http.Client{Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, "unix", socket)
			},
			MaxIdleConns:    2,
			IdleConnTimeout: 30 * time.Second,
		}},
	}
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Version asks what runs.
func (c *Client) Version(ctx context.Context) (api.Version, error) {
	return get[api.Version](ctx, c, api.PathVersion, nil)
}

// Status asks whether the node is well.
func (c *Client) Status(ctx context.Context) (api.Status, error) {
	return get[api.Status](ctx, c, api.PathStatus, nil)
}

// Geos asks what the node knows of all geos.
func (c *Client) Geos(ctx context.Context) (api.Geos, error) {
	return get[api.Geos](ctx, c, api.PathGeos, nil)
}

// Routes asks what is announced and why.
func (c *Client) Routes(ctx context.Context) (api.Routes, error) {
	return get[api.Routes](ctx, c, api.PathRoutes, nil)
}

// Services asks for the services.
func (c *Client) Services(ctx context.Context) (api.Services, error) {
	return get[api.Services](ctx, c, api.PathServices, nil)
}

// Backends asks for the backends of one service, or of all when it is "".
func (c *Client) Backends(ctx context.Context, service string) (api.Backends, error) {
	q := url.Values{}
	if service != "" {
		q.Set("service", service)
	}
	return get[api.Backends](ctx, c, api.PathBackends, q)
}

// FabricPeers asks for the other nodes.
func (c *Client) FabricPeers(ctx context.Context) (api.FabricPeers, error) {
	return get[api.FabricPeers](ctx, c, api.PathFabricPeers, nil)
}

// L4 asks for the packet path.
func (c *Client) L4(ctx context.Context) (api.L4, error) {
	return get[api.L4](ctx, c, api.PathL4, nil)
}

// L4Trace asks where the packets of a flow go.
func (c *Client) L4Trace(ctx context.Context, src, dst, proto string) (api.L4Trace, error) {
	return get[api.L4Trace](ctx, c, api.PathL4Trace, url.Values{"src": {src}, "dst": {dst}, "proto": {proto}})
}

// Explain asks what would happen with a request; q describes it, as in package api.
func (c *Client) Explain(ctx context.Context, q url.Values) (api.Explanation, error) {
	return get[api.Explanation](ctx, c, api.PathExplain, q)
}

// Traces asks for the requests that are kept; q chooses, as in package api.
func (c *Client) Traces(ctx context.Context, q url.Values) (api.Traces, error) {
	return get[api.Traces](ctx, c, api.PathTraces, q)
}

// TraceLive has show called with requests as they end, until ctx ends, the daemon
// goes away or show fails. The first event is empty: it has begun.
func (c *Client) TraceLive(ctx context.Context, q url.Values, show func(api.TraceEvent) error) error {
	u := url.URL{Scheme: "http", Host: "edged", Path: api.PathTraceLive, RawQuery: q.Encode()}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return c.explain(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return refusal(resp)
	}
	for lines := json.NewDecoder(resp.Body); ; {
		var e api.TraceEvent
		err := lines.Decode(&e)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("answer of edged at %s: %w", c.socket, err)
		}
		if err := show(e); err != nil {
			return err
		}
	}
}

// Events asks for events with an ID above after, since that time when it is
// not zero. With wait it waits up to that long for the first.
func (c *Client) Events(ctx context.Context, after uint64, since time.Time, wait time.Duration) (api.Events, error) {
	q := url.Values{"after": {strconv.FormatUint(after, 10)}}
	if !since.IsZero() {
		q.Set("since", since.Format(time.RFC3339))
	}
	if wait > 0 {
		q.Set("wait", strconv.FormatFloat(wait.Seconds(), 'f', -1, 64))
	}
	return get[api.Events](ctx, c, api.PathEvents, q)
}

// Drain orders that traffic moves away.
func (c *Client) Drain(ctx context.Context, r api.DrainRequest) (api.DrainReply, error) {
	return post(ctx, c, api.PathDrain, r)
}

// Undrain takes the order back.
func (c *Client) Undrain(ctx context.Context, r api.DrainRequest) (api.DrainReply, error) {
	return post(ctx, c, api.PathUndrain, r)
}

func get[T any](ctx context.Context, c *Client, path string, q url.Values) (T, error) {
	var v T
	u := url.URL{Scheme: "http", Host: "edged", Path: path, RawQuery: q.Encode()}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return v, err
	}
	err = c.do(r, &v)
	return v, err
}

func post(ctx context.Context, c *Client, path string, body api.DrainRequest) (api.DrainReply, error) {
	var v api.DrainReply
	b, err := json.Marshal(body)
	if err != nil {
		return v, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://edged"+path, bytes.NewReader(b))
	if err != nil {
		return v, err
	}
	err = c.do(r, &v)
	return v, err
}

// do sends r and decodes the answer into v.
func (c *Client) do(r *http.Request, v any) error {
	resp, err := c.http.Do(r)
	if err != nil {
		return c.explain(r.Context(), err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusOK {
		if err := json.NewDecoder(resp.Body).Decode(v); err != nil {
			return fmt.Errorf("answer of edged at %s: %w", c.socket, err)
		}
		return nil
	}
	return refusal(resp)
}

// refusal is what an answer that is no success says.
func refusal(resp *http.Response) error {
	var e api.Error
	if err := json.NewDecoder(resp.Body).Decode(&e); err != nil || e.Message == "" {
		e.Message = "edged answered " + resp.Status
	}
	if resp.StatusCode == http.StatusForbidden {
		return fmt.Errorf("%w: %s", ErrNotAllowed, e.Message)
	}
	return errors.New(e.Message)
}

// explain turns a transport error into what an engineer can act on.
func (c *Client) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	why := err.Error()
	switch {
	case errors.Is(err, os.ErrNotExist):
		why = "there is no such socket. Is edged running? (systemctl status edged)"
	case errors.Is(err, syscall.ECONNREFUSED):
		why = "nobody listens there. The daemon that made it is gone: start edged again"
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf(`%w at %s: %w. You are not in group "edged": sudo usermod -aG edged $USER`, ErrUnreachable, c.socket, os.ErrPermission)
	}
	return fmt.Errorf("%w at %s: %s", ErrUnreachable, c.socket, why)
}
