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
	"testing"
	"time"

	"anyedge/internal/message"
	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h1"
)

// upgradeRequest asks for the protocol "raw".
func upgradeRequest() *message.Request {
	r := newRequest("GET", "")
	r.Protocol = "raw"
	return r
}

const switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "

// A backend that does not grant an upgrade answers as to any request, and the
// connection stays one of HTTP.
func TestUpgradeRefused(t *testing.T) {
	for _, answer := range []string{"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", "HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n"} {
		addr, opened := saying(t, answer, false)
		c := open(t, h1.ClientConfig{Addr: addr})
		for _, r := range []*message.Request{upgradeRequest(), newRequest("GET", ""), newRequest("POST", "content")} {
			res, err := c.RoundTrip(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(res.Body)
			if res.Stream != nil || res.Status != 403 || string(b) != "no" || err != nil {
				t.Errorf("%d %q, %v", res.Status, b, err)
			}
			res.Close()
		}
		if n := opened.Load(); n != 1 {
			t.Errorf("%d connections", n)
		}
	}
}

// A 101 to something else is no answer.
func TestUpgradeToSomethingElse(t *testing.T) {
	for _, answer := range []string{
		switching + "cooked\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\n\r\n", switching + "\r\n\r\n", "HTTP/1.0 101 Switching Protocols\r\nUpgrade: cooked\r\n\r\n",
	} {
		addr, _ := saying(t, answer, false)
		res, err := open(t, h1.ClientConfig{Addr: addr}).RoundTrip(t.Context(), upgradeRequest())
		res.Close()
		wantSent(t, err, message.Answered)
	}
}

// What comes right behind the 101 is the stream's, however much it is, and each
// direction ends alone.
func TestGrantedStream(t *testing.T) {
	first := strings.Repeat("first", 20<<10)
	heard := make(chan string, 1)
	addr, _ := backend(t, func(c *net.TCPConn, r *bufio.Reader) {
		if take(r) {
			_, _ = io.WriteString(c, switching+"RAW\r\nX-Own: 1\r\n\r\n"+first)
			_ = c.CloseWrite()
			b, err := io.ReadAll(r)
			heard <- fmt.Sprint(string(b), err)
		}
	})
	res, err := open(t, h1.ClientConfig{Addr: addr}).RoundTrip(t.Context(), upgradeRequest())
	if err != nil {
		t.Fatal(err)
	}
	defer res.Close()
	if res.Status != 101 || len(res.Header) != 1 || res.Header.Get("X-Own") != "1" || res.Body != nil {
		t.Errorf("%d %v", res.Status, res.Header)
	}
	if b, err := io.ReadAll(res.Stream); string(b) != first || err != nil {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if _, err := io.WriteString(res.Stream, "last"); err != nil {
		t.Error(err)
	}
	if err := message.CloseWrite(res.Stream); err != nil {
		t.Error(err)
	}
	if got := enginetest.Within(t, "the backend's end", heard); got != "last<nil>" {
		t.Error(got)
	}
}

// A stream ends with its context.
func TestGrantedStreamGivenUp(t *testing.T) {
	closed := make(chan struct{})
	addr, _ := backend(t, func(c *net.TCPConn, r *bufio.Reader) {
		if take(r) {
			_, _ = io.WriteString(c, switching+"raw\r\n\r\n")
			_, _ = r.ReadByte()
			close(closed)
		}
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	counted := &countedContext{Context: ctx}
	res, err := open(t, h1.ClientConfig{Addr: addr}).RoundTrip(counted, upgradeRequest())
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := res.Stream.Read(make([]byte, 1))
		ended <- err
	}()
	cancel(errEnough)
	if err := enginetest.Within(t, "the read", ended); err == nil || errors.Is(err, io.EOF) {
		t.Error(err)
	}
	res.Close()
	enginetest.Within(t, "the connection's end", closed)
	if n := counted.afterFuncs.Load(); n != 0 {
		t.Errorf("%d functions hang on the context", n)
	}
}

// An upgrade is not tried on a connection that may be stale: it could not be
// tried again.
func TestUpgradeOnNewConnection(t *testing.T) {
	addr, _ := backend(t, func(c *net.TCPConn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		switch {
		case err != nil:
		case req.Header.Get("Upgrade") != "":
			_, _ = io.WriteString(c, switching+"raw\r\n\r\n")
		default:
			_, _ = io.WriteString(c, okAnswer)
			_, _ = http.ReadRequest(r) // and no word
		}
	})
	c := open(t, h1.ClientConfig{Addr: addr})
	if _, err := answerTo(t, c, newRequest("GET", "")); err != nil {
		t.Fatal(err)
	}
	res, err := c.RoundTrip(t.Context(), upgradeRequest())
	if err != nil {
		t.Fatal(err)
	}
	res.Close()
}

// No part of a request begins another line.
func TestRequestsThatAreNone(t *testing.T) {
	addr, opened := saying(t, okAnswer, false)
	c := open(t, h1.ClientConfig{Addr: addr})
	for _, r := range []*message.Request{
		{Method: "", Target: "/"},
		{Method: "GET /", Target: "/"},
		{Method: "GET", Target: ""},
		{Method: "GET", Target: "/ HTTP/1.1\r\nX: 1"},
		{Method: "GET", Target: "/\x80"},
		{Method: "GET", Target: "/", Authority: "a\r\nX: 1"},
		{Method: "GET", Target: "/", Authority: "a", Protocol: "raw\r\nX: 1"},
		{Method: "CONNECT", Target: "a:1"},
	} {
		_, err := answerTo(t, c, r)
		wantSent(t, err, message.NothingSent)
	}
	if n := opened.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
}

// Ready never promises a byte that Read then waits for.
func TestReadyIsThere(t *testing.T) {
	const chunked = "Transfer-Encoding: chunked\r\n\r\n"
	for _, parts := range [][]string{
		{"Content-Length: 9\r\n\r\n", "123", "456789"},
		{"Content-Length: 3\r\n\r\n123rest"},
		{"\r\n12", "34"},
		{chunked, "3\r\n", "12", "3\r\n", "0\r\n\r\n"},
		{chunked + "3", "\r\n123", "\r\n4\r", "\n4567", "\r\n0\r\n", "X: 1\r\n\r\n"},
		{chunked + "3\r\n123\r\n4\r\n45", "67\r\n0\r\n\r\nrest"},
	} {
		t.Run(fmt.Sprintf("%q", parts), func(t *testing.T) {
			goOn := make(chan struct{})
			addr, _ := backend(t, func(c *net.TCPConn, r *bufio.Reader) {
				if !take(r) {
					return
				}
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n"+parts[0])
				for _, p := range parts[1:] {
					<-goOn
					_, _ = io.WriteString(c, p)
				}
			})
			t.Cleanup(func() { close(goOn) })
			res, err := open(t, h1.ClientConfig{Addr: addr}).RoundTrip(t.Context(), newRequest("GET", ""))
			if err != nil {
				t.Fatal(err)
			}
			defer res.Close()
			for err == nil {
				n := message.Ready(res.Body)
				send := goOn
				if n > 0 { // then nothing more is needed
					send = nil
				}
				read := make(chan error, 1)
				go func() {
					_, err := io.ReadFull(res.Body, make([]byte, max(n, 1)))
					read <- err
				}()
				err = readWhile(t, read, send)
			}
			if !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			if n := message.Ready(res.Body); n != 0 {
				t.Errorf("%d bytes are ready behind the end", n)
			}
		})
	}
}

// readWhile returns the end of a read, for which the rest may be sent.
func readWhile(t *testing.T, read <-chan error, send chan<- struct{}) error {
	t.Helper()
	for {
		select {
		case err := <-read:
			return err
		case send <- struct{}{}:
		case <-time.After(enginetest.Patience):
			t.Fatal("what was ready is not there")
		}
	}
}
