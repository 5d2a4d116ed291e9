//go:build !race

package h1_test

import (
	"bytes"
	"crypto/tls"
	"net"
	"runtime"
	"testing"

	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h1"
)

// echoing serves a connection as a backend that allocates nothing.
func echoing(c net.Conn) {
	defer c.Close()
	answer := append([]byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nETag: \"1\"\r\nContent-Length: 1024\r\n\r\n"), make([]byte, 1024)...)
	for b, n := make([]byte, 4096), 0; ; {
		m, err := c.Read(b[n:])
		if err != nil {
			return
		}
		if n += m; !bytes.HasSuffix(b[:n], []byte("\r\n\r\n")) {
			continue
		}
		n = 0
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}

// A request through both sides costs no allocation, once the connections are
// there, but what crypto/tls makes for each read: two here and one at the client.
// (Under the race detector memory is not used again.)
func TestNoAllocations(t *testing.T) {
	addr := enginetest.Listen(t, func(c net.Conn) { go echoing(c) })
	for secure, most := range map[bool]float64{false: 0.5, true: 3.5} {
		s := h1.NewServer(h1.Config{}, open(t, h1.ClientConfig{Addr: addr}), enginetest.Log(t))
		enginetest.Stop(t, s.Shutdown)
		server, client := enginetest.TLS(t, "http/1.1")
		front := enginetest.Listen(t, func(c net.Conn) {
			if secure {
				c = overTLS(t, c, server)
			}
			s.ServeConn(c)
		})
		c, err := net.Dial("tcp", front)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if secure {
			client.ServerName = "127.0.0.1"
			c = tls.Client(c, client)
		}
		request := []byte(get("User-Agent: test\r\nAccept: */*\r\n"))
		answer := make([]byte, 4096)
		ask := func() {
			if _, err := c.Write(request); err != nil {
				t.Error(err)
			}
			n := 0
			for n < 1024 || n-bytes.Index(answer[:n], []byte("\r\n\r\n"))-4 < 1024 {
				m, err := c.Read(answer[n:])
				if err != nil {
					t.Fatal(err)
				}
				n += m
			}
		}
		for range 200 {
			ask()
		}
		const asked = 2000
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range asked {
			ask()
		}
		runtime.ReadMemStats(&after)
		// A collection empties pools, and timers run beside.
		if per := float64(after.Mallocs-before.Mallocs) / asked; per > most {
			t.Errorf("TLS %v: %.2f allocations a request", secure, per)
		} else {
			t.Logf("TLS %v: %.3f allocations a request", secure, per)
		}
	}
}
