package h1_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"anyedge/internal/message"
	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h1"
)

// Whoever keeps the books hears of what the engine refused by itself.
func TestRefused(t *testing.T) {
	told := make(chan string, 1)
	var from netip.AddrPort // of the refusal heard last
	_, addr := start(t, h1.Config{
		Header: 8 * message.KiB, HeaderTimeout: 200 * time.Millisecond,
		Refused: func(peer netip.AddrPort, status int, rule string) {
			from = peer
			told <- fmt.Sprint(status, " ", rule)
		},
	}, hello)
	for _, tt := range []struct{ sent, want string }{
		{"GET /\r\nHost: a\r\n\r\n", "400 " + h1.RuleRequestLine},
		{"GET / HTTP/2.0\r\nHost: a\r\n\r\n", "505 " + h1.RuleRequestLine},
		{"GET a HTTP/1.1\r\nHost: a\r\n\r\n", "400 " + h1.RuleTarget},
		{get("X : 1\r\n"), "400 " + h1.RuleField},
		{get("Content-Length: x\r\n"), "400 " + h1.RuleFraming},
		{get("Transfer-Encoding: gzip, chunked\r\n"), "501 " + h1.RuleFraming},
		{get("Host: b\r\n"), "400 " + h1.RuleHost},
		{get("Expect: more\r\n"), "417 " + h1.RuleExpect},
		{"GET / HTTP/1.1\nHost: a\r\n\r\n", "400 " + h1.RuleBareLF},
		{get("X: 1\nY: 2\r\n"), "400 " + h1.RuleBareLF},
		{get("X: " + strings.Repeat("x", 9<<10) + "\r\n"), "431 " + h1.RuleHeaderSize},
		{get(strings.Repeat("X: x\r\n", 101)), "431 " + h1.RuleHeaderSize},
		{"GET /" + strings.Repeat("x", 9<<10), "414 " + h1.RuleHeaderSize},
		{"GET / HTTP/1.1\r\nHost", "408 " + h1.RuleSlowHeader},
	} {
		t.Run(tt.want, func(t *testing.T) {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			fmt.Fprint(c, tt.sent)
			got := <-told
			if got != tt.want || from.String() != c.LocalAddr().String() {
				t.Errorf("heard %s of %v, want %s of %v", got, from, tt.want, c.LocalAddr())
			}
			if answer := readAll(t, c); !strings.HasPrefix(answer, "HTTP/1.1 "+tt.want[:3]) {
				t.Errorf("answered %.50q", answer)
			}
		})
	}
}

// trickle sends a byte each 20 ms until nobody takes it.
func trickle(c net.Conn) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		if _, err := c.Write([]byte("0")); err != nil {
			return
		}
	}
}

// A client has to keep 240 B/s, sending content and taking an answer.
func TestSlowClients(t *testing.T) {
	told := make(chan string, 1)
	_, addr := start(t, h1.Config{
		SlowAfter: 200 * time.Millisecond,
		Refused:   func(_ netip.AddrPort, status int, rule string) { told <- fmt.Sprint(status, " ", rule) },
	}, message.RoundTripFunc(func(ctx context.Context, r *message.Request) (*message.Response, error) {
		if r.Body == nil {
			return &message.Response{Status: 200, Length: -1, Body: &endless{closed: make(chan struct{})}}, nil
		}
		return whole(ctx, r)
	}))
	for _, tt := range []struct{ name, sent, want string }{
		{"content", post("Content-Length: 10\r\n", "012"), "408 slow_content"},
		{"a byte at a time", post("Content-Length: 100000\r\n", "0"), "408 slow_content"},
		{"chunks", chunked("2\r\nab\r\n3"), "408 slow_content"},
		{"trailers", chunked("2\r\nab\r\n0\r\nX: 1\r\n"), "408 slow_content"},
		{"an answer", get(""), "200 slow_reader"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			fmt.Fprint(c, tt.sent)
			if tt.name == "a byte at a time" {
				go trickle(c)
			}
			if got := enginetest.Within(t, "the end of patience", told); got != tt.want {
				t.Errorf("heard %s, want %s", got, tt.want)
			}
			if tt.want[:3] == "200" {
				return
			}
			if answer := readAll(t, c); !strings.HasPrefix(answer, "HTTP/1.1 "+tt.want[:3]) {
				t.Errorf("answered %.50q", answer)
			}
		})
	}
}

// Whoever sends little by little, but fast enough, is waited for; so is whoever
// waits for the edge.
func TestSteadyClient(t *testing.T) {
	_, addr := start(t, h1.Config{SlowAfter: time.Second}, whole)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const pieces, size = 40, 100
	fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n", pieces*size)
	for range pieces { // 10 KB/s
		fmt.Fprint(c, strings.Repeat("x", size))
		<-time.After(10 * time.Millisecond)
	}
	if answer := readAll(t, c); !strings.HasPrefix(answer, "HTTP/1.1 200") {
		t.Errorf("answered %.50q", answer)
	}
}
