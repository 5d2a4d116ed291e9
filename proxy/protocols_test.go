package proxy_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/quic-go/quic-go/http3"

	"anyedge/internal/message"
	"anyedge/proxy"
)

func TestCurl(t *testing.T) {
	e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{shop(backend(t, echo).URL)}})
	tests := []struct {
		flag, via, version string
	}{
		{"--http1.1", "1.1 edged", "1.1"},
		{"--http2", "2 edged", "2"},
	}
	for _, test := range tests {
		t.Run(test.flag, func(t *testing.T) {
			out := e.curl(t, test.flag, "-w", "\n%{http_version}", "-d", "content", "https://shop.example/path?q=1")
			body, version, _ := strings.Cut(out, "\n\n")
			var got echoed
			if err := json.Unmarshal([]byte(body), &got); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if version != test.version || got.Body != "content" || got.Target != "/path?q=1" || got.Header.Get("Via") != test.via || got.Header.Get("X-Forwarded-Proto") != "https" {
				t.Errorf("version %s, got %+v", version, got)
			}
		})
	}
}

// http3Client is quic-go's client.
func (e *edge) http3Client(t *testing.T) *http.Client {
	t.Helper()
	pem, err := os.ReadFile(e.ca)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	tr := &http3.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "shop.example"}}
	t.Cleanup(func() { _ = tr.Close() })
	return &http.Client{Transport: tr, Timeout: patience}
}

func TestHTTP3(t *testing.T) {
	e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{shop(backend(t, echo).URL)}})
	r, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+e.addr("https")+"/three", strings.NewReader("content"))
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "shop.example"
	resp, err := e.http3Client(t).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got echoed
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if got.Body != "content" || got.Header.Get("Via") != "3 edged" || resp.ProtoMajor != 3 {
		t.Errorf("%s, %+v", resp.Proto, got)
	}
	if alt := resp.Header.Get("Alt-Svc"); alt != "" {
		t.Errorf("Alt-Svc over h3: %q", alt)
	}
	if v := e.logged(t, "/three")["version"]; v != "h3" {
		t.Errorf("logged version %v", v)
	}
}

// Bytes pass as they come, in both directions, before the other direction has
// ended.
func TestStreaming(t *testing.T) {
	s := shop(backend(t, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_ = rc.EnableFullDuplex()
		w.Header().Set("Trailer", "X-Sum")
		w.WriteHeader(200)
		_ = rc.Flush()
		buf := make([]byte, 100)
		for {
			n, err := r.Body.Read(buf)
			_, _ = w.Write(bytes.ToUpper(buf[:n]))
			_ = rc.Flush()
			if err != nil {
				break
			}
		}
		w.Header().Set("X-Sum", "end "+r.Trailer.Get("X-Client-Sum"))
	}).URL)
	e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{s}})
	pr, pw := io.Pipe()
	r, err := http.NewRequestWithContext(t.Context(), "POST", "http://shop.example/", pr)
	if err != nil {
		t.Fatal(err)
	}
	r.Trailer = http.Header{"X-Client-Sum": nil}
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(pw, "one")
		sent <- err
	}()
	resp, err := e.client(t).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 3)
	for _, word := range []string{"one", "two", "six"} {
		if word != "one" {
			if _, err := io.WriteString(pw, word); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != strings.ToUpper(word) {
			t.Fatalf("got %q, %v", buf, err)
		}
	}
	r.Trailer.Set("X-Client-Sum", "15")
	_ = pw.Close()
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
		t.Fatalf("rest %q, %v", rest, err)
	}
	if sum := resp.Trailer.Get("X-Sum"); sum != "end 15" {
		t.Errorf("trailer %q", sum)
	}
}

// Interim answers pass, a 100 comes from the backend's reading.
func TestInterim(t *testing.T) {
	s := shop(backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.Header().Set("Replay-Geo", "nrt")
		w.WriteHeader(103)
		w.Header().Del("Replay-Geo")
		if r.URL.Path == "/refuse" {
			w.Header().Set("Connection", "close") // else the body must be sent all the same
			w.WriteHeader(403)
			return
		}
		b, _ := io.ReadAll(r.Body)
		_, _ = w.Write(b)
	}).URL)
	e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{s}})
	for _, test := range []struct {
		path   string
		status int
		goOn   bool
	}{{"/", 200, true}, {"/refuse", 403, false}} {
		t.Run(test.path, func(t *testing.T) {
			var hints, continued int
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				Got100Continue: func() { continued++ },
				Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
					if code == 103 && h.Get("Link") != "" {
						hints++
					}
					if h.Get("Replay-Geo") != "" {
						t.Error("the client sees an instruction")
					}
					return nil
				},
			})
			r, err := http.NewRequestWithContext(ctx, "POST", "http://shop.example"+test.path, strings.NewReader("content"))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Expect", "100-continue")
			c := e.client(t)
			c.Transport.(*http.Transport).ExpectContinueTimeout = patience
			resp, err := c.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != test.status || hints != 1 || (continued > 0) != test.goOn {
				t.Errorf("status %d, %d hints, %d times continue", resp.StatusCode, hints, continued)
			}
		})
	}
}

