package interop_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"

	"anyedge/internal/testpeer"
)

// Opcodes of RFC 6455 section 5.2.
const (
	opContinuation = 0
	opText         = 1
	opBinary       = 2
	opClose        = 8
	opPing         = 9
	opPong         = 10
)

const (
	fin  = 0x80 // and below it three reserved bits, then the opcode
	rsv1 = 0x40
	rsv2 = 0x20
	rsv3 = 0x10
)

// frame is one frame of a client, masked (RFC 6455 section 5.2); first is its
// first byte.
func frame(first byte, payload []byte) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	mask := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	b = append(b, mask[:]...)
	for i, c := range payload {
		b = append(b, c^mask[i%4])
	}
	return b
}

// closing is a close frame with a code.
func closing(code int, reason string) []byte {
	return frame(fin|opClose, append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...))
}

// readFrames describes the frames of a server until its stream ends.
func readFrames(r *bufio.Reader) (all []string, err error) {
	for {
		first, err := r.ReadByte()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		payload, err := readPayload(r)
		if err != nil {
			return all, fmt.Errorf("inside of a frame: %w", err)
		}
		all = append(all, describe(first, payload))
	}
}

func readPayload(r *bufio.Reader) ([]byte, error) {
	second, err := r.ReadByte()
	if err != nil {
		return nil, err
	}
	n := uint64(second & 0x7f)
	if size := map[uint64]int{126: 2, 127: 8}[n]; size > 0 {
		b := make([]byte, 8)
		if _, err := io.ReadFull(r, b[8-size:]); err != nil {
			return nil, err
		}
		n = binary.BigEndian.Uint64(b)
	}
	if second&0x80 != 0 || n > 1<<26 {
		return nil, errors.New("a server's frame is masked, or too long")
	}
	payload := make([]byte, n)
	_, err = io.ReadFull(r, payload)
	return payload, err
}

// describe writes a frame as the cases write what they want.
func describe(first byte, payload []byte) string {
	if first == fin|opClose {
		if len(payload) < 2 {
			return "close"
		}
		return fmt.Sprint("close ", binary.BigEndian.Uint16(payload))
	}
	name := map[byte]string{fin | opText: "text", fin | opBinary: "binary", fin | opPing: "ping", fin | opPong: "pong"}[first]
	if name == "" {
		name = fmt.Sprintf("frame %#x", first)
	}
	if len(payload) > 40 {
		return fmt.Sprintf("%s of %d: %.8s", name, len(payload), sum(payload))
	}
	return fmt.Sprintf("%s %q", name, payload)
}

// A tunnel carries the bytes of a WebSocket.
type tunnel interface {
	io.ReadWriter
	CloseWrite() error
	Close()
}

// open opens a WebSocket at the application in one of the ways there are.
var open = map[string]func(t *testing.T) tunnel{
	"direct": func(t *testing.T) tunnel {
		t.Helper()
		return upgrade(t, dial(t, appAddr.String()))
	},
	"h1": func(t *testing.T) tunnel {
		t.Helper()
		return upgrade(t, dial(t, edge.Plain.String()))
	},
	"h1 TLS": func(t *testing.T) tunnel {
		t.Helper()
		c := tls.Client(dial(t, edge.TLS.String()), clientTLS(t, "http/1.1"))
		if err := c.HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		return upgrade(t, c)
	},
	"h2": connectH2,
	"h3": connectH3,
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(testpeer.Patience))
	return c
}

// h1Tunnel is a connection after the upgrade.
type h1Tunnel struct {
	net.Conn
	r *bufio.Reader
}

func (h h1Tunnel) Read(p []byte) (int, error) { return h.r.Read(p) }
func (h h1Tunnel) Close()                     { _ = h.Conn.Close() }
func (h h1Tunnel) CloseWrite() error {
	return h.Conn.(interface{ CloseWrite() error }).CloseWrite()
}

func upgrade(t *testing.T, c net.Conn) tunnel {
	t.Helper()
	_, err := io.WriteString(c, "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Fatalf("no upgrade: %s %v", resp.Status, resp.Header)
	}
	return h1Tunnel{c, r}
}

// h2Tunnel is a stream by RFC 8441.
type h2Tunnel struct {
	io.ReadCloser
	*io.PipeWriter
	end func()
}

func (h h2Tunnel) Close()            { h.end() }
func (h h2Tunnel) CloseWrite() error { return h.PipeWriter.Close() }

func connectH2(t *testing.T) tunnel {
	t.Helper()
	c := tls.Client(dial(t, edge.TLS.String()), clientTLS(t, "h2"))
	//nolint:staticcheck // net/http's own lets no one ask for :protocol
	conn, err := (&http2.Transport{}).NewClientConn(c)
	if err != nil {
		t.Fatal(err)
	}
	pr, pw := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, "CONNECT", "https://localhost/ws", pr)
	if err != nil {
		t.Fatal(err)
	}
	r.Header[":protocol"] = []string{"websocket"}
	r.Header.Set("Sec-WebSocket-Version", "13")
	resp, err := conn.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
	return h2Tunnel{resp.Body, pw, func() {
		cancel()
		_ = pw.Close()
		_ = resp.Body.Close()
		_ = conn.Close()
	}}
}

// h3Tunnel is a stream by RFC 9220.
type h3Tunnel struct {
	*http3.RequestStream
	conn *quic.Conn
}

func (h h3Tunnel) Close()            { _ = h.conn.CloseWithError(0x100, "") }
func (h h3Tunnel) CloseWrite() error { return h.RequestStream.Close() }

func connectH3(t *testing.T) tunnel {
	t.Helper()
	conn, err := quic.DialAddr(t.Context(), edge.TLS.String(), clientTLS(t, "h3"), nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := (&http3.Transport{}).NewClientConn(conn).OpenRequestStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = s.SetDeadline(time.Now().Add(testpeer.Patience))
	err = s.SendRequestHeader(&http.Request{
		Method: "CONNECT", Proto: "websocket", Host: "localhost", URL: &url.URL{Scheme: "https", Host: "localhost", Path: "/ws"},
		Header: http.Header{"Sec-Websocket-Version": {"13"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.ReadResponse()
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
	return h3Tunnel{s, conn}
}

// choppings are the ways in which bytes are cut into writes.
var choppings = map[string]func(b []byte) [][]byte{
	"whole": func(b []byte) [][]byte { return [][]byte{b} },
	"bytes": func(b []byte) [][]byte {
		if len(b) > 3000 {
			return [][]byte{b[:1], b[1:2], b[2 : len(b)-1], b[len(b)-1:]}
		}
		return bytes.SplitAfter(b, nil)
	},
	"odd": func(b []byte) (all [][]byte) {
		for size := 1; len(b) > 0; size = size*3%8191 + 1 {
			n := min(size, len(b))
			all, b = append(all, b[:n]), b[n:]
		}
		return all
	},
}
