package h1_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h1"
)

// resting returns connections that have been served and wait without a goroutine.
func resting(t *testing.T, s *h1.Server, dial func() (net.Conn, error)) []net.Conn {
	t.Helper()
	var conns []net.Conn
	for range 20 {
		c, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(enginetest.Patience))
		again(t, c)
		conns = append(conns, c)
	}
	until(t, "rest", func() bool { return h1.Resting(s) == len(conns) })
	return conns
}

// again asks once more on c.
func again(t *testing.T, c net.Conn) {
	t.Helper()
	fmt.Fprint(c, get(""))
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != 200 {
		t.Fatalf("status %d, %v", res.StatusCode, err)
	}
}

// Connections without a request lose nothing by their rest: they are served again,
// they end with their clients, with their time, and with the server.
func TestRest(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS %v", secure), func(t *testing.T) {
			t.Parallel()
			s, dial := secured(t, hello)
			if !secure {
				var addr string
				s, addr = start(t, h1.Config{}, hello)
				dial = func() (net.Conn, error) { return net.Dial("tcp", addr) }
			}
			conns := resting(t, s, dial)
			for _, c := range conns[:10] {
				again(t, c)
			}
			until(t, "rest again", func() bool { return h1.Resting(s) == len(conns) })
			for i, c := range conns[:5] {
				if tcp, ok := c.(*net.TCPConn); ok && i%2 == 0 {
					_ = tcp.SetLinger(0)
				}
				_ = c.Close()
			}
			until(t, "end of what was closed", func() bool { return h1.Open(s) == len(conns)-5 })
			if err := s.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, c := range conns[5:] {
				if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
					t.Errorf("read %d bytes, %v", n, err)
				}
			}
		})
	}
}

// A rest ends when the client has been silent for too long.
func TestRestEnds(t *testing.T) {
	s, addr := start(t, h1.Config{Idle: 2 * time.Second}, hello)
	conns := resting(t, s, func() (net.Conn, error) { return net.Dial("tcp", addr) })
	for _, c := range conns {
		if n, err := c.Read(make([]byte, 1)); err != io.EOF { //nolint:errorlint // exactly that
			t.Errorf("read %d bytes, %v", n, err)
		}
	}
	until(t, "the end of all", func() bool { return h1.Open(s) == 0 })
}
