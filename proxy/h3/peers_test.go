package h3_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"anyedge/internal/message"
	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h3"
)

// ngtcp2's client gets what it asks for, on one connection and on resumed ones.
func TestNgtcp2(t *testing.T) {
	enginetest.Tool(t, "gtlsclient")
	server, _ := enginetest.TLS(t)
	addr := serve(t, h3.NewServer(h3.Config{TLS: server, EarlyData: true}, message.RoundTripFunc(func(_ context.Context, r *message.Request) (*message.Response, error) {
		content := r.Method + " " + r.Target
		if r.Body != nil {
			reader, err := r.Body.Open()
			if err != nil {
				return nil, err
			}
			n := 0
			for b := make([]byte, 4096); ; {
				k, err := reader.Read(b)
				n += k
				if err != nil {
					break
				}
			}
			content += fmt.Sprint(" ", n)
		}
		return enginetest.Text(200, content), nil
	}), enginetest.Log(t))).LocalAddr()
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	upload := filepath.Join(dir, "upload")
	if err := os.WriteFile(upload, make([]byte, 300_000), 0o600); err != nil {
		t.Fatal(err)
	}
	session := []string{"--session-file=" + filepath.Join(dir, "session"), "--tp-file=" + filepath.Join(dir, "tp")}
	for _, tt := range []struct {
		name string
		args []string
		want map[string]string
	}{
		{"two requests", session, map[string]string{"one": "GET /one", "two": "GET /two"}},
		{"a resumed session", session, map[string]string{"one": "GET /one"}},
		{"an upload", []string{"--data=" + upload, "-m", "POST"}, map[string]string{"up": "POST /up 300000"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := t.TempDir()
			args := append(append([]string{"-q", "--exit-on-all-streams-close", "--no-quic-dump", "--no-http-dump", "--download=" + got}, tt.args...), host, port)
			for name := range tt.want {
				args = append(args, "https://edge.example/"+name)
			}
			out, err := exec.CommandContext(t.Context(), "gtlsclient", args...).CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			for name, want := range tt.want {
				if b, err := os.ReadFile(filepath.Join(got, name)); err != nil || string(b) != want {
					t.Errorf("%s: %q, %v; %s", name, b, err, out)
				}
			}
		})
	}
}
