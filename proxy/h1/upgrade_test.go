package h1_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"anyedge/internal/message"
	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h1"
)

// relay answers every request by c.
func relay(t *testing.T, c message.RoundTripper) string {
	t.Helper()
	_, addr := start(t, h1.Config{}, c)
	return addr
}

func TestWebSocketThroughServerAndClient(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer ws.CloseNow()
		for {
			kind, b, err := ws.Read(r.Context())
			if err != nil {
				return
			}
			if err := ws.Write(r.Context(), kind, append([]byte("echo "), b...)); err != nil {
				return
			}
		}
	}))
	t.Cleanup(origin.Close)
	addr := relay(t, open(t, h1.ClientConfig{Addr: origin.Listener.Addr().String()}))
	ctx, cancel := context.WithTimeout(t.Context(), enginetest.Patience)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, "ws://"+addr+"/socket", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	for i := range 3 {
		if err := ws.Write(ctx, websocket.MessageText, fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
		if _, b, err := ws.Read(ctx); err != nil || string(b) != fmt.Sprint("echo ", i) {
			t.Fatalf("got %q, %v", b, err)
		}
	}
	if err := ws.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
}

// rawOrigin answers an upgrade to "raw" and hands the stream to use.
func rawOrigin(t *testing.T, use func(*net.TCPConn, *bufio.Reader)) string {
	t.Helper()
	return enginetest.Listen(t, func(c net.Conn) {
		defer c.Close()
		r := bufio.NewReader(c)
		req, err := http.ReadRequest(r)
		if err != nil {
			t.Error(err)
			return
		}
		if got := req.Header.Get("Upgrade") + " " + req.Header.Get("Connection"); got != "raw Upgrade" {
			t.Errorf("asked for %q", got)
		}
		fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\nX-Own: 1\r\n\r\nfirst ")
		use(c.(*net.TCPConn), r)
	})
}

// upgrade dials addr, asks for "raw" with early bytes behind the request, and
// returns the connection behind the 101.
func upgrade(t *testing.T, addr, early string) (*net.TCPConn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: edge.example\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n", early)
	r := bufio.NewReader(c)
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != 101 || res.Header.Get("Upgrade") != "raw" || res.Header.Get("X-Own") != "1" {
		t.Fatal(res.Status, res.Header)
	}
	return c.(*net.TCPConn), r
}

// Each side ends its direction first once; the other goes on.
func TestUpgradeHalfClose(t *testing.T) {
	t.Run("client first", func(t *testing.T) {
		origin := rawOrigin(t, func(c *net.TCPConn, r *bufio.Reader) {
			all, err := io.ReadAll(r)
			fmt.Fprintf(c, "after your end: %s %v", all, err)
		})
		c, r := upgrade(t, relay(t, open(t, h1.ClientConfig{Addr: origin})), "early ")
		fmt.Fprint(c, "late")
		_ = c.CloseWrite()
		if got, err := io.ReadAll(r); err != nil || string(got) != "first after your end: early late <nil>" {
			t.Fatalf("%q, %v", got, err)
		}
	})
	t.Run("backend first", func(t *testing.T) {
		heard := make(chan string, 1)
		origin := rawOrigin(t, func(c *net.TCPConn, r *bufio.Reader) {
			_ = c.CloseWrite()
			all, err := io.ReadAll(r)
			heard <- fmt.Sprintf("%s %v", all, err)
		})
		c, r := upgrade(t, relay(t, open(t, h1.ClientConfig{Addr: origin})), "")
		if got, err := io.ReadAll(r); err != nil || string(got) != "first " {
			t.Fatalf("%q, %v", got, err)
		}
		fmt.Fprint(c, "still here")
		_ = c.CloseWrite()
		if got := enginetest.Within(t, "the client's rest", heard); got != "still here <nil>" {
			t.Fatal(got)
		}
	})
}

// An upgraded connection holds the shutdown up until its time is over.
func TestShutdownCutsUpgraded(t *testing.T) {
	ended := make(chan struct{})
	origin := rawOrigin(t, func(_ *net.TCPConn, r *bufio.Reader) {
		_, _ = io.Copy(io.Discard, r)
		close(ended)
	})
	s := h1.NewServer(h1.Config{}, open(t, h1.ClientConfig{Addr: origin}), enginetest.Log(t))
	_, r := upgrade(t, enginetest.Listen(t, s.ServeConn), "")
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- s.Shutdown(ctx) }()
	if b, err := r.ReadString(' '); err != nil || b != "first " {
		t.Fatalf("%q, %v", b, err)
	}
	cancel()
	if err := enginetest.Within(t, "shutdown", stopped); err == nil {
		t.Error("shutdown says that everything ended by itself")
	}
	enginetest.Within(t, "the backend's side", ended)
	if b, _ := io.ReadAll(r); len(b) > 0 {
		t.Errorf("more bytes: %q", b)
	}
}

// What is no upgrade must reach the backend as an ordinary request.
func TestUpgradeNotTaken(t *testing.T) {
	for _, tt := range []struct{ name, head, content string }{
		{"h2c", "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n", ""},
		{"not in Connection", "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: raw\r\n\r\n", ""},
		{"with content", "POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: raw\r\nContent-Length: 3\r\n\r\n", "abc"},
		{"HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := make(chan *message.Request, 1)
			_, addr := start(t, h1.Config{}, message.RoundTripFunc(func(_ context.Context, r *message.Request) (*message.Response, error) {
				seen := *r // r is over with its exchange
				got <- &seen
				return enginetest.Text(200, "ok"), nil
			}))
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			fmt.Fprint(c, tt.head, tt.content)
			r := enginetest.Within(t, "request", got)
			if r.Protocol != "" || len(r.Header) != 0 {
				t.Errorf("protocol %q, header %v", r.Protocol, r.Header)
			}
			if (r.Body != nil) != (tt.content != "") {
				t.Errorf("body %v", r.Body)
			}
			if strings.HasPrefix(tt.head, "GET / HTTP/1.0") && r.Inform != nil {
				t.Error("HTTP/1.0 has no interim answers")
			}
		})
	}
}
