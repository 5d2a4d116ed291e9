package interop_test

import (
	"crypto/sha256"
	"crypto/x509"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"anyedge/internal/testpeer"
)

// page asks in all ways that a browser has, and tells what it saw.
//
//go:embed testdata/page.html
var page []byte

// reports are what pages told, by no particular order.
var reports = make(chan []byte, 8)

// pages serves the browser's page beside the application.
func pages(app http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", app)
	mux.HandleFunc("GET /page", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(page)
	})
	mux.HandleFunc("POST /report", func(_ http.ResponseWriter, r *http.Request) {
		if b, err := io.ReadAll(r.Body); err == nil {
			reports <- b
		}
	})
	// A WebSocket that tells how it came.
	mux.HandleFunc("/via", func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
		if err != nil {
			return
		}
		_ = c.Write(r.Context(), websocket.MessageText, []byte(r.Header.Get("Via")))
		_ = c.Close(websocket.StatusNormalClosure, "")
	})
	return mux
}

// seen is what the page tells.
type seen struct {
	Errors    []string
	Protocol  string // by the browser's own words
	SocketVia string // by the application
}

func TestChromium(t *testing.T) {
	testpeer.Need(t, "chromium")
	name := fmt.Sprintf("localhost:%d", edge.TLS.Port())
	tests := []struct {
		name, url string
		args      []string
		want      seen
	}{
		{"h1", fmt.Sprintf("http://localhost:%d", edge.Plain.Port()), nil, seen{nil, "http/1.1", "1.1 edged"}},
		{"h1 TLS", "https://" + name, []string{"--disable-http2"}, seen{nil, "http/1.1", "1.1 edged"}},
		{"h2", "https://" + name, []string{"--disable-quic"}, seen{nil, "h2", "2 edged"}},
		{"h3", "https://" + name, []string{"--origin-to-force-quic-on=" + name}, seen{nil, "h3", ""}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := browse(t, test.url+"/page?"+test.want.Protocol, test.args...)
			if len(got.Errors) > 0 {
				t.Errorf("the page saw:\n%s", strings.Join(got.Errors, "\n"))
			}
			if got.Protocol != test.want.Protocol {
				t.Errorf("asked by %q, want %q", got.Protocol, test.want.Protocol)
			}
			// Over HTTP/3 Chromium has no WebSockets: it opens another connection.
			if test.want.SocketVia != "" && got.SocketVia != test.want.SocketVia {
				t.Errorf("its WebSocket came by %q, want %q", got.SocketVia, test.want.SocketVia)
			}
		})
	}
}

// browse lets Chromium open the page, and returns what it tells.
func browse(t *testing.T, url string, args ...string) seen {
	t.Helper()
	dir, err := os.MkdirTemp("", "edged-chromium-") //nolint:usetesting // its processes may write there still when the test ends
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	all := append([]string{
		"--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--user-data-dir=" + dir,
		"--disable-background-networking", "--host-resolver-rules=MAP localhost 127.0.0.1", "--disable-component-update", "--ignore-certificate-errors-spki-list=" + siteKey(t),
	}, args...)
	cmd := exec.Command("chromium", append(all, url)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	output, err := os.Create(filepath.Join(dir, "output"))
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	}()
	select {
	case b := <-reports:
		var got seen
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("%v in %q", err, b)
		}
		return got
	case <-time.After(testpeer.Patience):
		said, _ := os.ReadFile(output.Name())
		t.Fatalf("no report from %s; Chromium said:\n%s", url, last(string(said)))
		return seen{}
	}
}

// siteKey names the certificate's key as Chromium does.
func siteKey(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(edge.Dir, "site.crt"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		t.Fatal("no certificate")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(hash[:])
}
