package nethttp

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"anyedge/internal/message"
)

// upgrade answers with the byte stream of res and pipes until both directions
// have ended, one has failed, or the server closes the exchange.
func (x *exchange) upgrade(ctx context.Context, res *message.Response) {
	client, err := x.takeOver(res)
	if err != nil {
		x.abort(err)
	}
	message.Pipe(ctx, client, res.Stream)
}

// takeOver writes the head of res and returns the client's side of the stream.
func (x *exchange) takeOver(res *message.Response) (io.ReadWriteCloser, error) {
	header := x.w.Header()
	toHeader(header, res.Header)
	// RFC 8441 section 4: any 2xx accepts; there is no 101.
	header.Del("Sec-Websocket-Accept")
	header["Content-Type"] = nil
	x.w.WriteHeader(http.StatusOK)
	if err := x.rc.Flush(); err != nil {
		return nil, fmt.Errorf("write to the client: %w", err)
	}
	return &exchangeStream{x: x}, nil
}

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
