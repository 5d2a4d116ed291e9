package upstream

import (
	"errors"
	"io"
	"sync"

	"anyedge/internal/message"
)

// hold makes release run once when resp is closed; at once when there is
// nothing to close.
func hold(resp *message.Response, release func()) *message.Response {
	once := sync.OnceFunc(release)
	switch {
	case resp.Stream != nil:
		resp.Stream = &stream{resp.Stream, once}
	case resp.Body != nil:
		resp.Body = &body{resp.Body, once}
	default:
		once()
	}
	return resp
}

// body is an answer's content that counts as under way until it is closed.
type body struct {
	io.ReadCloser
	release func()
}

// Ready is message.Ready of the content.
func (b *body) Ready() int { return message.Ready(b.ReadCloser) }

// Close closes the content and ends the request.
func (b *body) Close() error {
	defer b.release()
	return b.ReadCloser.Close()
}

// stream is the same for an upgraded connection.
type stream struct {
	io.ReadWriteCloser
	release func()
}

// Close closes the connection and ends the request.
func (s *stream) Close() error {
	defer s.release()
	return s.ReadWriteCloser.Close()
}

// CloseWrite ends one direction, where the connection can.
func (s *stream) CloseWrite() error {
	if c, ok := s.ReadWriteCloser.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return errors.ErrUnsupported
}
