package h1_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"anyedge/internal/message"
	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h1"
)

// A connection is used again although an answer may be here before the write of
// the request's last bytes has returned.
func TestUploadsShareAConnection(t *testing.T) {
	addr, opened := saying(t, okAnswer, false)
	c := open(t, h1.ClientConfig{Addr: addr})
	for i := range 1000 {
		r := newRequest("POST", "content")
		if i%2 == 0 {
			r.Body = message.NewBody(io.NopCloser(strings.NewReader("content")), -1, message.KiB, nil)
		}
		if got, err := answerTo(t, c, r); err != nil || got != "200 ok" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if n := opened.Load(); n > 10 { // one for every exchange that began before the other one's last write returned
		t.Errorf("%d connections for one request at a time", n)
	}
}

// An answer before the end of the content goes to whoever asked, and the
// connection is not used again.
func TestEarlyAnswer(t *testing.T) {
	for _, content := range []string{"", "too much"} {
		for _, ends := range []bool{false, true} {
			t.Run(fmt.Sprintf("%q, backend closes: %v", content, ends), func(t *testing.T) {
				closed := make(chan struct{}, 8)
				addr, opened := backend(t, func(c *net.TCPConn, r *bufio.Reader) {
					if req, err := http.ReadRequest(r); err != nil || req.Header.Get("Expect") != "" {
						return
					}
					fmt.Fprintf(c, "HTTP/1.1 413 Too Large\r\nContent-Length: %d\r\n\r\n%s", len(content), content)
					if !ends {
						_, _ = io.Copy(io.Discard, r)
					}
					closed <- struct{}{}
				})
				c := open(t, h1.ClientConfig{Addr: addr})
				for range 3 {
					r := newRequest("POST", "")
					r.Body = message.NewBody(zeros{}, -1, message.KiB, nil)
					want := strings.TrimSpace("413 " + content)
					// A backend that closes on unread content may take its answer with it.
					if got, err := answerTo(t, c, r); got != want && (err == nil || !ends) {
						t.Errorf("%q, %v", got, err)
					}
					enginetest.Within(t, "the connection's end", closed)
				}
				if n := opened.Load(); n != 3 {
					t.Errorf("%d connections", n)
				}
			})
		}
	}
}

// The content waits for a 100, but not for long, and not behind another answer.
func TestExpect(t *testing.T) {
	for _, tt := range []struct {
		name, interim, final, want string
		sent                       bool // the content comes
	}{
		{"100", "HTTP/1.1 100 Continue\r\n\r\n", okAnswer, "200 ok", true},
		{"another one first", "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n", okAnswer, "200 ok", true},
		{"silence", "", okAnswer, "200 ok", true},
		{"an answer that goes on with the content", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "ok", "200 ok", true},
		{"refused", "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n", "", "417", false},
		{"refused at length", "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", "", "403 no", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := make(chan string, 1)
			addr, opened := backend(t, func(c *net.TCPConn, r *bufio.Reader) {
				req, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				if v := req.Header.Get("Expect"); v != "100-continue" {
					t.Errorf("Expect: %q", v)
				}
				_, _ = io.WriteString(c, tt.interim)
				b, _ := io.ReadAll(req.Body)
				_, _ = io.WriteString(c, tt.final)
				got <- string(b)
			})
			r := newRequest("POST", "content", message.Field{Name: "Expect", Value: "100-continue"})
			answer, err := answerTo(t, open(t, h1.ClientConfig{Addr: addr}), r)
			if err != nil || answer != tt.want {
				t.Errorf("%q, %v", answer, err)
			}
			if b := enginetest.Within(t, "the content", got); (b == "content") != tt.sent || b != "" && !tt.sent {
				t.Errorf("the backend got %q", b)
			}
			if r.Body.Received() > 0 != tt.sent {
				t.Errorf("%d bytes were taken from the client", r.Body.Received())
			}
			if opened.Load() != 1 {
				t.Errorf("%d connections", opened.Load())
			}
		})
	}
}

