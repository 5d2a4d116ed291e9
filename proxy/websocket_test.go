package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"anyedge/proxy"
)

// A client that talks is told to come again (1012) when the edge ends, and its app
// sees an orderly end. Nothing is cut off within a message.
func TestWebSocketFarewell(t *testing.T) {
	for _, url := range []string{"ws://shop.example/", "wss://shop.example/"} {
		t.Run(url, func(t *testing.T) {
			appEnd := make(chan error, 1)
			e := start(t, proxy.Setup{ShutdownMax: 8 * time.Second, Services: []proxy.ServiceConfig{shop(backend(t, func(w http.ResponseWriter, r *http.Request) {
				c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
				if err != nil {
					return
				}
				defer func() { _ = c.CloseNow() }()
				c.SetReadLimit(-1)
				var reading sync.WaitGroup
				defer reading.Wait()
				ctx, cancel := context.WithCancel(r.Context())
				defer cancel()
				reading.Go(func() {
					defer cancel()
					_, _, err := c.Read(ctx)
					appEnd <- err
				})
				for i := range 1 << 30 { // messages of all sizes, all the time
					if c.Write(ctx, websocket.MessageBinary, bytes.Repeat([]byte{byte(i)}, i%70_000)) != nil {
						return
					}
				}
			}).URL)}})
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			c, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: e.client(t)})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.CloseNow() }()
			c.SetReadLimit(-1)
			stopped := make(chan struct{})
			messages := 0
			for ; ; messages++ {
				_, b, err := c.Read(ctx)
				if err != nil {
					if websocket.CloseStatus(err) != websocket.StatusServiceRestart {
						t.Errorf("after %d messages: %v, want status 1012", messages, err)
					}
					break
				}
				if len(b) != messages%70_000 || len(b) > 0 && b[len(b)-1] != byte(messages) {
					t.Fatalf("message %d has %d bytes, or others", messages, len(b))
				}
				if messages == 10 {
					go func() { defer close(stopped); e.stop() }()
				}
			}
			if err := <-appEnd; websocket.CloseStatus(err) != websocket.StatusServiceRestart {
				t.Errorf("the app sees %v, want the client's 1012", err)
			}
			<-stopped
		})
	}
}

// webSocketOf opens one by hand, to a backend that is only a connection.
func webSocketOf(t *testing.T, shutdown time.Duration) (e *edge, client, app net.Conn) {
	t.Helper()
	conns := make(chan net.Conn, 1)
	e = start(t, proxy.Setup{ShutdownMax: shutdown, Services: []proxy.ServiceConfig{shop(backend(t, func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
		conns <- c
	}).URL)}})
	client = dialFrom(t, "127.0.0.1", e.addr("http"))
	_, _ = io.WriteString(client, "GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	app = <-conns
	t.Cleanup(func() { _ = app.Close() })
	_ = app.SetDeadline(time.Now().Add(patience))
	head := make([]byte, 1)
	for tail := ""; tail != "\r\n\r\n"; {
		if _, err := client.Read(head); err != nil {
			t.Fatal(err)
		}
		if tail += string(head); len(tail) > 4 {
			tail = tail[len(tail)-4:]
		}
	}
	return e, client, app
}

const goodbye = "\x88\x02\x03\xf4"

// The close frame comes where a frame of the app's ends, wherever that is.
func TestWebSocketFarewellBetweenFrames(t *testing.T) {
	long := "\x82\x7e\x01\x00" + string(make([]byte, 256))
	for _, tt := range []struct {
		name, before, after string // what the app sends before the drain, and in it
		want                string
	}{
		{"idle", "", "", goodbye},
		{"behind a frame", "\x81\x02hi", "", "\x81\x02hi" + goodbye},
		{"within a head", "\x82", "\x03abc\x81\x01x", "\x82\x03abc" + goodbye},
		{"within a long head", long[:3], long[3:] + "\x81\x01x", long + goodbye},
		{"within a payload", long[:100], long[100:] + "\x81\x01x", long + goodbye},
		{"within a message of two frames", "\x01\x02ab", "", "\x01\x02ab" + goodbye},
		{"within a very long frame", "\x82\x7f\x00\x00\x00\x00\x00\x00\x00\x05ab", "cde\x81\x01x", "\x82\x7f\x00\x00\x00\x00\x00\x00\x00\x05abcde" + goodbye},
		{"behind the app's own goodbye", "\x88\x02\x03\xe8", "", "\x88\x02\x03\xe8"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, client, app := webSocketOf(t, time.Second)
			got := bufio.NewReader(client)
			if _, err := io.WriteString(app, tt.before); err != nil {
				t.Fatal(err)
			}
			first := make([]byte, len(tt.before))
			if _, err := io.ReadFull(got, first); err != nil { // it has come through
				t.Fatal(err)
			}
			stopped := make(chan struct{})
			go func() { defer close(stopped); e.stop() }()
			if tt.after != "" {
				waitFor(t, "the drain to begin", func() bool { return e.addr("http") == "" })
				waitFor(t, "the goodbye to be due", func() bool { return e.FarewellsDue() == 0 })
				_, _ = io.WriteString(app, tt.after)
			}
			rest := make([]byte, len(tt.want)-len(tt.before))
			if _, err := io.ReadFull(got, rest); err != nil || string(first)+string(rest) != tt.want {
				t.Errorf("got %q, %v, want %q", string(first)+string(rest), err, tt.want)
			}
			// The client's goodbye goes on to the app, which ends the connection.
			_, _ = io.WriteString(client, "\x88\x82\x00\x00\x00\x00\x03\xf4")
			_ = client.(*net.TCPConn).CloseWrite()
			if b, _ := io.ReadAll(app); string(b) != "\x88\x82\x00\x00\x00\x00\x03\xf4" {
				t.Errorf("the app got %q", b)
			}
			_ = app.Close()
			if more, err := io.ReadAll(got); len(more) > 0 || err != nil && !errors.Is(err, net.ErrClosed) {
				t.Errorf("behind it: %q, %v", more, err)
			}
			<-stopped
		})
	}
}

// A client that hears and stays is ended.
func TestWebSocketFarewellIsBounded(t *testing.T) {
	e, client, _ := webSocketOf(t, time.Second)
	stopped := make(chan struct{})
	go func() { defer close(stopped); e.stop() }()
	b := make([]byte, 4)
	if _, err := io.ReadFull(client, b); err != nil || string(b) != goodbye {
		t.Fatalf("got %q, %v", b, err)
	}
	if n, err := client.Read(b); n != 0 || err == nil {
		t.Errorf("it goes on: %q", b[:n])
	}
	<-stopped
}
