package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
)

// Sizes of the contents that the backend answers with, by path.
const (
	smallContent = 1 << 10   // everywhere
	largeContent = 100 << 10 // at largePath
	largePath    = "/100k"
)

// A backend answers HTTP/1.1 with as little work as can be: it shares a core
// with the load, and what is measured is the proxy. It is meant for the
// requests of the contestants here alone: no chunked ones.
type backend struct {
	listener net.Listener
	running  sync.WaitGroup

	mu     sync.Mutex // guards what follows
	conns  map[net.Conn]struct{}
	closed bool
}

// startBackend answers at the port until Close.
func startBackend(ctx context.Context, port int) (*backend, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return nil, err
	}
	b := &backend{listener: l, conns: make(map[net.Conn]struct{})}
	b.running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if !b.add(c) {
				_ = c.Close()
				return
			}
			b.running.Go(func() {
				b.serve(c)
				b.remove(c)
			})
		}
	})
	return b, nil
}

// Close ends the backend and its connections.
func (b *backend) Close() {
	_ = b.listener.Close()
	b.mu.Lock()
	b.closed = true
	for c := range b.conns {
		_ = c.Close()
	}
	b.mu.Unlock()
	b.running.Wait()
}

func (b *backend) add(c net.Conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.conns[c] = struct{}{}
	}
	return !b.closed
}

func (b *backend) remove(c net.Conn) {
	_ = c.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.conns, c)
}

var (
	smallAnswer = answer(smallContent)
	largeAnswer = answer(largeContent)
	headEnd     = []byte("\r\n\r\n")
	lengthField = []byte("\r\ncontent-length:")
)

func answer(size int) []byte {
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", size)
	return append([]byte(head), bytes.Repeat([]byte("x"), size)...)
}

// serve answers the requests of one connection until it ends.
func (b *backend) serve(c net.Conn) {
	buf := make([]byte, 16<<10)
	var have int
	for {
		n, err := c.Read(buf[have:])
		if err != nil || n == 0 {
			return
		}
		have += n
		for {
			end := bytes.Index(buf[:have], headEnd)
			if end < 0 {
				break
			}
			head := buf[:end+len(headEnd)]
			text := answerTo(head)
			rest, err := skip(c, buf[:have], len(head)+contentLength(head), buf)
			if err != nil {
				return
			}
			have = copy(buf, rest)
			if _, err := c.Write(text); err != nil {
				return
			}
		}
	}
}

// skip drops the first n bytes of what is there and of what comes, by way of
// buf, and returns the bytes behind them that it has.
func skip(c net.Conn, there []byte, n int, buf []byte) ([]byte, error) {
	for n > len(there) {
		n -= len(there)
		m, err := c.Read(buf)
		if err != nil {
			return nil, err
		}
		there = buf[:m]
	}
	return there[n:], nil
}

// answerTo chooses by the path of a request.
func answerTo(head []byte) []byte {
	if _, rest, _ := bytes.Cut(head, []byte(" ")); bytes.HasPrefix(rest, []byte(largePath+" ")) {
		return largeAnswer
	}
	return smallAnswer
}

// contentLength returns the Content-Length of a request's head, or 0.
func contentLength(head []byte) int {
	if head[0] != 'P' {
		return 0
	}
	at := bytes.Index(bytes.ToLower(head), lengthField)
	if at < 0 {
		return 0
	}
	value, _, _ := bytes.Cut(head[at+len(lengthField):], []byte("\r\n"))
	n, err := strconv.Atoi(string(bytes.TrimSpace(value)))
	if err != nil {
		return 0
	}
	return n
}
