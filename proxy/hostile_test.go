package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"anyedge/internal/message"
	"anyedge/internal/steering"
	"anyedge/proxy"
)

// sendRaw writes bytes to the plain listener and returns the answer.
func sendRaw(t *testing.T, e *edge, text string) answer {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", e.addr("http"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(b), resp}
}

// What only edges may say is not said in a trailer section either, in no
// direction and by no geo.
func TestTrailersSayNothingOfEdges(t *testing.T) {
	app := func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Trailer", "Replay-Geo, X-Sum")
		echo(w, r)
		h.Set("Replay-Geo", "nrt")
		h.Set("X-Sum", "2")
		h.Set(http.TrailerPrefix+"Edge-Geo", "lie")
	}
	f := three(t, app)
	for _, away := range []bool{false, true} {
		fra := f.edges["fra"]
		if away {
			fra = f.without(t, "fra")
		}
		got := sendRaw(t, fra, "POST / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"+
			"Trailer: Replay-Geo-Src, X-Sum\r\n\r\n1\r\nx\r\n0\r\n"+
			"Edge-Geo: lie\r\nedge_hop: shed\r\nReplay-Geo-Src: geo=sin\r\nX-Forwarded-For: 192.0.2.1\r\nX-Sum: 1\r\n\r\n")
		var seen echoed
		if err := json.Unmarshal([]byte(got.Body), &seen); err != nil {
			t.Fatalf("%v: %d %s", err, got.Status, got.Body)
		}
		if len(seen.Trailer) != 1 || seen.Trailer.Get("X-Sum") != "1" {
			t.Errorf("away %v: the app got the trailers %v", away, seen.Trailer)
		}
		if len(got.Trailer) != 1 || got.Trailer.Get("X-Sum") != "2" {
			t.Errorf("away %v: the client got the trailers %v", away, got.Trailer)
		}
	}
}

// A client that leaves while an instruction's time runs out is logged like
// others, and nobody else is asked for it.
func TestClientLeavesAndTimeRunsOut(t *testing.T) {
	f := three(t, instructing)
	fra := f.edges["fra"]
	arrived := make(chan struct{}, 3)
	f.mu.Lock()
	f.intercept = func(string, *message.Request) (*message.Response, error) {
		arrived <- struct{}{}
		<-time.After(400 * time.Millisecond) // a peer that heeds no context
		return &message.Response{Status: 200}, nil
	}
	f.mu.Unlock()
	ctx, leave := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, "POST", "https://shop.example/both?at=fra&to=iad%3Btimeout%3D0.2,nrt", nil)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if resp, err := fra.client(t).Do(r); err == nil {
			_ = resp.Body.Close()
		}
	}()
	<-arrived
	leave()
	<-done
	if line := fra.logged(t, r.URL.RequestURI()); line["status"] != 499.0 {
		t.Errorf("logged %v", line)
	}
	if hops := f.taken(); len(hops) != 1 {
		t.Errorf("hops %v", hops)
	}
}

// What an edge of another version says and this one does not understand was
// not executed: the sender asks somebody else.
func TestHopNotUnderstood(t *testing.T) {
	f := three(t, echoGeo)
	fra := f.without(t, "fra")
	f.mu.Lock()
	f.intercept = func(geo string, r *message.Request) (*message.Response, error) {
		if geo == "iad" {
			r.Header.Set("Edge-Hop", "teleport")
		}
		return nil, nil
	}
	f.mu.Unlock()
	if got := fra.do(t, "POST", "http://shop.example/", strings.NewReader("pay")); got.Body != "nrt pay" {
		t.Errorf("got %d %q", got.Status, got.Body)
	}
}

// Content that its client breaks off is nobody's failure but the client's: one
// backend saw a part of it, and no other one is bothered.
func TestUploadBreaksOff(t *testing.T) {
	var asked atomic.Int32
	app := func(_ http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
	}
	f := newFleet("fra", "iad")
	for _, geo := range f.order {
		f.start(t, geo, proxy.Setup{Services: []proxy.ServiceConfig{shop(backend(t, app).URL, backend(t, app).URL)}})
	}
	for _, geo := range f.order {
		f.plan(geo, steering.ShedPlan{})
	}
	fra := f.edges["fra"]
	for i, test := range []struct {
		sent, more string
		status     float64
	}{
		{"Content-Length: 100\r\n\r\nhalf", "", 499},
		{"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", "", 499},
		{"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", "nonsense\r\n", 400},
	} {
		asked.Store(0)
		path := fmt.Sprintf("/%d", i)
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", fra.addr("http"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, "PUT "+path+" HTTP/1.1\r\nHost: shop.example\r\n"+test.sent); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "the backend", func() bool { return asked.Load() == 1 })
		if test.more != "" {
			_, _ = io.WriteString(conn, test.more)
			_, _ = conn.Read(make([]byte, 1)) // else it only went away
		}
		_ = conn.Close()
		if line := fra.logged(t, path); line["status"] != test.status || asked.Load() != 1 || len(f.taken()) != 0 {
			t.Errorf("asked %d backends, hops %v, logged %v", asked.Load(), f.taken(), line)
		}
	}
}

