package h1_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"anyedge/internal/message"
	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h1"
)

// hello answers everything with what was asked for.
var hello = message.RoundTripFunc(func(_ context.Context, r *message.Request) (*message.Response, error) {
	return enginetest.Text(200, fmt.Sprint(r.Method, " ", r.Authority, " ", r.Target)), nil
})

// exchange sends raw bytes and returns all that comes back.
func exchange(t *testing.T, addr, raw string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(enginetest.Patience))
	if _, err := io.WriteString(c, raw); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if err != nil && len(b) == 0 {
		t.Fatal(err)
	}
	return string(b)
}

func TestTargets(t *testing.T) {
	_, addr := start(t, h1.Config{}, hello)
	for _, tt := range []struct{ line, host, want string }{
		{"GET /a%2Fb//c?x=%20 HTTP/1.1", "a", "GET a /a%2Fb//c?x=%20"},
		{"GET http://b/x?y HTTP/1.1", "a", "GET b /x?y"},
		{"GET http://b HTTP/1.1", "a", "GET b /"},
		{"GET http://b?q HTTP/1.1", "a", "GET b /?q"},
		{"OPTIONS * HTTP/1.1", "a", "OPTIONS a *"},
		{"OPTIONS http://b HTTP/1.1", "a", "OPTIONS b *"},
		{"CONNECT b:443 HTTP/1.1", "b:443", "CONNECT b:443 b:443"},
	} {
		t.Run(tt.line, func(t *testing.T) {
			got := exchange(t, addr, tt.line+"\r\nHost: "+tt.host+"\r\nConnection: close\r\n\r\n")
			if _, content, _ := strings.Cut(got, "\r\n\r\n"); content != tt.want {
				t.Fatalf("%q", got)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	_, addr := start(t, h1.Config{
		Header: 8 * message.KiB, Idle: 50 * time.Millisecond, HeaderTimeout: 100 * time.Millisecond,
	}, hello)
	for _, tt := range []struct{ name, raw, want string }{
		{"header section", "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 20<<10) + "\r\n\r\n", "HTTP/1.1 431 "},
		{"request line", "GET /" + strings.Repeat("x", 20<<10) + " HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 414 "},
		{"slow header section", "GET / HTTP/1.1\r\nHost: a\r\n", "HTTP/1.1 408 "},
		{"silence", "", ""},
		{"idle", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 "},
		{"no host", "GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// exchange returns only when the server closes.
			if got := exchange(t, addr, tt.raw); !strings.HasPrefix(got, tt.want) || tt.want == "" && got != "" {
				t.Fatalf("%.100q", got)
			}
		})
	}
}

func TestCurl(t *testing.T) {
	enginetest.Tool(t, "curl")
	_, addr := start(t, h1.Config{}, message.RoundTripFunc(func(_ context.Context, r *message.Request) (*message.Response, error) {
		reader, err := r.Body.Open()
		if err != nil {
			return nil, err
		}
		b, err := io.ReadAll(reader)
		if err != nil {
			return nil, err
		}
		return enginetest.Text(200, string(b)), nil
	}))
	content := strings.Repeat("0123456789", 200_000) // enough for Expect: 100-continue
	cmd := exec.CommandContext(t.Context(), "curl", "--http1.1", "-sS", "--fail", "--max-time", "20", "--data-binary", "@-",
		"--expect100-timeout", "15", "-H", "Expect: 100-continue", "-w", "%{http_version} %{time_total}", "http://"+addr+"/")
	cmd.Stdin = strings.NewReader(content)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	body, stats := string(out[:min(len(out), len(content))]), string(out[min(len(out), len(content)):])
	var version string
	var seconds float64
	if _, err := fmt.Sscan(stats, &version, &seconds); err != nil || body != content || version != "1.1" {
		t.Fatalf("%d bytes back, %q, %v", len(body), stats, err)
	}
	if seconds > 14 {
		t.Errorf("curl was not told to go on: %v s", seconds)
	}
}

// The backend decides whether the content is sent.
func TestExpectEndToEnd(t *testing.T) {
	origin := enginetest.Listen(t, func(c net.Conn) {
		defer c.Close()
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			t.Error(err)
		}
		fmt.Fprint(c, "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	})
	addr := relay(t, open(t, h1.ClientConfig{Addr: origin}))
	got := exchange(t, addr, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 7\r\nConnection: close\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 417 ") {
		t.Fatalf("%q", got)
	}
}

// A pooled connection that its backend has closed is no failure of the next
// request, unless that was written to it.
func TestStaleConnection(t *testing.T) {
	served := make(chan struct{}, 8)
	origin := enginetest.Listen(t, func(c net.Conn) {
		go func() { // one answer per connection, without saying so
			defer c.Close()
			req, err := http.ReadRequest(bufio.NewReader(c))
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			served <- struct{}{}
		}()
	})
	c := open(t, h1.ClientConfig{Addr: origin})
	for range 50 {
		r := &message.Request{Method: "POST", Target: "/", Authority: "a"}
		r.Body = message.NewBody(io.NopCloser(strings.NewReader("content")), 7, message.KiB, nil)
		res, err := c.RoundTrip(t.Context(), r)
		if err != nil {
			var try *message.TryError
			if !errors.As(err, &try) || try.Sent != message.MaybeExecuted {
				t.Fatalf("%v (%T)", err, err)
			}
			continue
		}
		if _, err := io.ReadAll(res.Body); err != nil {
			t.Fatal(err)
		}
		res.Close()
		enginetest.Within(t, "answer", served)
	}
}

// An answer that makes no sense is one, and nobody else is asked.
func TestGarbage(t *testing.T) {
	for _, tt := range []struct {
		name, answer string
		sent         message.Sent
	}{
		{"no HTTP", "SSH-2.0-OpenSSH_9.2\r\n\r\n", message.Answered},
		{"bad field", "HTTP/1.1 200 OK\r\nno colon\r\n\r\n", message.Answered},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", message.Answered},
		{"unasked upgrade", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", message.Answered},
		{"cut in the head", "HTTP/1.1 200 OK\r\nContent-Le", message.Answered},
		{"nothing", "", message.MaybeExecuted},
	} {
		t.Run(tt.name, func(t *testing.T) {
			origin := enginetest.Listen(t, func(c net.Conn) {
				defer c.Close()
				if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
					_, _ = io.WriteString(c, tt.answer)
				}
			})
			res, err := open(t, h1.ClientConfig{Addr: origin}).RoundTrip(t.Context(), &message.Request{Method: "GET", Target: "/", Authority: "a"})
			if err == nil {
				res.Close()
				t.Fatalf("taken for an answer: %+v", res)
			}
			var try *message.TryError
			if !errors.As(err, &try) || try.Sent != tt.sent {
				t.Fatalf("%v: want %v", err, tt.sent)
			}
		})
	}
}

func TestTimeouts(t *testing.T) {
	silent := make(chan struct{})
	origin := enginetest.Listen(t, func(c net.Conn) {
		go func() { <-silent; _ = c.Close() }()
	})
	t.Cleanup(func() { close(silent) })
	c := open(t, h1.ClientConfig{Name: "b1", Addr: origin, ResponseHeader: 50 * time.Millisecond})
	res, err := c.RoundTrip(t.Context(), &message.Request{Method: "GET", Target: "/", Authority: "a"})
	res.Close()
	var try *message.TryError
	if !errors.As(err, &try) || try.Sent != message.MaybeExecuted || try.To != "b1" {
		t.Fatalf("%v", err)
	}
}

// An event must not wait for the one behind it, however long it is.
func TestEventsAreNotDelayed(t *testing.T) {
	for _, size := range []int{1, 4 << 10, 32 << 10, 64 << 10} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			pr, pw := io.Pipe()
			_, addr := start(t, h1.Config{}, message.RoundTripFunc(func(context.Context, *message.Request) (*message.Response, error) {
				return &message.Response{Status: 200, Length: -1, Body: pr}, nil
			}))
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(enginetest.Patience))
			fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			res, err := http.ReadResponse(bufio.NewReader(c), nil) // the head comes without content
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			for range 3 {
				go func() { _, _ = pw.Write(make([]byte, size)) }()
				if _, err := io.ReadFull(res.Body, make([]byte, size)); err != nil {
					t.Fatal(err)
				}
			}
			_ = pw.Close()
		})
	}
}
