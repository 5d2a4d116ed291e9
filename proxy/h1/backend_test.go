package h1_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"anyedge/internal/message"
	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h1"
)

// backend serves every connection in a goroutine of its own, and closes it
// then. It returns the address and how many connections there were.
func backend(t *testing.T, serve func(c *net.TCPConn, r *bufio.Reader)) (string, *atomic.Int32) {
	t.Helper()
	var opened atomic.Int32
	return enginetest.Listen(t, func(c net.Conn) {
		opened.Add(1)
		go func() {
			defer c.Close()
			serve(c.(*net.TCPConn), bufio.NewReader(c))
		}()
	}), &opened
}

// take reads a whole request, and reports whether there was one.
func take(r *bufio.Reader) bool {
	req, err := http.ReadRequest(r)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, req.Body)
	return err == nil
}

// saying answers every request with the same bytes; with ends, each connection
// is closed behind the first answer.
func saying(t *testing.T, answer string, ends bool) (string, *atomic.Int32) {
	t.Helper()
	return backend(t, func(c *net.TCPConn, r *bufio.Reader) {
		for take(r) {
			if _, err := io.WriteString(c, answer); err != nil || ends {
				return
			}
		}
	})
}

// newRequest returns a request; content "" means none.
func newRequest(method, content string, fields ...message.Field) *message.Request {
	r := &message.Request{Method: method, Target: "/", Authority: "a", Header: fields}
	if content != "" {
		r.Body = message.NewBody(io.NopCloser(strings.NewReader(content)), int64(len(content)), message.KiB, nil)
	}
	return r
}

// answerTo returns the status and content of the answer to r.
func answerTo(t *testing.T, c message.RoundTripper, r *message.Request) (string, error) {
	t.Helper()
	res, err := c.RoundTrip(t.Context(), r)
	if err != nil {
		return "", err
	}
	defer res.Close()
	if res.Body == nil {
		return fmt.Sprint(res.Status), nil
	}
	b, err := io.ReadAll(res.Body)
	if err == nil && res.Length >= 0 && res.Length != int64(len(b)) {
		err = fmt.Errorf("%d bytes, not %d", len(b), res.Length)
	}
	return fmt.Sprint(res.Status, " ", string(b)), err
}

// wantSent fails the test unless err is a failed try that got so far.
func wantSent(t *testing.T, err error, want message.Sent) {
	t.Helper()
	var try *message.TryError
	if !errors.As(err, &try) || try.Sent != want || try.To == "" {
		t.Errorf("got %v, want an error of a try, %v", err, want)
	}
}

// What a connection carried decides whether it is used again.
func TestWhatIsKept(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	for _, tt := range []struct {
		name, method, answer, want string
		ends, kept                 bool
	}{
		{name: "length", answer: ok + "Content-Length: 2\r\n\r\nok", want: "200 ok", kept: true},
		{name: "chunks", answer: ok + "Transfer-Encoding: chunked\r\n\r\n1\r\no\r\n1;x=y\r\nk\r\n0\r\nX: y\r\n\r\n", want: "200 ok", kept: true},
		{name: "no content", answer: ok + "Content-Length: 0\r\n\r\n", want: "200", kept: true},
		{name: "204", answer: "HTTP/1.1 204 No Content\r\n\r\n", want: "204", kept: true},
		{name: "no reason", answer: "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", want: "200 ok", kept: true},
		{name: "empty reason", answer: "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok", want: "200 ok", kept: true},
		{name: "unknown status", answer: "HTTP/1.1 799 ?\r\nContent-Length: 2\r\n\r\nok", want: "799 ok", kept: true},
		{name: "minor above 1", answer: "HTTP/1.7 200 OK\r\nContent-Length: 2\r\n\r\nok", want: "200 ok", kept: true},
		{name: "interim first", answer: "HTTP/1.1 102 Processing\r\n\r\n" + ok + "Content-Length: 2\r\n\r\nok", want: "200 ok", kept: true},
		{name: "HEAD", method: "HEAD", answer: ok + "Content-Length: 2\r\n\r\n", want: "200", kept: true},

		{name: "until the end", answer: ok + "\r\nok", ends: true, want: "200 ok"},
		{name: "close", answer: ok + "Connection: Close\r\nContent-Length: 2\r\n\r\nok", want: "200 ok"},
		{name: "close among others", answer: ok + "Connection: keep-alive, x\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", want: "200 ok"},
		{name: "HTTP/1.0", answer: "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", want: "200 ok"},
		{name: "HTTP/1.0 keep-alive", answer: "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", want: "200 ok"},
		{name: "longer than its length", answer: ok + "Content-Length: 2\r\n\r\nok and more", want: "200 ok"},
		{name: "two answers", answer: strings.Repeat(ok+"Content-Length: 2\r\n\r\nok", 2), want: "200 ok"},
		{name: "fields behind the content", answer: ok + "Content-Length: 2\r\n\r\nokX-Late: 1\r\n\r\n", want: "200 ok"},
		{name: "a CRLF behind the content", answer: ok + "Content-Length: 2\r\n\r\nok\r\n", want: "200 ok"},
		{name: "HEAD with content", method: "HEAD", answer: ok + "Content-Length: 2\r\n\r\nok", want: "200"},
		{name: "204 with content", answer: "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok", want: "204"},
		{name: "304 with content", answer: "HTTP/1.1 304 Not Modified\r\n\r\nok", want: "304"},
		{name: "closed without a word", answer: ok + "Content-Length: 2\r\n\r\nok", ends: true, want: "200 ok"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr, opened := saying(t, tt.answer, tt.ends)
			c := open(t, h1.ClientConfig{Addr: addr})
			method := tt.method
			if method == "" {
				method = "GET"
			}
			want := int32(3)
			if tt.kept {
				want = 1
			}
			for range 3 {
				if got, err := answerTo(t, c, newRequest(method, "")); err != nil || got != tt.want {
					t.Errorf("%q, %v", got, err)
				}
			}
			if n := opened.Load(); n != want {
				t.Errorf("%d connections, want %d", n, want)
			}
		})
	}
}

