package h1_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"anyedge/internal/message"
	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h1"
)

const okAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// hasty answers one request of each connection and closes it when it has read
// the head of the next one, which it counts by method; or, early, at once.
func hasty(t *testing.T, early bool) (string, func(method string) int) {
	t.Helper()
	var mu sync.Mutex
	read := map[string]int{}
	addr, _ := backend(t, func(c *net.TCPConn, r *bufio.Reader) {
		if !take(r) {
			return
		}
		_, _ = io.WriteString(c, okAnswer)
		if early {
			return
		}
		if req, err := http.ReadRequest(r); err == nil {
			mu.Lock()
			defer mu.Unlock()
			read[req.Method]++
		}
	})
	return addr, func(method string) int {
		mu.Lock()
		defer mu.Unlock()
		return read[method]
	}
}

// A backend that closes an idle connection as the next request comes costs an
// idempotent one nothing, however often, with content or without.
func TestIdempotentOnStaleConnection(t *testing.T) {
	for _, early := range []bool{false, true} {
		addr, _ := hasty(t, early)
		c := open(t, h1.ClientConfig{Addr: addr})
		for range 100 {
			for _, r := range []*message.Request{newRequest("GET", ""), newRequest("PUT", "content"), newRequest("DELETE", ""), newRequest("OPTIONS", "")} {
				if got, err := answerTo(t, c, r); err != nil || got != "200 ok" {
					t.Fatalf("early %v: %s: %q, %v", early, r.Method, got, err)
				}
			}
		}
	}
}

// A request that is not idempotent is never written twice.
func TestOthersOnStaleConnection(t *testing.T) {
	for _, method := range []string{"POST", "PATCH", "LOCK"} {
		addr, read := hasty(t, false)
		c := open(t, h1.ClientConfig{Addr: addr})
		failed := 0
		for range 20 {
			if _, err := answerTo(t, c, newRequest("GET", "")); err != nil {
				t.Fatal(err)
			}
			before := read(method)
			if _, err := answerTo(t, c, newRequest(method, "content")); err != nil {
				wantSent(t, err, message.MaybeExecuted)
				failed++
				if errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("%s waited for an answer: %v", method, err)
				}
			}
			if n := read(method) - before; n > 1 {
				t.Fatalf("%s was read %d times", method, n)
			}
		}
		if failed == 0 {
			t.Errorf("%s: no connection was stale", method)
		}
	}
}

// An idempotent request is sent twice at most, and a second failure does not
// hide that the first may have been executed.
func TestSecondTryOnStaleConnection(t *testing.T) {
	t.Run("closes every connection", func(t *testing.T) {
		var heads atomic.Int32
		addr, opened := backend(t, func(c *net.TCPConn, r *bufio.Reader) {
			if heads.Load() == 0 && take(r) {
				_, _ = io.WriteString(c, okAnswer)
			}
			if _, err := http.ReadRequest(r); err == nil {
				heads.Add(1)
			}
		})
		c := open(t, h1.ClientConfig{Addr: addr})
		if _, err := answerTo(t, c, newRequest("GET", "")); err != nil {
			t.Fatal(err)
		}
		_, err := answerTo(t, c, newRequest("GET", ""))
		wantSent(t, err, message.MaybeExecuted)
		if heads.Load() != 2 || opened.Load() != 2 {
			t.Errorf("sent %d times over %d connections", heads.Load(), opened.Load())
		}
	})
	t.Run("goes away", func(t *testing.T) {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			r := bufio.NewReader(c)
			if take(r) {
				_, _ = io.WriteString(c, okAnswer)
			}
			_ = take(r)
			_ = l.Close()
		}()
		c := open(t, h1.ClientConfig{Addr: l.Addr().String()})
		if _, err := answerTo(t, c, newRequest("GET", "")); err != nil {
			t.Fatal(err)
		}
		_, err = answerTo(t, c, newRequest("GET", ""))
		wantSent(t, err, message.MaybeExecuted)
	})
	t.Run("is slow", func(t *testing.T) {
		slow := make(chan struct{})
		addr, opened := backend(t, func(c *net.TCPConn, r *bufio.Reader) {
			for n := 0; take(r); n++ {
				if n == 1 {
					<-slow
				}
				_, _ = io.WriteString(c, okAnswer)
			}
		})
		t.Cleanup(func() { close(slow) })
		c := open(t, h1.ClientConfig{Addr: addr, ResponseHeader: 100 * time.Millisecond})
		if _, err := answerTo(t, c, newRequest("GET", "")); err != nil {
			t.Fatal(err)
		}
		_, err := answerTo(t, c, newRequest("GET", ""))
		wantSent(t, err, message.MaybeExecuted)
		if !errors.Is(err, os.ErrDeadlineExceeded) || opened.Load() != 1 {
			t.Errorf("%v, %d connections", err, opened.Load())
		}
	})
}

