package h1_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"anyedge/internal/message"
	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h1"
)

// Connections without a request hold a shutdown up for a second, not for all
// that a handshake or a request may take.
func TestShutdownOfSilentConnections(t *testing.T) {
	server, _ := enginetest.TLS(t, "http/1.1")
	s := h1.NewServer(h1.Config{HeaderTimeout: time.Minute}, hello, enginetest.Log(t))
	plain := enginetest.Listen(t, s.ServeConn)
	secure := enginetest.Listen(t, func(c net.Conn) { s.ServeConn(overTLS(t, c, server)) })
	var conns []net.Conn
	for _, addr := range []string{plain, secure, secure} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
	}
	fmt.Fprint(conns[2], "\x16\x03\x01\x00\xff") // of a handshake
	until(t, "connections", func() bool { return h1.Open(s) == len(conns) })
	ctx, cancel := context.WithTimeout(t.Context(), enginetest.Patience)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

// Whatever a stopping server has read is answered.
func TestShutdownLosesNothing(t *testing.T) {
	for range 5 {
		var asked, answered atomic.Int32
		s := h1.NewServer(h1.Config{}, message.RoundTripFunc(func(_ context.Context, r *message.Request) (*message.Response, error) {
			asked.Add(1)
			return enginetest.Text(200, r.Target), nil
		}), enginetest.Log(t))
		addr := enginetest.Listen(t, s.ServeConn)
		stop := make(chan struct{})
		var clients sync.WaitGroup
		for i := range 16 {
			clients.Go(func() {
				for {
					n, more := askUntilClosed(t, addr, i)
					answered.Add(n)
					if !more {
						return
					}
					select {
					case <-stop:
						return
					default:
					}
				}
			})
		}
		until(t, "requests", func() bool { return answered.Load() > 100 || asked.Load() > 200 })
		stopped := make(chan error, 1)
		ctx, cancel := context.WithTimeout(t.Context(), enginetest.Patience)
		go func() { stopped <- s.Shutdown(ctx) }()
		close(stop)
		if err := enginetest.Within(t, "shutdown", stopped); err != nil {
			t.Error(err)
		}
		cancel()
		clients.Wait()
		if asked.Load() != answered.Load() {
			t.Errorf("%d asked, %d answered", asked.Load(), answered.Load())
		}
	}
}

// askUntilClosed sends one request after the other on a connection and returns
// the number of whole answers. more is false when there was none: the server
// takes no connection any more.
func askUntilClosed(t *testing.T, addr string, id int) (answers int32, more bool) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(enginetest.Patience))
	in := bufio.NewReader(c)
	for i := range 200 {
		target := fmt.Sprintf("/%d/%d", id, i)
		if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", target); err != nil {
			return answers, answers > 0
		}
		res, err := http.ReadResponse(in, nil)
		if err != nil { // closed before it was sent
			return answers, answers > 0
		}
		b, err := io.ReadAll(res.Body)
		if err != nil || string(b) != target {
			t.Errorf("%q, %v", b, err)
		}
		answers++
		if res.Close {
			return answers, true
		}
	}
	return answers, true
}

// What a client sends ahead waits in its own memory, not in the server's.
func TestReadAheadIsBounded(t *testing.T) {
	for _, first := range []string{get(""), get("X: " + strings.Repeat("x", 30_000) + "\r\n")} {
		release := make(chan struct{})
		s := h1.NewServer(h1.Config{}, message.RoundTripFunc(func(ctx context.Context, _ *message.Request) (*message.Response, error) {
			select {
			case <-release:
			case <-ctx.Done():
			}
			return &message.Response{Status: 204}, nil
		}), enginetest.Log(t))
		enginetest.Stop(t, s.Shutdown)
		near, far := net.Pipe()
		s.ServeConn(far)
		var sent atomic.Int64
		var flood sync.WaitGroup
		flood.Go(func() {
			for {
				n, err := io.WriteString(near, first)
				sent.Add(int64(n))
				if err != nil {
					return
				}
				first = get("")
			}
		})
		go func() { _, _ = io.Copy(io.Discard, near) }()
		for range 5 { // requests that each wait long enough to be watched
			<-time.After(40 * time.Millisecond)
			select {
			case release <- struct{}{}:
			default:
			}
		}
		if n := sent.Load(); n > 128<<10 {
			t.Errorf("%d bytes were read ahead", n)
		}
		_ = near.Close()
		flood.Wait()
		close(release)
	}
}

// A head is looked at once, however small its pieces are.
func TestHeadInPieces(t *testing.T) {
	head := get(strings.Repeat("X: "+strings.Repeat("x", 20_000)+"\r\n", 50))
	began := time.Now()
	got, err := h1.Head(&dump{in: []byte(head), piece: 3}, 2<<20)
	if took := time.Since(began); took > 5*time.Second { // 300 times less if all is well
		t.Errorf("took %v", took)
	}
	if err != nil || string(got) != head {
		t.Errorf("%.100q, %v", got, err)
	}
}

// Chunks of a byte, as far as they are there, come with one read.
func TestSmallChunksComeTogether(t *testing.T) {
	c, _ := h1.Chunks(&dump{in: []byte(strings.Repeat("1\r\na\r\n", 6000) + "0\r\n\r\n"), piece: 4096})
	reads, total := 0, 0
	for b := make([]byte, 32<<10); ; reads++ {
		n, err := c.Read(b)
		total += n
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if total != 6000 || reads > 20 {
		t.Errorf("%d bytes in %d reads", total, reads)
	}
}

// A handler that reads on when it has answered takes nothing of what follows.
func TestHandlerReadsOn(t *testing.T) {
	var readers sync.WaitGroup
	_, addr := start(t, h1.Config{}, message.RoundTripFunc(func(_ context.Context, r *message.Request) (*message.Response, error) {
		reader, err := r.Body.Open()
		if err != nil {
			return nil, err
		}
		first := make(chan string, 1)
		readers.Go(func() {
			b := make([]byte, 4)
			_, err := io.ReadFull(reader, b)
			first <- fmt.Sprint(string(b), err)
			_, _ = io.Copy(io.Discard, reader)
		})
		return enginetest.Text(200, <-first), nil
	}))
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() {
			for n := range 25 {
				var sent strings.Builder
				for k := range 10 {
					content := fmt.Sprintf("%d%02d%d", i, n, k)
					if k%2 == 0 {
						sent.WriteString(post("Content-Length: 4\r\n", content))
					} else {
						sent.WriteString(chunked("4\r\n" + content + "\r\n0\r\n\r\n"))
					}
				}
				at := -1
				got := attempt(t, addr, sent.String()+"x\r\n\r\n")
				for k := range strings.Count(got, "HTTP/1.1 200 OK\r\n") { // a prefix, in order
					next := strings.Index(got, fmt.Sprintf("\r\n\r\n%d%02d%d<nil>", i, n, k))
					if next <= at {
						t.Errorf("answer %d: %q", k, got)
						break
					}
					at = next
				}
			}
		})
	}
	clients.Wait()
	readers.Wait()
}

// A client that sends slowly is given up when its time is over, whatever it
// sends.
func TestSlowHead(t *testing.T) {
	s, addr := start(t, h1.Config{HeaderTimeout: 100 * time.Millisecond}, hello)
	for _, first := range []string{"", "\r\n", "G", get("")[:10], get("") + "G"} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(c, first)
		for range 50 { // a byte now and then
			if _, err := io.WriteString(c, "x"); err != nil {
				break
			}
			<-time.After(10 * time.Millisecond)
		}
		until(t, "end of the connection", func() bool { return h1.Open(s) == 0 })
		_ = c.Close()
	}
}