// An answer that could be understood in two ways is none.
func TestAnswersRefused(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	for _, answer := range []string{
		ok + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		ok + "Transfer-Encoding: gzip\r\n\r\n",
		ok + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		ok + "Content-Length: -2\r\n\r\n",
		ok + "Content-Length: +2\r\n\r\nok",
		ok + "Content-Length: 2 2\r\n\r\nok",
		ok + "Content-Length: 99999999999999999999\r\n\r\n",
		ok + "X: 1\r\n folded\r\nContent-Length: 2\r\n\r\nok",
		ok + " X: 1\r\nContent-Length: 2\r\n\r\nok",
		ok + "X : 1\r\nContent-Length: 2\r\n\r\nok",
		ok + "X: \x00\r\nContent-Length: 2\r\n\r\nok",
		ok + "X: 1\rY: 2\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
		ok + "Content-Length: 2\n\r\nok",
		"HTTP/1.1 099 Low\r\n\r\n", "HTTP/1.1 1000 High\r\n\r\n", "HTTP/1.1 20 Short\r\n\r\n", "HTTP/1.1 2x0 OK\r\n\r\n", "HTTP/1.1 200OK\r\n\r\n",
		"HTTP/2.0 200 OK\r\n\r\n", "HTTP/1.1  200 OK\r\n\r\n", "http/1.1 200 OK\r\n\r\n", "HTTP/1.10 200 OK\r\n\r\n", "200 OK\r\n\r\n", "HTTP/1.1\r\n\r\n",
		"\r\n\r\n" + ok + "Content-Length: 2\r\n\r\nok",
		"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n",
		ok + "X: " + strings.Repeat("x", 300<<10) + "\r\n\r\n",
		"HTTP/1.1 200 " + strings.Repeat("x", 300<<10) + "\r\n\r\n",
		ok + strings.Repeat("X: y\r\n", 60<<10) + "\r\n",
		ok + strings.Repeat("X: y\r\n", 300) + "X: 1\n\r\n\r\n",
	} {
		t.Run(fmt.Sprintf("%.60q", answer), func(t *testing.T) {
			addr, opened := saying(t, answer, false)
			got, err := answerTo(t, open(t, h1.ClientConfig{Addr: addr}), newRequest("GET", ""))
			wantSent(t, err, message.Answered)
			if n := opened.Load(); got != "" || n != 1 {
				t.Errorf("got %q over %d connections", got, n)
			}
		})
	}
}

// A backend is no stranger: its heads are bounded in bytes, well above a
// request's bounds.
func TestLargeAnswerHeads(t *testing.T) {
	for name, fields := range map[string]string{
		"long":       "X: " + strings.Repeat("x", 255<<10) + "\r\n",
		"many":       strings.Repeat("Set-Cookie: a=b\r\n", 300),
		"very many":  strings.Repeat("Set-Cookie: a=b\r\n", 10_000),
		"just above": strings.Repeat("X: y\r\n", 101),
	} {
		t.Run(name, func(t *testing.T) {
			addr, opened := saying(t, "HTTP/1.1 200 OK\r\n"+fields+"Content-Length: 2\r\n\r\nok", false)
			c := open(t, h1.ClientConfig{Addr: addr})
			for range 2 {
				res, err := c.RoundTrip(t.Context(), newRequest("GET", ""))
				if err != nil {
					t.Fatal(err)
				}
				if b, err := io.ReadAll(res.Body); string(b) != "ok" || err != nil {
					t.Errorf("%q, %v", b, err)
				}
				if got, want := len(res.Header), strings.Count(fields, "\n"); got != want {
					t.Errorf("%d fields, want %d", got, want)
				}
				res.Close()
			}
			if opened.Load() != 1 {
				t.Error("the connection was not kept")
			}
		})
	}
}
