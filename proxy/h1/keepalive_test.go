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
	"anyedge/internal/message/nethttp/enginetest"
	"anyedge/proxy/h1"
)

// A connection goes on after an answer that came before its request's content
// was read; what is left of that is no request.
func TestUnreadContent(t *testing.T) {
	_, addr := start(t, h1.Config{}, message.RoundTripFunc(func(_ context.Context, r *message.Request) (*message.Response, error) {
		return enginetest.Text(404, r.Method), nil
	}))
	const content = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	for _, framed := range []string{
		fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(content), content),
		fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(content), content),
	} {
		got := exchange(t, addr, "POST / HTTP/1.1\r\nHost: a\r\n"+framed+"PUT / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		if strings.Count(got, "HTTP/1.1 404") != 2 || !strings.HasSuffix(got, "PUT") {
			t.Errorf("got %q", got)
		}
	}
}

// The answer does not wait for content that nobody reads.
func TestUnsentContent(t *testing.T) {
	_, addr := start(t, h1.Config{}, hello)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(enginetest.Patience))
	fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n")
	r := bufio.NewReader(c)
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(res.Body); err != nil || string(b) != "POST a /" {
		t.Fatalf("%q, %v", b, err)
	}
	// Sent now, it still belongs to the first request.
	fmt.Fprint(c, "contentGET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	res, err = http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(res.Body); err != nil || string(b) != "GET a /next" {
		t.Fatalf("%q, %v", b, err)
	}
}
