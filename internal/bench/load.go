package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
)

// A load asks a contestant n times, as fast as it can; every request has to
// succeed.
type load func(ctx context.Context, c *contestant, n int) error

const (
	newWorkers = 16       // that open connections at once
	postSize   = 10 << 10 // bytes of an upload
)

var succeeded = regexp.MustCompile(`(\d+) succeeded`)

// h2load asks with h2load, which runs on core 1.
func h2load(scheme, path string, args ...string) load {
	return func(ctx context.Context, c *contestant, n int) error {
		port := c.tls
		if scheme == "http" {
			port = c.plain
		}
		all := append([]string{"-c", "1", "h2load", "-n", strconv.Itoa(n), "-t", "1"}, args...)
		all = append(all, fmt.Sprintf("%s://127.0.0.1:%d%s", scheme, port, path))
		out, err := exec.CommandContext(ctx, "taskset", all...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("h2load: %w: %s", err, out)
		}
		m := succeeded.FindSubmatch(out)
		if m == nil || !bytes.Equal(m[1], strconv.AppendInt(nil, int64(n), 10)) {
			return fmt.Errorf("h2load: not all of %d requests succeeded:\n%s", n, out)
		}
		return nil
	}
}

// h2loadPost uploads with each request.
func h2loadPost(scheme, path string, args ...string) load {
	return func(ctx context.Context, c *contestant, n int) error {
		dir, err := os.MkdirTemp("", "edged-bench-body-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		body := filepath.Join(dir, "body")
		if err := os.WriteFile(body, bytes.Repeat([]byte("y"), postSize), 0o600); err != nil {
			return err
		}
		return h2load(scheme, path, append(args, "-d", body)...)(ctx, c, n)
	}
}

// spread calls one n times in all, by as many goroutines as workers says, and
// returns the first error.
func spread(workers, n int, one func() error) error {
	var left atomic.Int64
	left.Store(int64(n))
	var first error
	var once sync.Once
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for left.Add(-1) >= 0 {
				if err := one(); err != nil {
					once.Do(func() { first = err })
					left.Store(0)
					return
				}
			}
		})
	}
	running.Wait()
	return first
}

// newConnections opens a TLS connection for each request, without resumption;
// the contestant closes it, as it is asked to.
func newConnections(ctx context.Context, c *contestant, n int) error {
	config := clientTLS("http/1.1")
	return spread(newWorkers, n, func() error {
		conn, err := dialTLS(ctx, c.tls, config)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: bench.example.net\r\nConnection: close\r\n\r\n"); err != nil {
			return err
		}
		r := bufio.NewReaderSize(conn, 4<<10)
		if err := readAnswer(r, smallContent); err != nil {
			return err
		}
		if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
			return fmt.Errorf("wanted the end of the connection, got %w", err)
		}
		return nil
	})
}

// dialTLS opens a connection and completes its handshake.
func dialTLS(ctx context.Context, port int, config *tls.Config) (*tls.Conn, error) {
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}

// readAnswer reads an HTTP/1.1 answer: it has to be a 200 with that much
// content.
func readAnswer(r *bufio.Reader, size int) error {
	length := -1
	for first := true; ; first = false {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200")) {
			return fmt.Errorf("the answer begins with %q", line)
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		if ok && bytes.EqualFold(name, []byte("content-length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return err
			}
		}
		if len(line) == 2 {
			break
		}
	}
	if length != size {
		return fmt.Errorf("the answer has %d bytes, not %d", length, size)
	}
	_, err := r.Discard(length)
	return err
}
