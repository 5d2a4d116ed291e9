package h1_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"anyedge/internal/message"
	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h1"
)

// What is left of a request's content when its answer is there is never taken
// for a request: the connection ends.
func TestUnreadContent(t *testing.T) {
	_, addr := start(t, h1.Config{}, hello)
	const content = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
	for _, framing := range []string{
		fmt.Sprintf("Content-Length: %d\r\n\r\n", len(content)),
		fmt.Sprintf("Expect: 100-continue\r\nContent-Length: %d\r\n\r\n", len(content)),
		fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n", len(content)),
	} {
		for _, late := range []bool{false, true} {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(enginetest.Patience))
			fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: a\r\n", framing)
			if !late {
				fmt.Fprint(c, content, "\r\n")
			}
			r := bufio.NewReader(c)
			res, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(res.Body); err != nil || string(b) != "POST a /" || !res.Close {
				t.Errorf("%q late %v: %q, %v, close %v", framing, late, b, err, res.Close)
			}
			if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 { // until the server closes
				t.Errorf("%q late %v: then %q, %v", framing, late, rest, err)
			}
		}
	}
}

// A connection whose request was read to its end goes on.
func TestReadContent(t *testing.T) {
	_, addr := start(t, h1.Config{}, message.RoundTripFunc(func(_ context.Context, r *message.Request) (*message.Response, error) {
		if r.Body == nil {
			return enginetest.Text(200, r.Target), nil
		}
		reader, err := r.Body.Open()
		if err != nil {
			return nil, err
		}
		b, err := io.ReadAll(reader)
		return enginetest.Text(200, string(b)), err
	}))
	for _, framed := range []string{"Content-Length: 7\r\n\r\ncontent", "Transfer-Encoding: chunked\r\n\r\n7\r\ncontent\r\n0\r\n\r\n"} {
		got := exchange(t, addr, "POST / HTTP/1.1\r\nHost: a\r\n"+framed+"GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		if strings.Count(got, "HTTP/1.1 200") != 2 || !strings.HasSuffix(got, "/next") || !strings.Contains(got, "\r\n\r\ncontent") {
			t.Errorf("got %q", got)
		}
	}
}
