package h1_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"

	"anyedge/internal/message"
	"anyedge/proxy/h1"
)

// answering is a backend that answers every request head with the same bytes,
// without allocating.
func answering(b *testing.B, answer string) string {
	b.Helper()
	l, err := new(net.ListenConfig).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serveBytes(c, []byte(answer))
		}
	}()
	return l.Addr().String()
}

// serveBytes answers each head that ends where a read ends.
func serveBytes(c net.Conn, answer []byte) {
	defer c.Close()
	in, end := make([]byte, 4<<10), []byte("\r\n\r\n")
	for {
		n, err := c.Read(in)
		if err != nil {
			return
		}
		if !bytes.HasSuffix(in[:n], end) {
			continue
		}
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}

// BenchmarkGET is one exchange over a pooled connection, read to its end.
func BenchmarkGET(b *testing.B) {
	const fields = "Content-Type: text/plain\r\nServer: origin\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\n"
	for _, bb := range []struct{ name, answer string }{
		{"length", "HTTP/1.1 200 OK\r\n" + fields + "Content-Length: 12\r\n\r\ntwelve bytes"},
		{"chunked", "HTTP/1.1 200 OK\r\n" + fields + "Transfer-Encoding: chunked\r\n\r\nc\r\ntwelve bytes\r\n0\r\n\r\n"},
		{"none", "HTTP/1.1 204 No Content\r\n" + fields + "\r\n"},
	} {
		b.Run(bb.name, func(b *testing.B) {
			c := h1.NewClient(h1.ClientConfig{Addr: answering(b, bb.answer)})
			b.Cleanup(c.Close)
			header := message.Header{{Name: "User-Agent", Value: "bench"}, {Name: "Accept", Value: "*/*"}}
			ctx, into := b.Context(), make([]byte, 512)
			b.ReportAllocs()
			for b.Loop() {
				res, err := c.RoundTrip(ctx, &message.Request{Method: "GET", Target: "/", Authority: "a", Header: header})
				if err != nil {
					b.Fatal(err)
				}
				for res.Body != nil {
					if _, err = res.Body.Read(into); errors.Is(err, io.EOF) {
						break
					} else if err != nil {
						b.Fatal(err)
					}
				}
				res.Close()
			}
		})
	}
}