// An instruction is one whatever it stands on, and the client never sees it.
func TestInstructionOnAnyAnswer(t *testing.T) {
	f := three(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Edge-Geo") == "fra" {
			w.Header().Set("Replay-Geo", "nrt")
			w.Header().Set("replay_geo", "nrt")
		}
		var status int
		_, _ = fmt.Sscan(r.URL.Query().Get("status"), &status)
		w.WriteHeader(status)
	})
	for _, method := range []string{"GET", "HEAD", "DELETE"} {
		for _, status := range []int{200, 204, 304, 404, 503} {
			got := f.edges["fra"].do(t, method, fmt.Sprintf("http://shop.example/?status=%d", status), nil)
			if got.Status != status || got.Header.Get("Edge-Geo") != "nrt" || strings.Contains(strings.ToLower(fmt.Sprint(got.Header)), "replay") {
				t.Errorf("%s: got %d %v", method, got.Status, got.Header)
			}
		}
	}
}

// A log line does not grow with what a client sends.
func TestLogLineIsBounded(t *testing.T) {
	e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{shop()}})
	long := strings.Repeat("x", 20000)
	sendRaw(t, e, "M"+long+" /bounded HTTP/1.1\r\nHost: a"+long+"\r\nConnection: close\r\n\r\n")
	line := e.logged(t, "/bounded")
	for key, v := range line {
		if s, ok := v.(string); ok && len(s) > 1000 {
			t.Errorf("%s has %d bytes", key, len(s))
		}
	}
}

// HTTP/2 has no request line that a parser would split, so that its parts are
// checked one by one.
func TestHTTP2Requests(t *testing.T) {
	app := backend(t, echo)
	two := plain("http")
	two.Config.Protocols = []string{"h2"}
	e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{shop(app.URL)}, Listeners: []proxy.Listener{two}})
	tests := []struct {
		name   string
		fields []string // pseudo-fields first
		status string
	}{
		{"fine", []string{":method", "GET", ":path", "/", ":authority", "shop.example"}, "200"},
		{"a method with spaces", []string{":method", "GET /admin HTTP/1.1", ":path", "/", ":authority", "shop.example"}, "reset"},
		{"a path with a space", []string{":method", "GET", ":path", "/ HTTP/1.1", ":authority", "shop.example"}, "reset"},
		{"an absolute path", []string{":method", "GET", ":path", "http://other.example/", ":authority", "shop.example"}, "reset"},
		{"user information", []string{":method", "GET", ":path", "/", ":authority", "a@shop.example"}, "400"},
		{"the same host beside the authority", []string{":method", "GET", ":path", "/", ":authority", "shop.example", "host", "shop.example"}, "200"},
		{"another host beside the authority", []string{":method", "GET", ":path", "/", ":authority", "shop.example", "host", "other.example"}, "reset"},
		{"a field of HTTP/1's framing", []string{":method", "POST", ":path", "/", ":authority", "shop.example", "transfer-encoding", "chunked"}, "reset"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := http2Status(t, e.addr("http"), test.fields); got != test.status {
				t.Errorf("got %s, want %s", got, test.status)
			}
		})
	}
}

// http2Status sends a request without content and returns the status of the
// answer, or "reset".
func http2Status(t *testing.T, addr string, fields []string) string {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	var head bytes.Buffer
	enc := hpack.NewEncoder(&head)
	_ = enc.WriteField(hpack.HeaderField{Name: ":scheme", Value: "http"})
	for i := 0; i < len(fields); i += 2 {
		_ = enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	_, _ = io.WriteString(conn, http2.ClientPreface)
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_ = framer.WriteSettings()
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head.Bytes(), EndHeaders: true, EndStream: true})
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			return frame.PseudoValue("status")
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return "reset"
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				_ = framer.WriteSettingsAck()
			}
		}
	}
}
