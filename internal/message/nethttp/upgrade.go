package nethttp

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"

	"anyedge/internal/message"
)

// upgrade answers with the byte stream of res and pipes until both directions
// have ended, one has failed, or the server closes the exchange.
func (x *exchange) upgrade(ctx context.Context, res *message.Response, protocol string) {
	client, err := x.takeOver(res, protocol)
	if err != nil {
		x.abort(err)
	}
	message.Pipe(ctx, client, res.Stream)
}

// takeOver writes the head of res and returns the client's side of the stream.
func (x *exchange) takeOver(res *message.Response, protocol string) (io.ReadWriteCloser, error) {
	header := x.w.Header()
	toHeader(header, res.Header)
	if x.r.ProtoMajor != 1 {
		// RFC 8441 section 4: any 2xx accepts; there is no 101.
		header.Del("Sec-Websocket-Accept")
		header["Content-Type"] = nil
		x.w.WriteHeader(http.StatusOK)
		if err := x.rc.Flush(); err != nil {
			return nil, fmt.Errorf("write to the client: %w", err)
		}
		return &exchangeStream{x: x}, nil
	}
	header.Set("Connection", "Upgrade")
	header.Set("Upgrade", protocol)
	x.w.WriteHeader(http.StatusSwitchingProtocols)
	conn, rw, err := x.rc.Hijack()
	if err != nil {
		return nil, fmt.Errorf("take the connection over: %w", err)
	}
	if err := rw.Flush(); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("write to the client: %w", err)
	}
	// Past what it holds, the server's reader would take the end of the
	// client's direction for the end of the exchange.
	early, err := rw.Peek(rw.Reader.Buffered())
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("read from the client: %w", err)
	}
	return &hijacked{Reader: io.MultiReader(bytes.NewReader(early), conn), WriteCloser: conn}, nil
}

// hijacked is a connection taken over from an HTTP/1 server.
type hijacked struct {
	io.Reader // has the bytes that came behind the request
	io.WriteCloser
}

// CloseWrite ends the writing half.
func (h *hijacked) CloseWrite() error { return message.CloseWrite(h.WriteCloser) }

// exchangeStream is the stream of an extended CONNECT: the content of the
// request one way, that of the answer the other.
type exchangeStream struct{ x *exchange }

// Read returns bytes of the client.
func (s *exchangeStream) Read(p []byte) (int, error) { return s.x.r.Body.Read(p) }

// Write sends bytes to the client at once.
func (s *exchangeStream) Write(p []byte) (int, error) {
	n, err := s.x.w.Write(p)
	if err == nil {
		err = s.x.rc.Flush()
	}
	return n, err
}

// Close ends reads; the answer ends with the exchange.
func (s *exchangeStream) Close() error { return s.x.r.Body.Close() }
