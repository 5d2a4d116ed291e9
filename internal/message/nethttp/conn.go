package nethttp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"anyedge/internal/message"
)

// Dialer wraps the connections of dial so that a [Client] knows what was
// written to them and learns at once when one ends. It is for HTTP/1, where a
// connection carries one request at a time.
func Dialer(dial func(ctx context.Context, network, addr string) (net.Conn, error)) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &conn{Conn: c}, nil
	}
}

// A conn counts the bytes written to it.
type conn struct {
	net.Conn
	written atomic.Int64

	mu     sync.Mutex
	closed bool
	upload io.Closer // closed with the connection
	fault  error     // the first failure of the connection
}

// Write writes and counts.
func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.written.Add(int64(n))
	c.note(err)
	return n, err
}

// Read reads.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.note(err)
	return n, err
}

// CloseWrite ends the writing half.
func (c *conn) CloseWrite() error { return message.CloseWrite(c.Conn) }

// Close closes the connection, and the content that is being sent on it: the
// transport reads that, however long its client may be silent, before it
// reports that the connection has ended.
func (c *conn) Close() error {
	c.mu.Lock()
	upload := c.upload
	c.closed, c.upload = true, nil
	c.mu.Unlock()
	if upload != nil {
		_ = upload.Close()
	}
	return c.Conn.Close()
}

// onClose makes Close close upload, the content now sent on the connection;
// nil when there is none.
func (c *conn) onClose(upload io.Closer) {
	c.mu.Lock()
	closed := c.closed
	c.upload = upload
	c.mu.Unlock()
	if closed && upload != nil {
		_ = upload.Close()
	}
}

// uploaded makes Close forget upload, unless another one has taken its place.
func (c *conn) uploaded(upload io.Closer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.upload == upload {
		c.upload = nil
	}
}

// note keeps the first failure.
func (c *conn) note(err error) {
	if err == nil || errors.Is(err, net.ErrClosed) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fault == nil {
		c.fault = err
	}
}

// cause returns what ended the connection when err only says that it did.
func (c *conn) cause(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fault == nil || errors.Is(err, c.fault) {
		return err
	}
	return fmt.Errorf("%w (%w)", err, c.fault)
}
