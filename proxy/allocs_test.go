package proxy_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	be "encoding/binary"
	"io"
	"net"
	"strconv"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"anyedge/proxy"
	"anyedge/proxy/upstream"
)

// The peers of these benchmarks allocate nothing while they run, so that what is
// counted is the proxy's.

// bareBackend answers 1 KiB to every request without content.
func bareBackend(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = l.Close() })
	content := bytes.Repeat([]byte("x"), 1024)
	reply := append([]byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: "+strconv.Itoa(len(content))+"\r\n\r\n"), content...)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b, n := make([]byte, 16<<10), 0
				for {
					m, err := c.Read(b[n:])
					if err != nil {
						return
					}
					if n += m; !bytes.HasSuffix(b[:n], []byte("\r\n\r\n")) {
						continue
					}
					n = 0
					if _, err := c.Write(reply); err != nil {
						return
					}
				}
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

// measured is a proxy as it is by default, which logs one request of a hundred.
func measured(tb testing.TB) *edge {
	tb.Helper()
	sample := 0.01
	s := shop(bareBackend(tb))
	s.Health = upstream.HealthConfig{}
	h1, h2 := plain("h1"), plain("h2")
	h2.Config.Protocols = []string{"h2"}
	return start(tb, proxy.Setup{
		Services: []proxy.ServiceConfig{s}, Listeners: []proxy.Listener{secure("https"), h1, h2},
		Log: proxy.LogConfig{Access: proxy.AccessLogConfig{Sample: &sample}},
	})
}

// A way is how a client comes to the edge.
type way struct {
	name     string
	secure   bool
	protocol string
	one      func(tb testing.TB, c net.Conn) func() // does one exchange on c
}

var ways = []way{
	{"H1", false, "h1", oneH1},
	{"H2", false, "h2", oneH2},
	{"H1TLS", true, "http/1.1", oneH1},
	{"H2TLS", true, "h2", oneH2},
}

// client returns a function that does one exchange.
func (w way) client(tb testing.TB) func() {
	tb.Helper()
	e := measured(tb)
	if w.secure {
		return w.one(tb, e.connect(tb, w.protocol))
	}
	c, err := net.Dial("tcp", e.addr(w.protocol))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	return w.one(tb, c)
}

// connect opens a TLS connection to the edge.
func (e *edge) connect(tb testing.TB, protocol string) net.Conn {
	tb.Helper()
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}}}
	c, err := d.DialContext(tb.Context(), "tcp", e.addr("https"))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// oneH1 returns a function that does one exchange over HTTP/1.1.
func oneH1(tb testing.TB, c net.Conn) func() {
	tb.Helper()
	request := []byte("GET /path HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
	b := make([]byte, 16<<10)
	return func() {
		if _, err := c.Write(request); err != nil {
			tb.Fatal(err)
		}
		n := 0
		for {
			m, err := c.Read(b[n:])
			if err != nil {
				tb.Fatal(err)
			}
			n += m
			if i := bytes.Index(b[:n], []byte("\r\n\r\n")); i >= 0 && n == i+4+1024 {
				break
			}
		}
		if !bytes.HasPrefix(b[:n], []byte("HTTP/1.1 200 ")) {
			tb.Fatalf("%.40q", b[:n])
		}
	}
}

// oneH2 returns a function that does one exchange over HTTP/2.
func oneH2(tb testing.TB, c net.Conn) func() {
	tb.Helper()
	f := http2.NewFramer(c, nil)
	_, err := io.WriteString(c, http2.ClientPreface)
	if err == nil {
		err = f.WriteSettings()
	}
	if err != nil {
		tb.Fatal(err)
	}
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, x := range []hpack.HeaderField{
		{Name: ":method", Value: "GET"},
		{Name: ":scheme", Value: "https"},
		{Name: ":authority", Value: "shop.example"},
		{Name: ":path", Value: "/path"},
		{Name: "user-agent", Value: "bench"},
		{Name: "accept", Value: "*/*"},
	} {
		x.Sensitive = true // the same bytes every time
		_ = enc.WriteField(x)
	}
	frame := be.BigEndian.AppendUint32([]byte{0, 0, byte(block.Len()), 1, 5}, 1)
	frame = append(frame, block.Bytes()...)
	update := []byte{0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 4, 0}
	if err := f.WriteSettingsAck(); err != nil {
		tb.Fatal(err)
	}
	r := bufio.NewReaderSize(c, 32<<10)
	id := uint32(1)
	return func() {
		be.BigEndian.PutUint32(frame[5:], id)
		if _, err := c.Write(frame); err != nil {
			tb.Fatal(err)
		}
		id += 2
		for got := 0; got < 1024; {
			h, err := r.Peek(9)
			if err != nil {
				tb.Fatal(err)
			}
			n := int(h[1])<<8 | int(h[2])
			switch h[3] {
			case 0:
				got += n
			case 3, 7:
				tb.Fatalf("frame % x", h)
			}
			if _, err := r.Discard(9 + n); err != nil {
				tb.Fatal(err)
			}
		}
		if _, err := c.Write(update); err != nil {
			tb.Fatal(err)
		}
	}
}

func BenchmarkExchange(b *testing.B) {
	for _, w := range ways {
		b.Run(w.name, func(b *testing.B) {
			one := w.client(b)
			for range 100 {
				one()
			}
			b.ReportAllocs()
			for b.Loop() {
				one()
			}
		})
	}
}

// What an exchange costs in allocations, with everything on that is on by default,
// once its connections are warm. It may become less, not more.
func TestExchangeAllocations(t *testing.T) {
	most := map[string]float64{"H1": 0, "H2": 0}
	for _, w := range ways {
		if w.secure {
			continue // what crypto/tls allocates for a record is its own
		}
		t.Run(w.name, func(t *testing.T) {
			if raceEnabled {
				t.Skip("under the race detector nothing is used twice")
			}
			one := w.client(t)
			for range 200 {
				one()
			}
			if n := testing.AllocsPerRun(2000, one); n > most[w.name] {
				t.Errorf("%v allocations, want %v", n, most[w.name])
			}
		})
	}
}
