package upstream

import (
	"errors"
	"io"
	"sync/atomic"

	"anyedge/internal/message"
)

// fieldLoad is the answer field, or trailer field, in which a backend tells its
// load: 0 is idle, 1 is full.
const fieldLoad = "Edge-Load"

// hold counts the request as under way at b until resp is closed.
func (p *Pool) hold(b *backend, r *message.Request, resp *message.Response) *message.Response {
	switch {
	case resp.Stream != nil:
		resp.Stream = &stream{resp.Stream, lease{pool: p, backend: b}}
	case resp.Body != nil:
		held := message.Part[body](r.Arena)
		held.ReadCloser, held.trailer, held.pool, held.backend = resp.Body, resp.Trailer, p, b
		resp.Body = held
	default:
		p.release(b)
	}
	return resp
}

// A lease is one request at a backend.
type lease struct {
	pool    *Pool
	backend *backend
	over    atomic.Bool
}

func (l *lease) end() {
	if !l.over.Swap(true) {
		l.pool.release(l.backend)
	}
}

// body is an answer's content that counts as under way until it is closed.
type body struct {
	io.ReadCloser
	trailer func() message.Header
	lease
}

// Read reads, and looks into the trailer section behind the content.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF && b.trailer != nil {
		b.pool.heard(b.backend, b.trailer())
		b.trailer = nil
	}
	return n, err
}

// Ready is message.Ready of the content.
func (b *body) Ready() int { return message.Ready(b.ReadCloser) }

// Close closes the content and ends the request.
func (b *body) Close() error {
	defer b.end()
	return b.ReadCloser.Close()
}

// stream is the same for an upgraded connection.
type stream struct {
	io.ReadWriteCloser
	lease
}

// Close closes the connection and ends the request.
func (s *stream) Close() error {
	defer s.end()
	return s.ReadWriteCloser.Close()
}

// CloseWrite ends one direction, where the connection can.
func (s *stream) CloseWrite() error {
	if c, ok := s.ReadWriteCloser.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return errors.ErrUnsupported
}

// heard takes b's word about its load, if h has it.
func (p *Pool) heard(b *backend, h message.Header) {
	if text := h.Get(fieldLoad); text != "" && b.report.set(text, p.now()) && !p.moving.Load() {
		p.kick()
	}
}
