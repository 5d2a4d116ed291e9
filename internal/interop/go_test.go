package interop_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"testing"

	"github.com/quic-go/quic-go/http3"

	"anyedge/internal/interop"
	"anyedge/internal/testpeer"
)

// goWays are Go's clients: net/http's for HTTP/1.1 and 2, quic-go's for
// HTTP/3, each against a base URL.
func goWays(t *testing.T) []goWay {
	t.Helper()
	secure, plain := "https://"+edge.TLS.String(), "http://"+edge.Plain.String()
	client := func(setting func(*http.Protocols)) *http.Client {
		var p http.Protocols
		setting(&p)
		tr := &http.Transport{Protocols: &p, TLSClientConfig: clientTLS(t), DisableCompression: true}
		t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{Transport: tr, Timeout: testpeer.Patience}
	}
	h3 := &http3.Transport{TLSClientConfig: clientTLS(t), DisableCompression: true}
	t.Cleanup(func() { _ = h3.Close() })
	return []goWay{
		{"h1", plain, client(func(p *http.Protocols) { p.SetHTTP1(true) })},
		{"h1 TLS", secure, client(func(p *http.Protocols) { p.SetHTTP1(true) })},
		{"h2 TLS", secure, client(func(p *http.Protocols) { p.SetHTTP2(true) })},
		{"h2c", "http://" + edge.H2C.String(), client(func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) })},
		{"h3", secure, &http.Client{Transport: h3, Timeout: testpeer.Patience}},
	}
}

type goWay struct {
	name, base string
	client     *http.Client
}

// each runs a test for every way and both kinds of backends.
func each(t *testing.T, run func(t *testing.T, w goWay)) {
	t.Helper()
	for _, w := range goWays(t) {
		for _, prefix := range []string{"", "/h2c"} {
			t.Run(w.name+" "+prefix, func(t *testing.T) {
				run(t, goWay{w.name, w.base + prefix, w.client})
			})
		}
	}
}

// do asks and reads the whole answer.
func (w goWay) do(ctx context.Context, method, path string, body io.Reader, trailer http.Header) (*http.Response, []byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, w.base+path, body)
	if err != nil {
		return nil, nil, err
	}
	r.Host = interop.Name
	r.Trailer = trailer
	resp, err := w.client.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	content, err := io.ReadAll(resp.Body)
	return resp, content, err
}

// checkContent judges an answer of /bytes or /chunked.
func checkContent(resp *http.Response, got []byte, n int) error {
	want := sum(interop.Content(n))
	said := resp.Header.Get(interop.SumField) + resp.Trailer.Get(interop.SumField)
	if len(got) != n || sum(got) != want || said != want {
		return fmt.Errorf("%d bytes with sum %s, said to be %s; want %d with %s", len(got), sum(got), said, n, want)
	}
	return nil
}

func TestGoDownloads(t *testing.T) {
	each(t, func(t *testing.T, w goWay) { //nolint:thelper // a test's body
		for _, n := range []int{0, 1, 1000, 100_000, 3_000_000} {
			for _, kind := range []string{"bytes", "chunked"} {
				resp, got, err := w.do(t.Context(), "GET", fmt.Sprintf("/%s/%d", kind, n), nil, nil)
				if err != nil {
					t.Fatal(err)
				}
				if err := checkContent(resp, got, n); err != nil {
					t.Errorf("/%s: %v", kind, err)
				}
			}
		}
	})
}

func TestGoUploads(t *testing.T) {
	each(t, func(t *testing.T, w goWay) { //nolint:thelper // a test's body
		for _, n := range []int{0, 1, 100_000, 3_000_000} {
			for _, known := range []bool{true, false} {
				var body io.Reader = bytes.NewReader(interop.Content(n))
				var trailer http.Header
				if !known {
					body, trailer = io.NopCloser(body), http.Header{"X-Client": {"says"}}
				}
				_, got, err := w.do(t.Context(), "POST", "/sum", body, trailer)
				if err != nil {
					t.Fatal(err)
				}
				var r interop.Receipt
				if err := json.Unmarshal(got, &r); err != nil {
					t.Fatalf("%v in %q", err, got)
				}
				if r.Bytes != int64(n) || r.SHA256 != sum(interop.Content(n)) {
					t.Errorf("the application got %d of %d bytes, or wrong ones", r.Bytes, n)
				}
				if !known && r.Trailer.Get("X-Client") != "says" {
					t.Errorf("a client's trailers got lost: %v", r.Trailer)
				}
			}
		}
	})
}

// Bytes come back while more are sent.
func TestGoEcho(t *testing.T) {
	each(t, func(t *testing.T, w goWay) { //nolint:thelper // a test's body
		pr, pw := io.Pipe()
		r, err := http.NewRequestWithContext(t.Context(), "POST", w.base+"/echo", pr)
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = pw.Write([]byte("first ")) }() // some clients send nothing before the body's first bytes
		resp, err := w.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		buf := make([]byte, 6)
		for i := range 20 {
			if _, err := io.ReadFull(resp.Body, buf); err != nil {
				t.Fatal(i, err)
			}
			if i < 19 {
				if _, err := fmt.Fprintf(pw, "%5d ", i); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = pw.Close()
		if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
			t.Fatalf("%q, %v", rest, err)
		}
		if len(resp.Trailer.Get(interop.SumField)) != 64 {
			t.Errorf("trailer %v", resp.Trailer)
		}
	})
}

// An answer comes while the client would have more to send.
func TestGoEarlyAnswer(t *testing.T) {
	each(t, func(t *testing.T, w goWay) { //nolint:thelper // a test's body
		pr, pw := io.Pipe()
		defer pw.Close()
		go func() { _, _ = pw.Write(make([]byte, 1<<20)) }() // ends with the request
		r, err := http.NewRequestWithContext(t.Context(), "POST", w.base+"/early", pr)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := w.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		content, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusForbidden || !strings.HasPrefix(string(content), "no need") {
			t.Errorf("%s %q %v", resp.Status, content, err)
		}
	})
}

func TestGoEarlyHints(t *testing.T) {
	each(t, func(t *testing.T, w goWay) { //nolint:thelper // a test's body
		var links []string
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
				links = append(links, fmt.Sprint(code, " ", h.Get("Link")))
				return nil
			},
		})
		resp, _, err := w.do(ctx, "GET", "/hints", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != 200 || len(links) != 1 || !strings.HasPrefix(links[0], "103 </style.css>") {
			t.Errorf("%s, interim answers %q", resp.Status, links)
		}
	})
}

// Many at once, of all kinds and sizes.
func TestGoMixture(t *testing.T) {
	ways := goWays(t)
	var running sync.WaitGroup
	defer running.Wait()
	for i := range 40 {
		w := ways[i%len(ways)]
		running.Go(func() {
			for j := range 10 {
				n := (i*7919 + j*104_729) % 200_000
				path := []string{"/bytes/", "/chunked/", "/h2c/bytes/", "/h2c/chunked/"}[j%4]
				resp, got, err := w.do(t.Context(), "GET", fmt.Sprint(path, n), nil, nil)
				if err != nil {
					t.Errorf("%s: %v", w.name, err)
					return
				}
				if err := checkContent(resp, got, n); err != nil {
					t.Errorf("%s %s: %v", w.name, path, err)
				}
			}
		})
	}
}
