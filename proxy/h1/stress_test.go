package h1_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"anyedge/internal/message"
	"anyedge/proxy/h1"
)

// moody answers as each request's fields ask: early before it reads the content,
// otherwise behind it, with the request's id as content. With "close" it ends
// the connection then.
func moody(c *net.TCPConn, r *bufio.Reader) {
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		id := req.Header.Get("X-Id")
		answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(id), id)
		if req.Header.Get("X-Early") != "" {
			_, _ = io.WriteString(c, answer)
		}
		if n, err := io.Copy(io.Discard, req.Body); err != nil || req.ContentLength >= 0 && n != req.ContentLength {
			return
		}
		if req.Header.Get("X-Early") == "" {
			_, _ = io.WriteString(c, answer)
		}
		if req.Header.Get("X-End") != "" {
			return
		}
	}
}

// Exchanges of every kind share connections, and none sees anything of another
// one: not its answer, not its deadline, not its content.
func TestExchangesShareNothing(t *testing.T) {
	addr, _ := backend(t, moody)
	c := open(t, h1.ClientConfig{Addr: addr, ResponseHeader: 5 * time.Second, Connect: 5 * time.Second})
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for i := range 60 {
				share(t, c, worker, i)
			}
		})
	}
	all.Wait()
}

// share runs one exchange, of the kind that i says.
func share(t *testing.T, c *h1.Client, worker, i int) {
	t.Helper()
	id := fmt.Sprintf("%d of %d", i, worker)
	r := newRequest([]string{"GET", "POST", "PUT"}[i%3], "", message.Field{Name: "X-Id", Value: id})
	if size := []int{0, 1, 100_000}[i%3]; size > 0 {
		length := int64(size)
		if i%2 == 0 {
			length = -1
		}
		r.Body = message.NewBody(io.NopCloser(strings.NewReader(strings.Repeat("x", size))), length, message.MiB, nil)
	}
	if i%5 == 0 {
		r.Header.Add("X-Early", "1")
	}
	if i%11 == 0 {
		r.Header.Add("X-End", "1")
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	if i%7 == 0 {
		go cancel(errEnough)
	}
	res, err := c.RoundTrip(ctx, r)
	var b []byte
	if err == nil {
		b, err = io.ReadAll(res.Body)
	}
	res.Close()
	switch {
	case err == nil && string(b) != id:
		t.Errorf("%q got the answer %q", id, b)
	case err == nil, i%7 == 0 && errors.Is(err, errEnough):
	case r.Method == "POST" && message.SentBy(err) == message.MaybeExecuted: // a stale connection
	default:
		t.Errorf("%s %q: %v", r.Method, id, err)
	}
}
