package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"syscall"
	"time"
)

// A checker asks one backend whether it can serve.
type checker interface {
	check(ctx context.Context) error
}

// watch checks b until ctx ends: at once, then every interval with a jitter of
// a tenth, and whenever a request could not reach it.
func (p *Pool) watch(ctx context.Context, b *backend) {
	pace := p.cfg.Health.pace()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-b.wake:
		}
		p.checkOnce(ctx, b, pace)
		timer.Reset(jitter(pace.interval))
	}
}

// checkOnce runs one check and files its verdict.
func (p *Pool) checkOnce(ctx context.Context, b *backend, pace pace) {
	bounded, cancel := context.WithTimeout(ctx, pace.timeout)
	defer cancel()
	err := b.check.check(bounded)
	if ctx.Err() != nil {
		return
	}
	if ours(err) {
		p.log.Warn("a check could not be made", "backend", b.name, "err", reason(err))
		return
	}
	var changed bool
	if err == nil {
		changed = b.health.good(time.Now(), pace.rise)
	} else {
		changed = b.health.bad(time.Now(), pace.fall, err)
	}
	if !changed {
		return
	}
	p.refresh()
	p.kick()
	if err == nil {
		b.misses.Store(0)
		p.log.Info("backend healthy", "backend", b.name)
	} else {
		p.log.Warn("backend unhealthy", "backend", b.name, "err", reason(err))
	}
}

func jitter(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1) //nolint:gosec // spreads checks; nobody gains by guessing it
}

func newChecker(u *url.URL, h HealthConfig, dial dialer) checker {
	if h.GRPC != nil {
		return newGRPCCheck(u, *h.GRPC, dial)
	}
	if h.HTTP == nil {
		return tcpCheck{hostPort(u), dial}
	}
	return newHTTPCheck(u, *h.HTTP, dial)
}

// A dialer opens a connection.
type dialer func(ctx context.Context, network, addr string) (net.Conn, error)

// tcpCheck is a backend for which a connection is enough.
type tcpCheck struct {
	addr string
	dial dialer
}

func (t tcpCheck) check(ctx context.Context) error {
	c, err := t.dial(ctx, "tcp", t.addr)
	if err != nil {
		return err
	}
	return c.Close()
}

// httpCheck asks for a path, each time on a connection of its own: a backend
// that takes no new one is not healthy.
type httpCheck struct {
	url    string
	expect []int
	client *http.Client
}

func newHTTPCheck(u *url.URL, c HTTPCheckConfig, dial dialer) *httpCheck {
	var protocols http.Protocols
	protocols.SetHTTP1(u.Scheme == schemeHTTP)
	protocols.SetUnencryptedHTTP2(u.Scheme == schemeH2C)
	expect := c.Expect
	if len(expect) == 0 {
		expect = []int{http.StatusOK}
	}
	path := c.Path
	if path == "" {
		path = "/"
	}
	return &httpCheck{
		url:    schemeHTTP + "://" + hostPort(u) + path,
		expect: expect,
		client: &http.Client{
			Transport: &http.Transport{
				DialContext:        dial,
				Protocols:          &protocols,
				DisableKeepAlives:  true,
				DisableCompression: true,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// checkBody is how much of a check's answer is read, in bytes; the rest does
// not matter.
const checkBody = 64 << 10

func (c *httpCheck) check(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url, http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "edged-health")
	resp, err := c.client.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, checkBody))
	_ = resp.Body.Close()
	if !slices.Contains(c.expect, resp.StatusCode) {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return err
}

// reason returns err in the few words that an operator looks for.
func reason(err error) string {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connect refused"
	case errors.Is(err, syscall.ECONNRESET):
		return "connection reset"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "no route to it"
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return "timeout"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "connection closed without an answer"
	}
	return err.Error()
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout()
}
