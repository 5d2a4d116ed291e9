package h1_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"anyedge/internal/message"
	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h1"
)

// Content that does not end as its framing says is never taken for whole.
func TestContentBreaksOff(t *testing.T) {
	const chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, tt := range []struct{ name, answer, content string }{
		{"shorter than its length", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart", "part"},
		{"nothing of it", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", ""},
		{"in a chunk", chunked + "9\r\npart", "part"},
		{"behind a chunk", chunked + "4\r\npart\r\n", "part"},
		{"before a chunk's CRLF", chunked + "4\r\npart", "part"},
		{"in a size", chunked + "4\r\npart\r\n1", "part"},
		{"before the last CRLF", chunked + "4\r\npart\r\n0\r\n", "part"},
		{"in the trailer section", chunked + "4\r\npart\r\n0\r\nX: 1\r\n", "part"},
		{"size not hexadecimal", chunked + "4\r\npart\r\nxyz\r\n", "part"},
		{"size negative", chunked + "-4\r\npart\r\n0\r\n\r\n", ""},
		{"size with a sign", chunked + "+4\r\npart\r\n0\r\n\r\n", ""},
		{"size with 0x", chunked + "0x4\r\npart\r\n0\r\n\r\n", ""},
		{"size empty", chunked + "\r\npart\r\n0\r\n\r\n", ""},
		{"size too large", chunked + "ffffffffffffffffff\r\npart", ""},
		{"size with a bare LF", chunked + "4\npart\r\n0\r\n\r\n", ""},
		{"chunk longer than its size", chunked + "4\r\npartial\r\n0\r\n\r\n", "part"},
		{"endless extension", chunked + "4;" + strings.Repeat("x", 1<<20), ""},
		{"endless trailer section", chunked + "4\r\npart\r\n0\r\n" + strings.Repeat("X: y\r\n", 1<<16), "part"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr, _ := saying(t, tt.answer, true)
			c := open(t, h1.ClientConfig{Addr: addr})
			res, err := c.RoundTrip(t.Context(), newRequest("GET", ""))
			if err != nil {
				t.Fatal(err)
			}
			defer res.Close()
			b, err := io.ReadAll(res.Body)
			wantSent(t, err, message.Answered)
			if string(b) != tt.content {
				t.Errorf("content %.40q", b)
			}
			if n, again := res.Body.Read(make([]byte, 1)); n != 0 || again == nil || errors.Is(again, io.EOF) {
				t.Errorf("read on: %d, %v", n, again)
			}
		})
	}
}

// Content that a reset ends is broken, whatever its framing.
func TestContentEndsWithReset(t *testing.T) {
	for _, framing := range []string{"", "Content-Length: 9\r\n", "Transfer-Encoding: chunked\r\n"} {
		read := make(chan struct{})
		addr, _ := backend(t, func(c *net.TCPConn, r *bufio.Reader) {
			if take(r) {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n"+framing+"\r\n4\r\npart")
				<-read
				_ = c.SetLinger(0)
			}
		})
		res, err := open(t, h1.ClientConfig{Addr: addr}).RoundTrip(t.Context(), newRequest("GET", ""))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(res.Body, make([]byte, 4)); err != nil {
			t.Error(err)
		}
		close(read)
		_, err = io.Copy(io.Discard, res.Body)
		wantSent(t, err, message.Answered)
		res.Close()
	}
}

// So is content that a reset ends while the request's content is being sent:
// whoever writes must not take the error away from who reads.
func TestContentEndsWithResetWhileSending(t *testing.T) {
	read := make(chan struct{})
	addr, _ := backend(t, func(c *net.TCPConn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\npart")
		<-read
		_ = c.SetLinger(0)
	})
	c := open(t, h1.ClientConfig{Addr: addr})
	for range 50 {
		r := newRequest("POST", "")
		r.Body = message.NewBody(zeros{}, -1, message.KiB, nil)
		res, err := c.RoundTrip(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(res.Body, make([]byte, 4)); err != nil {
			t.Error(err)
		}
		read <- struct{}{}
		_, err = io.Copy(io.Discard, res.Body)
		wantSent(t, err, message.Answered)
		res.Close()
	}
}

// A backend cannot keep an exchange with answers that are none.
func TestInterimFlood(t *testing.T) {
	ended := make(chan struct{}, 1)
	addr, _ := backend(t, func(c *net.TCPConn, r *bufio.Reader) {
		for take(r) {
			for {
				if _, err := io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"); err != nil {
					ended <- struct{}{}
					return
				}
			}
		}
	})
	informed := 0
	r := newRequest("GET", "")
	r.Inform = func(int, message.Header) { informed++ }
	_, err := answerTo(t, open(t, h1.ClientConfig{Addr: addr}), r)
	wantSent(t, err, message.Answered)
	if informed > 100 {
		t.Errorf("%d interim answers", informed)
	}
	enginetest.Within(t, "the end of the connection", ended)
}

// An answer that is there before the request is one.
func TestAnswerBeforeRequest(t *testing.T) {
	addr, _ := backend(t, func(c *net.TCPConn, r *bufio.Reader) {
		_, _ = io.WriteString(c, "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy")
		_ = c.CloseWrite()
		_, _ = io.Copy(io.Discard, r)
	})
	for _, method := range []string{"GET", "POST"} {
		if got, err := answerTo(t, open(t, h1.ClientConfig{Addr: addr}), newRequest(method, "content")); err != nil || got != "503 busy" {
			t.Errorf("%s: %q, %v", method, got, err)
		}
	}
}

// What comes between two exchanges belongs to neither.
func TestBytesBetweenExchanges(t *testing.T) {
	for name, late := range map[string]string{
		"garbage": "garbage", "an answer": "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", "a CRLF": "\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			goOn, wrote := make(chan struct{}), make(chan struct{})
			addr, opened := backend(t, func(c *net.TCPConn, r *bufio.Reader) {
				for take(r) {
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
					if _, ok := <-goOn; ok {
						_, _ = io.WriteString(c, late)
						wrote <- struct{}{}
					}
				}
			})
			c := open(t, h1.ClientConfig{Addr: addr})
			for range 3 {
				if got, err := answerTo(t, c, newRequest("POST", "content")); err != nil || got != "200 ok" {
					t.Fatalf("%q, %v", got, err)
				}
				goOn <- struct{}{}
				enginetest.Within(t, "late bytes", wrote)
			}
			close(goOn)
			if n := opened.Load(); n != 3 {
				t.Errorf("%d connections", n)
			}
		})
	}
}
