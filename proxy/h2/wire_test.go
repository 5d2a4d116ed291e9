package h2_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"anyedge/internal/message"
	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h2"
)

// echo answers with the content of the request.
var echo = message.RoundTripFunc(func(_ context.Context, r *message.Request) (*message.Response, error) {
	reader, err := r.Body.Open()
	if err != nil {
		return nil, err
	}
	return &message.Response{Status: 200, Length: -1, Body: reader, Trailer: r.Body.Trailer}, nil
})

func TestCurl(t *testing.T) {
	enginetest.Tool(t, "curl")
	s, plain := start(t, h2.Config{}, echo)
	server, _ := enginetest.TLS(t, "h2")
	secure := enginetest.Listen(t, func(c net.Conn) { s.ServeConn(tls.Server(c, server)) })
	content := strings.Repeat("0123456789", 200_000)
	for _, args := range [][]string{
		{"--http2-prior-knowledge", "http://" + plain + "/"},
		{"--http2", "-k", "https://" + secure + "/"},
	} {
		t.Run(args[0], func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), "curl", append(args, "-sS", "--fail", "--max-time", "20", "--data-binary", "@-", "-w", "%{http_version}")...)
			cmd.Stdin = strings.NewReader(content)
			out, err := cmd.Output()
			if err != nil || string(out) != content+"2" {
				t.Fatalf("%d bytes, %v", len(out), err)
			}
		})
	}
}

// Plain HTTP/1 is not served here.
func TestHTTP1IsRefused(t *testing.T) {
	_, addr := start(t, h2.Config{}, echo)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if b, _ := io.ReadAll(c); len(b) > 0 {
		t.Fatalf("%q", b)
	}
}

func TestHeaderLimit(t *testing.T) {
	_, addr := start(t, h2.Config{Header: 4 * message.KiB}, echo)
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+addr+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Long", strings.Repeat("x", 64<<10))
	res, err := transport(t, nil).RoundTrip(req)
	if err != nil {
		return // the client obeys SETTINGS_MAX_HEADER_LIST_SIZE
	}
	defer res.Body.Close()
	if res.StatusCode != 431 {
		t.Fatal(res.Status)
	}
}

// refuser is a backend that refuses every stream.
func refuser(t *testing.T) string {
	t.Helper()
	return enginetest.Listen(t, func(c net.Conn) {
		go func() {
			defer c.Close()
			if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
				return
			}
			f := http2.NewFramer(c, c)
			_ = f.WriteSettings()
			for {
				frame, err := f.ReadFrame()
				if err != nil {
					return
				}
				if h, ok := frame.(*http2.HeadersFrame); ok {
					_ = f.WriteRSTStream(h.StreamID, http2.ErrCodeRefusedStream)
				}
			}
		}()
	})
}

func TestTries(t *testing.T) {
	for _, tt := range []struct {
		name, addr string
		req        message.Request
		want       message.Sent
	}{
		{"refused stream", refuser(t), message.Request{Method: "GET"}, message.NothingSent},
		{"refused stream with content", refuser(t), message.Request{Method: "POST"}, message.NothingSent},
		{"upgrade", refuser(t), message.Request{Method: "GET", Protocol: "websocket"}, message.NothingSent},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), enginetest.Patience)
			defer cancel()
			tt.req.Authority, tt.req.Target = "a", "/"
			if tt.req.Method == "POST" { // content that was taken cannot be sent again
				tt.req.Body = message.NewBody(io.NopCloser(strings.NewReader("content")), 7, 0, nil)
			}
			res, err := open(t, h2.ClientConfig{Addr: tt.addr}).RoundTrip(ctx, &tt.req)
			res.Close()
			var try *message.TryError
			if !errors.As(err, &try) || try.Sent != tt.want {
				t.Fatalf("%v: want %v", err, tt.want)
			}
		})
	}
}

// gRPC's shape: both directions open, status in the trailers, nginx between.
func TestThroughNginx(t *testing.T) {
	enginetest.Tool(t, "nginx")
	_, behind := start(t, h2.Config{}, message.RoundTripFunc(func(_ context.Context, r *message.Request) (*message.Response, error) {
		reader, err := r.Body.Open()
		if err != nil {
			return nil, err
		}
		return &message.Response{
			Status: 200, Length: -1, Body: reader, Header: message.Header{{Name: "Content-Type", Value: "application/grpc"}},
			Trailer: func() message.Header { return message.Header{{Name: "Grpc-Status", Value: "0"}} },
		}, nil
	}))
	addr := nginx(t, "http2", "grpc_pass grpc://"+behind+";")
	pr, pw := io.Pipe()
	res, err := open(t, h2.ClientConfig{Addr: addr}).RoundTrip(t.Context(), &message.Request{
		Method: "POST", Authority: "a", Target: "/pkg.Service/Method",
		Header: message.Header{{Name: "Content-Type", Value: "application/grpc"}, {Name: "TE", Value: "trailers"}},
		Body:   message.NewBody(pr, -1, message.KiB, nil),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Close()
	b := make([]byte, 5)
	for _, word := range []string{"first", "again"} {
		if _, err := io.WriteString(pw, word); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(res.Body, b); err != nil || string(b) != word {
			t.Fatalf("%q, %v", b, err)
		}
	}
	_ = pw.Close()
	if rest, err := io.ReadAll(res.Body); err != nil || len(rest) > 0 {
		t.Fatalf("%q, %v", rest, err)
	}
	if got := res.Trailer().Get("grpc-status"); got != "0" {
		t.Fatalf("grpc-status %q", got)
	}
}

// nginx runs an nginx with one location and returns its address.
func nginx(t *testing.T, listen, location string) string {
	t.Helper()
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	conf := "daemon off; master_process off; pid " + dir + "/pid; error_log stderr; events {}\n" +
		"http { access_log off; client_body_temp_path " + dir + "; proxy_temp_path " + dir + "; fastcgi_temp_path " + dir +
		"; uwsgi_temp_path " + dir + "; scgi_temp_path " + dir + ";\n" +
		"server { listen " + addr + " " + listen + "; location / { " + location + " } } }\n"
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "nginx", "-p", dir, "-c", file)
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	up := make(chan struct{})
	go func() {
		for t.Context().Err() == nil {
			if c, err := net.Dial("tcp", addr); err == nil {
				_ = c.Close()
				close(up)
				return
			}
		}
	}()
	enginetest.Within(t, "nginx", up)
	return addr
}
