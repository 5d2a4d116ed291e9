package h1_test

import (
	"bufio"
	"context"
	"errors"
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

// whole answers with what was asked for and the content, and 400 when that
// breaks off.
var whole = message.RoundTripFunc(func(_ context.Context, r *message.Request) (*message.Response, error) {
	said := fmt.Sprintf("%s %s %s", r.Method, r.Authority, r.Target)
	if r.Body == nil {
		return enginetest.Text(200, said), nil
	}
	reader, err := r.Body.Open()
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(reader)
	if err != nil {
		return enginetest.Text(400, err.Error()), nil
	}
	return enginetest.Text(200, fmt.Sprintf("%s %s", said, b)), nil
})

// A rule is one thing that a client may or may not send. Behind it comes
// GET /probe, so that statuses says also whether the connection was kept: "400"
// that it was closed, "200 200" that the probe was answered.
type rule struct{ name, sent, statuses string }

const probe = "GET /probe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

// try sends what the rule is about and returns the contents of the answers.
func (r rule) try(t *testing.T, addr string) []string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(enginetest.Patience))
	if _, err := io.WriteString(c, r.sent+probe); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(c)
	var statuses, contents []string
	req := &http.Request{Method: r.sent[:strings.IndexByte(r.sent+" ", ' ')]}
	for {
		res, err := http.ReadResponse(in, req)
		if errors.Is(err, io.ErrUnexpectedEOF) { // the end of the connection
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		statuses, contents = append(statuses, fmt.Sprint(res.StatusCode)), append(contents, string(b))
		if res.StatusCode >= 200 {
			req = nil
		}
	}
	if got := strings.Join(statuses, " "); got != r.statuses {
		t.Errorf("got %s %q, want %s", got, contents, r.statuses)
	}
	return contents
}

// readAll returns what comes until the connection ends.
func readAll(t *testing.T, c net.Conn) string {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(enginetest.Patience))
	b, err := io.ReadAll(c)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

// get is a GET with these field lines.
func get(fields string) string { return "GET / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n" }

func tryAll(t *testing.T, cfg h1.Config, rules []rule) {
	t.Helper()
	_, addr := start(t, cfg, whole)
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) { r.try(t, addr) })
	}
}