// shout is a WebSocket that answers in capitals.
func shout(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return
	}
	defer func() { _ = c.CloseNow() }()
	for {
		kind, b, err := c.Read(r.Context())
		if err != nil {
			return
		}
		if err := c.Write(r.Context(), kind, bytes.ToUpper(b)); err != nil {
			return
		}
	}
}

// talk opens a WebSocket, exchanges some words, closes it, and returns who
// served.
func (e *edge) talk(t *testing.T, url string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, resp, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: e.client(t)})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if err := c.Write(ctx, websocket.MessageText, fmt.Appendf(nil, "word %d", i)); err != nil {
			t.Fatal(err)
		}
		_, b, err := c.Read(ctx)
		if err != nil || string(b) != fmt.Sprintf("WORD %d", i) {
			t.Fatalf("got %q, %v", b, err)
		}
	}
	if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
	return resp.Header.Get("Edge-Geo")
}

func TestWebSocket(t *testing.T) {
	e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{shop(backend(t, shout).URL)}})
	for _, url := range []string{"ws://shop.example/", "wss://shop.example/"} {
		if geo := e.talk(t, url); geo != "fra" {
			t.Errorf("%s: served by %q", url, geo)
		}
	}
	if line := e.logged(t, "/"); line["status"] != 101.0 || line["bytes"] == 0.0 {
		t.Errorf("logged %v", line)
	}
}

// An app answers the request for a WebSocket with an instruction; and a geo
// without backends passes one on.
func TestWebSocketElsewhere(t *testing.T) {
	f := three(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/replay" && r.Header.Get("Edge-Geo") == "fra" {
			w.Header().Set("Replay-Geo", "nrt")
			return
		}
		shout(w, r)
	})
	if geo := f.edges["fra"].talk(t, "ws://shop.example/replay"); geo != "nrt" {
		t.Errorf("replay: served by %q", geo)
	}
	if geo := f.without(t, "fra").talk(t, "ws://shop.example/"); geo != "iad" {
		t.Errorf("failover: served by %q", geo)
	}
}

func TestBodyLimit(t *testing.T) {
	most := 1000
	limited := plain("http")
	size := message.Size(most)
	limited.Config.Limits.Body = &size
	e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{shop(backend(t, echo).URL)}, Listeners: []proxy.Listener{limited}})
	for _, test := range []struct {
		name   string
		size   int
		length bool
		want   int
	}{
		{"declared, at the limit", most, true, 200},
		{"declared, over", most + 1, true, 413},
		{"chunked, at the limit", most, false, 200},
		{"chunked, over", most + 1, false, 413},
		{"chunked, far over", 1 << 20, false, 413},
	} {
		t.Run(test.name, func(t *testing.T) {
			var body io.Reader = bytes.NewReader(make([]byte, test.size))
			if !test.length {
				body = struct{ io.Reader }{body}
			}
			if got := e.do(t, "POST", "http://shop.example/", body); got.Status != test.want {
				t.Errorf("got %d %s, want %d", got.Status, got.Body, test.want)
			}
		})
	}
}

// A large body and a large answer arrive as they were sent.
func TestLargeContent(t *testing.T) {
	s := shop(backend(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }).URL)
	e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{s}})
	content := make([]byte, 5<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(content)
	got := e.do(t, "PUT", "https://shop.example/", bytes.NewReader(content))
	if got.Status != 200 || sha256.Sum256([]byte(got.Body)) != sha256.Sum256(content) {
		t.Errorf("status %d, %d of %d bytes, or others", got.Status, len(got.Body), len(content))
	}
	if line := e.logged(t, "/"); line["bytes"] != float64(len(content)) {
		t.Errorf("logged %v bytes", line["bytes"])
	}
}