// A final answer that is read slowly does not let go of content that it refused.
func TestExpectRefusedSlowly(t *testing.T) {
	finish, got := make(chan struct{}), make(chan string, 1)
	addr, _ := backend(t, func(c *net.TCPConn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nno")
		<-finish
		_, _ = io.WriteString(c, "no")
		b, _ := io.ReadAll(req.Body)
		got <- string(b)
	})
	r := newRequest("POST", "content", message.Field{Name: "Expect", Value: "100-continue"})
	res, err := open(t, h1.ClientConfig{Addr: addr}).RoundTrip(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Close()
	<-time.After(1200 * time.Millisecond) // longer than anybody waits for a 100
	close(finish)
	if b, err := io.ReadAll(res.Body); string(b) != "nono" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	if b := enginetest.Within(t, "the content", got); b != "" || r.Body.Received() != 0 {
		t.Errorf("the backend got %q", b)
	}
}

// Without content there is nothing to wait for.
func TestExpectWithoutContent(t *testing.T) {
	heads := make(chan http.Header, 1)
	addr, _ := backend(t, func(c *net.TCPConn, r *bufio.Reader) {
		if req, err := http.ReadRequest(r); err == nil {
			heads <- req.Header
			_, _ = io.WriteString(c, okAnswer)
		}
	})
	r := newRequest("POST", "", message.Field{Name: "Expect", Value: "100-continue"}, message.Field{Name: "TE", Value: "gzip"})
	if got, err := answerTo(t, open(t, h1.ClientConfig{Addr: addr}), r); err != nil || got != "200 ok" {
		t.Errorf("%q, %v", got, err)
	}
	if h := enginetest.Within(t, "the head", heads); len(h) != 1 || h.Get("Content-Length") != "0" {
		t.Errorf("%v", h)
	}
}

// Content that is not what was declared never looks whole to the backend, and
// the error is the content's.
func TestContentThatFails(t *testing.T) {
	broken := errors.New("broken")
	for _, tt := range []struct {
		name   string
		src    io.Reader
		length int64
		want   error
	}{
		{"fails at once", iotest.ErrReader(broken), -1, broken},
		{"fails, of unknown length", io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken)), -1, broken},
		{"fails, of known length", io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken)), 100, broken},
		{"shorter", strings.NewReader("half"), 100, nil},
		{"longer", iotest.DataErrReader(strings.NewReader("more than that")), 4, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			whole := make(chan bool, 1)
			addr, _ := backend(t, func(_ *net.TCPConn, r *bufio.Reader) { whole <- take(r) })
			r := newRequest("PUT", "")
			r.Body = message.NewBody(io.NopCloser(tt.src), tt.length, message.KiB, nil)
			_, err := answerTo(t, open(t, h1.ClientConfig{Addr: addr}), r)
			wantSent(t, err, message.MaybeExecuted)
			if tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), "request content") {
				t.Error(err)
			}
			if enginetest.Within(t, "the backend", whole) {
				t.Error("the backend takes it for whole")
			}
		})
	}
}

// The time for an answer begins when the content is sent, not before.
func TestResponseHeaderTimeout(t *testing.T) {
	const limit = 200 * time.Millisecond
	silent := make(chan struct{})
	addr, _ := backend(t, func(c *net.TCPConn, r *bufio.Reader) {
		for n := 0; take(r); n++ {
			if n == 1 {
				<-silent
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
			<-time.After(2 * limit) // nor does it go on when the head is here
			_, _ = io.WriteString(c, "k")
		}
	})
	t.Cleanup(func() { close(silent) })
	c := open(t, h1.ClientConfig{Addr: addr, ResponseHeader: limit})
	slow := func() *message.Request {
		pr, pw := io.Pipe()
		go func() {
			_, _ = io.WriteString(pw, "slow ")
			<-time.After(2 * limit)
			_, _ = io.WriteString(pw, "content")
			_ = pw.Close()
		}()
		r := newRequest("POST", "")
		r.Body = message.NewBody(pr, 12, message.KiB, nil)
		return r
	}
	if got, err := answerTo(t, c, slow()); err != nil || got != "200 ok" {
		t.Fatalf("%q, %v", got, err)
	}
	_, err := answerTo(t, c, slow())
	wantSent(t, err, message.MaybeExecuted)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}

// Content of any length takes a bounded memory.
func TestLargeUpload(t *testing.T) {
	const size = 100 << 20
	addr, _ := backend(t, func(c *net.TCPConn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		n, err := io.Copy(io.Discard, req.Body)
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n%d", n)
		if err != nil {
			t.Error(err)
		}
	})
	var before, after runtime.MemStats
	for _, length := range []int64{size, -1} {
		r := newRequest("PUT", "")
		peak := uint64(0)
		runtime.GC()
		runtime.ReadMemStats(&before)
		seen := 0
		src := readFunc(func(p []byte) (int, error) {
			if seen++; seen%500 == 0 {
				runtime.ReadMemStats(&after)
				peak = max(peak, after.Sys)
			}
			return len(p), nil
		})
		r.Body = message.NewBody(io.NopCloser(io.LimitReader(src, size)), length, message.MiB, nil)
		if got, err := answerTo(t, open(t, h1.ClientConfig{Addr: addr}), r); err != nil || got != fmt.Sprint("200 ", size) {
			t.Errorf("%q, %v", got, err)
		}
		if peak > before.Sys+30<<20 {
			t.Errorf("length %d: %d MiB more", length, (peak-before.Sys)>>20)
		}
	}
}

// readFunc is a reader.
type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// Trailers of a request that announces them go behind chunks, and nothing else
// is announced.
func TestUploadTrailers(t *testing.T) {
	got := make(chan *http.Request, 1)
	addr, _ := backend(t, func(c *net.TCPConn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			_, _ = io.WriteString(c, okAnswer)
			got <- req
		}
	})
	c := open(t, h1.ClientConfig{Addr: addr})
	for _, tt := range []struct {
		length int64
		fields message.Header
		want   string
	}{
		{7, message.Header{{Name: "Trailer", Value: "X-Sum"}}, "7"},
		{-1, message.Header{{Name: "Trailer", Value: "X-Sum"}}, "7"},
		{7, nil, ""},
	} {
		r := newRequest("POST", "", tt.fields...)
		r.Body = message.NewBody(io.NopCloser(strings.NewReader("content")), tt.length, message.KiB, func() message.Header {
			return message.Header{{Name: "X-Sum", Value: "7"}, {Name: "Content-Length", Value: "1"}, {Name: "Host", Value: "b"}}
		})
		if _, err := answerTo(t, c, r); err != nil {
			t.Error(err)
		}
		if req := enginetest.Within(t, "the request", got); req.Trailer.Get("X-Sum") != tt.want || len(req.Trailer) > 1 {
			t.Errorf("length %d, %v: %v", tt.length, tt.fields, req.Trailer)
		}
	}
}