// RFC 9112 sections 2 and 3.
func TestStrictLines(t *testing.T) {
	line := func(s string) string { return s + "\r\nHost: a\r\n\r\n" }
	tryAll(t, h1.Config{}, []rule{
		{"bare LF behind the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n", "400"}, // 2.2
		{"bare LF behind a field", get("X: 1\n"), "400"},
		{"bare LF at the end", "GET / HTTP/1.1\r\nHost: a\r\n\n", "400"},
		{"bare CR behind the request line", "GET / HTTP/1.1\rHost: a\r\n\r\n", "400"},
		{"bare CR in a value", get("X: 1\r2\r\n"), "400"},
		{"bare CR before the CRLF", get("X: 1\r\r\n"), "400"},
		{"bare CR in a name", get("X\rY: 1\r\n"), "400"},
		{"one empty line first", "\r\n" + get(""), "200 200"},
		{"two empty lines first", "\r\n\r\n" + get(""), "400"},
		{"a bare LF first", "\n" + get(""), "400"},
		{"white space before the first field", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", "400"},
		{"NUL in the request line", line("GET /\x00 HTTP/1.1"), "400"},
		{"control character in the target", line("GET /\x01 HTTP/1.1"), "400"},
		{"DEL in the target", line("GET /\x7f HTTP/1.1"), "400"},
		{"raw UTF-8 in the target", line("GET /ä HTTP/1.1"), "400"},
		{"a fragment", line("GET /a#/../b HTTP/1.1"), "400"},
		{"a fragment behind a host", line("GET http://a#b HTTP/1.1"), "400"},
		{"two spaces", line("GET  / HTTP/1.1"), "400"},
		{"space behind the version", line("GET / HTTP/1.1 "), "400"},
		{"space in the target", line("GET /a b HTTP/1.1"), "400"},
		{"tab", line("GET\t/ HTTP/1.1"), "400"},
		{"no target", line("GET HTTP/1.1"), "400"},
		{"empty target", line("GET  HTTP/1.1"), "400"},
		{"relative target", line("GET a HTTP/1.1"), "400"},
		{"asterisk of another method", line("GET * HTTP/1.1"), "400"}, // 3.2.4
		{"scheme of another kind", line("GET ftp://a/ HTTP/1.1"), "400"},
		{"no host in the target", line("GET http:///b HTTP/1.1"), "400"},
		{"user information in the target", line("GET http://u@a/ HTTP/1.1"), "400"}, // RFC 9110 4.2.4
		{"port that is none", line("GET http://a:b/ HTTP/1.1"), "400"},
		{"CONNECT to a path", line("CONNECT / HTTP/1.1"), "400"},
		{"CONNECT without a port", line("CONNECT a HTTP/1.1"), "400"},
		{"CONNECT is the last", line("CONNECT a:1 HTTP/1.1"), "200"},
		{"method with a colon", line("G:T / HTTP/1.1"), "400"},
		{"method with a control character", line("G\x01T / HTTP/1.1"), "400"},
		{"method in quotes", line(`"GET" / HTTP/1.1`), "400"},
		{"method in UTF-8", line("GÉT / HTTP/1.1"), "400"},
		{"no method", line(" / HTTP/1.1"), "400"},
		{"unknown method", line("get / HTTP/1.1"), "200 200"},
		{"HTTP/2.0", line("GET / HTTP/2.0"), "505"},
		{"HTTP/0.9", line("GET / HTTP/0.9"), "505"},
		{"HTTP/1.2", line("GET / HTTP/1.2"), "200 200"}, // RFC 9110 2.5: read as 1.1
		{"HTTP/1.2 without Host", "GET / HTTP/1.2\r\n\r\n", "400"},
		{"HTTP/1.10", line("GET / HTTP/1.10"), "400"},
		{"HTTP/01.1", line("GET / HTTP/01.1"), "400"},
		{"HTTP/1.x", line("GET / HTTP/1.x"), "400"},
		{"http/1.1", line("GET / http/1.1"), "400"},
		{"no version", line("GET /"), "400"},
		{"preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"},
		{"no HTTP", "\x16\x03\x01\x02\r\n\r\n", "400"},
	})
}

// RFC 9112 section 5 and RFC 9110 sections 5 and 7.2.
func TestStrictFields(t *testing.T) {
	tryAll(t, h1.Config{}, []rule{
		{"obs-fold", get("X: 1\r\n 2\r\n"), "400"}, // 5.2
		{"obs-fold with a tab", get("X: 1\r\n\t2\r\n"), "400"},
		{"white space before the colon", get("X : 1\r\n"), "400"}, // 5.1
		{"tab before the colon", get("X\t: 1\r\n"), "400"},
		{"no colon", get("X\r\n"), "400"},
		{"no name", get(": 1\r\n"), "400"},
		{"NUL in a name", get("X\x00: 1\r\n"), "400"},
		{"UTF-8 in a name", get("Ä: 1\r\n"), "400"},
		{"NUL in a value", get("X: 1\x002\r\n"), "400"},
		{"control character in a value", get("X: 1\x7f\r\n"), "400"},
		{"no value", get("X:\r\n"), "200 200"},
		{"tabs around a value", get("X:\t1\t2\t\r\n"), "200 200"},
		{"UTF-8 in a value", get("X: ä\r\n"), "200 200"},
		{"no Host", "GET / HTTP/1.1\r\n\r\n", "400"},
		{"no Host in HTTP/1.0", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "200 200"},
		{"empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "200 200"},
		{"Host twice", get("Host: a\r\n"), "400"},
		{"Host twice in HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\nhost: a\r\n\r\n", "400"},
		{"Host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "400"},
		{"Host with user information", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", "400"},
		{"Host with a space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "400"},
		{"Host without a host", "GET / HTTP/1.1\r\nHost: :80\r\n\r\n", "400"},
		{"Host with two ports", "GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n", "400"},
		{"Host with an IPv6 address", "GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n", "200 200"},
		{"Host with half an address", "GET / HTTP/1.1\r\nHost: [2001:db8::1\r\n\r\n", "400"},
		{"Host with an address and more", "GET / HTTP/1.1\r\nHost: [2001:db8::1]a\r\n\r\n", "400"},
		{"bad Host with an absolute target", "GET http://b/ HTTP/1.1\r\nHost: a/b\r\n\r\n", "400"},
		{"no Host with an absolute target", "GET http://b/ HTTP/1.1\r\n\r\n", "400"},
		{"Connection names too much", get("Connection: " + strings.Repeat("x,", 101) + "\r\n"), "400"},
		{"100 fields", get(strings.Repeat("X: 1\r\n", 99)), "200 200"},
		{"101 fields", get(strings.Repeat("X: 1\r\n", 100)), "431"},
		{"expectation", get("Expect: 200-ok\r\n"), "417"},
		{"expectation without content", get("Expect: 100-continue\r\n"), "200 200"},
		{"two expectations", get("Expect: 200-ok\r\nExpect: 100-continue\r\n"), "417"},
		{"Connection: close", get("Connection: close\r\n"), "200"},
		{"Connection: Close among others", get("Connection: x, Close\r\n"), "200"},
		{"HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\n\r\n", "200"},
		{"HTTP/1.0 keep-alive", "GET / HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n", "200 200"},
		{"keep-alive with the Kelvin sign", "GET / HTTP/1.0\r\nHost: a\r\nConnection: \u212aeep-alive\r\n\r\n", "200"},
		{"HEAD", "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", "200 200"},
	})
}

func TestStrictLimits(t *testing.T) {
	long := strings.Repeat("x", 10_000)
	tryAll(t, h1.Config{Header: 10_000}, []rule{
		{"request line", "GET /" + long + " HTTP/1.1\r\nHost: a\r\n\r\n", "414"},
		{"request line just over", "GET /" + long[:9990] + " HTTP/1.1\r\nHost: a\r\n\r\n", "414"},
		{"request line without an end", "GET /" + long + long, "414"},
		{"header section", get("X: " + long + "\r\n"), "431"},
		{"header section just over", get("X: " + long[:9970] + "\r\n"), "431"},
		{"header section just below", get("X: " + long[:9960] + "\r\n"), "200 200"},
	})
}

// A control character is seen wherever it stands.
func TestControlCharacters(t *testing.T) {
	for length := range 20 {
		for at := range length {
			for c := range 256 {
				b := []byte(strings.Repeat("\x80a ~\t\xff", 4)[:length])
				b[at] = byte(c)
				if got, want := h1.IsText(string(b)); got != want {
					t.Fatalf("%q: %v, want %v", b, got, want)
				}
			}
		}
	}
}