// numbered answers each request with its connection's number.
func numbered(t *testing.T) (string, *atomic.Int32) {
	t.Helper()
	var n atomic.Int32
	return backend(t, func(c *net.TCPConn, r *bufio.Reader) {
		text := fmt.Sprint(n.Add(1))
		for take(r) {
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
		}
	})
}

// begin gets answers without reading their content.
func begin(t *testing.T, c *h1.Client, n int) []*message.Response {
	t.Helper()
	all := make([]*message.Response, n)
	for i := range all {
		res, err := c.RoundTrip(t.Context(), newRequest("GET", ""))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(res.Close)
		all[i] = res
	}
	return all
}

func drain(t *testing.T, res *message.Response) {
	t.Helper()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Error(err)
	}
	res.Close()
}

// The last connection used is the first one used again; the others grow old and
// are closed.
func TestIdleConnectionsAreClosed(t *testing.T) {
	closed := make(chan struct{}, 3)
	addr, opened := backend(t, func(c *net.TCPConn, r *bufio.Reader) {
		for take(r) {
			_, _ = io.WriteString(c, okAnswer)
		}
		closed <- struct{}{}
	})
	c := open(t, h1.ClientConfig{Addr: addr, Idle: 100 * time.Millisecond})
	for _, res := range begin(t, c, 3) {
		drain(t, res)
	}
	gone := 0
	for stop := time.After(enginetest.Patience); gone < 2; {
		if got, err := answerTo(t, c, newRequest("GET", "")); err != nil || got != "200 ok" {
			t.Fatalf("%q, %v", got, err)
		}
		select {
		case <-closed:
			gone++
		case <-stop:
			t.Fatalf("%d connections were closed", gone)
		default:
		}
	}
	if n := opened.Load(); n != 3 {
		t.Errorf("%d connections: the one in use was closed", n)
	}
	enginetest.Within(t, "the end of the last one", closed)
}

func TestLastUsedIsFirst(t *testing.T) {
	addr, opened := numbered(t)
	c := open(t, h1.ClientConfig{Addr: addr})
	all := begin(t, c, 3)
	var order []string
	for _, res := range all {
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		order = append(order, "200 "+string(b))
	}
	for range 5 {
		if got, err := answerTo(t, c, newRequest("GET", "")); err != nil || got != order[2] {
			t.Errorf("%q of %q, %v", got, order, err)
		}
	}
	if opened.Load() != 3 {
		t.Errorf("%d connections", opened.Load())
	}
}

// Close leaves running exchanges alone, and keeps no connection after them.
func TestCloseInUse(t *testing.T) {
	closed := make(chan struct{}, 3)
	addr, _ := backend(t, func(c *net.TCPConn, r *bufio.Reader) {
		for take(r) {
			_, _ = io.WriteString(c, okAnswer)
		}
		closed <- struct{}{}
	})
	c := h1.NewClient(h1.ClientConfig{Addr: addr})
	all := begin(t, c, 2)
	if _, err := answerTo(t, c, newRequest("GET", "")); err != nil {
		t.Fatal(err)
	}
	c.Close()
	enginetest.Within(t, "the idle connection's end", closed)
	for _, res := range all {
		drain(t, res)
		enginetest.Within(t, "a used connection's end", closed)
	}
	c.Close()
}

// A thousand exchanges at once get what they asked for; afterwards nothing is
// left but idle connections, and after Close nothing at all.
func TestThousandExchanges(t *testing.T) {
	addr, opened := backend(t, func(c *net.TCPConn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			b, err := io.ReadAll(req.Body)
			if err != nil {
				return
			}
			text := req.Header.Get("X-Id") + string(b)
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
		}
	})
	before := openFiles(t)
	c := open(t, h1.ClientConfig{Addr: addr, Connect: enginetest.Patience})
	var all sync.WaitGroup
	for i := range 1000 {
		all.Go(func() {
			for _, method := range []string{"GET", "POST", "PUT"} {
				content, id := "", fmt.Sprint(method, " ", i, " ")
				if method != "GET" {
					content = strings.Repeat(id, 1+i%20)
				}
				got, err := answerTo(t, c, newRequest(method, content, message.Field{Name: "X-Id", Value: id}))
				if err != nil || got != "200 "+strings.TrimSuffix(id, " ")+content {
					t.Errorf("%s: %q, %v", id, got, err)
				}
			}
		})
	}
	all.Wait()
	// Some exchange may begin before the last write of the one before has returned.
	if n := opened.Load(); n > 1500 {
		t.Errorf("%d connections for 1000 exchanges at a time", n)
	}
	c.Close()
	for stop := time.After(enginetest.Patience); openFiles(t) > before; {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-stop:
			t.Fatalf("%d open files, %d before", openFiles(t), before)
		}
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	return len(all)
}
