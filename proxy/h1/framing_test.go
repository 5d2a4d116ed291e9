package h1_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"anyedge/internal/message"
	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h1"
)

// post is a POST with these field lines and this content.
func post(fields, content string) string {
	return "POST / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n" + content
}

// chunked is a POST with a content of chunks.
func chunked(content string) string { return post("Transfer-Encoding: chunked\r\n", content) }

// RFC 9112 section 6.
func TestStrictFraming(t *testing.T) {
	const te = "Transfer-Encoding: "
	tryAll(t, h1.Config{}, []rule{
		{"Content-Length", post("Content-Length: 2\r\n", "ab"), "200 200"},
		{"Content-Length with zeros", post("Content-Length: 002\r\n", "ab"), "200 200"},
		{"Content-Length: 0", post("Content-Length: 0\r\n", ""), "200 200"},
		{"equal lengths", post("Content-Length: 2\r\nContent-Length: 2\r\n", "ab"), "400"}, // 6.3
		{"differing lengths", post("Content-Length: 2\r\nContent-Length: 3\r\n", "ab"), "400"},
		{"joined lengths", post("Content-Length: 2, 2\r\n", "ab"), "400"},
		{"positive length", post("Content-Length: +2\r\n", "ab"), "400"},
		{"negative length", post("Content-Length: -2\r\n", "ab"), "400"},
		{"hexadecimal length", post("Content-Length: 0x2\r\n", "ab"), "400"},
		{"length with an underscore", post("Content-Length: 1_0\r\n", "ab"), "400"},
		{"length with a space", post("Content-Length: 1 0\r\n", "ab"), "400"},
		{"empty length", post("Content-Length:\r\n", "ab"), "400"},
		{"huge length", post("Content-Length: 18446744073709551618\r\n", "ab"), "400"},
		{"length in other digits", post("Content-Length: \u0662\r\n", "ab"), "400"},
		{"length and chunks", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), "400"}, // 6.1
		{"chunks and length", post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"), "400"},
		{"unknown coding and length", post("Transfer-Encoding: gzip\r\nContent-Length: 2\r\n", "ab"), "400"},
		{"Chunked", post(te+"Chunked\r\n", "2\r\nab\r\n0\r\n\r\n"), "200 200"},
		{"chunked between tabs", post(te+"\tchunked\t\r\n", "0\r\n\r\n"), "200 200"},
		{"chunked twice", post(te+"chunked\r\n"+te+"chunked\r\n", "0\r\n\r\n"), "400"},
		{"chunked, chunked", post(te+"chunked, chunked\r\n", "0\r\n\r\n"), "400"},
		{"chunked, gzip", post(te+"chunked, gzip\r\n", "0\r\n\r\n"), "400"},
		{"gzip", post(te+"gzip\r\n", "0\r\n\r\n"), "400"},
		{"gzip, chunked", post(te+"gzip, chunked\r\n", "0\r\n\r\n"), "501"},
		{"gzip, then chunked", post(te+"gzip\r\n"+te+"chunked\r\n", "0\r\n\r\n"), "501"},
		{"chunked, then identity", post(te+"chunked\r\n"+te+"identity\r\n", "0\r\n\r\n"), "400"},
		{"identity", post(te+"identity\r\n", ""), "400"},
		{"xchunked", post(te+"xchunked\r\n", "0\r\n\r\n"), "400"},
		{"chunked in quotes", post(te+"\"chunked\"\r\n", "0\r\n\r\n"), "400"},
		{"chunked with a parameter", post(te+"chunked;q=1\r\n", "0\r\n\r\n"), "400"},
		{"chunked with the Kelvin sign", post(te+"chun\u212aed\r\n", "0\r\n\r\n"), "400"},
		{"chunked with a vertical tab", post(te+"\vchunked\r\n", "0\r\n\r\n"), "400"},
		{"chunked and nothing", post(te+"chunked,\r\n", "0\r\n\r\n"), "400"},
		{"no coding", post(te+"\r\n", "0\r\n\r\n"), "400"},
		{"space behind the name", post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"), "400"},
		{"chunks in HTTP/1.0", "POST / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
		{"expectation", post("Expect: 100-Continue\r\nContent-Length: 2\r\n", "ab"), "200 200"},
		{"Connection names the framing", post("Connection: Content-Length\r\nContent-Length: 2\r\n", "ab"), "200 200"},
	})
}

// RFC 9112 section 7.1.
func TestStrictChunks(t *testing.T) {
	const end = "0\r\n\r\n"
	long := strings.Repeat("x", 5000)
	tryAll(t, h1.Config{}, []rule{
		{"chunks", chunked("2\r\nab\r\n00A\r\n0123456789\r\n" + end), "200 200"},
		{"many zeros at the end", chunked("1\r\na\r\n000\r\n\r\n"), "200 200"},
		{"empty size", chunked("\r\nab\r\n" + end), "400"},
		{"negative size", chunked("-2\r\nab\r\n" + end), "400"},
		{"positive size", chunked("+2\r\nab\r\n" + end), "400"},
		{"size with 0x", chunked("0x2\r\nab\r\n" + end), "400"},
		{"size with white space first", chunked(" 2\r\nab\r\n" + end), "400"},
		{"size with white space behind", chunked("2 \r\nab\r\n" + end), "400"},
		{"over-long size", chunked("10000000000000002\r\nab\r\n" + end), "400"},
		{"size with an underscore", chunked("0_2\r\nab\r\n" + end), "400"},
		{"size that is no number", chunked("g\r\nab\r\n" + end), "400"},
		{"bare LF behind the size", chunked("2\nab\r\n" + end), "400"},
		{"bare CR behind the size", chunked("2\rab\r\n" + end), "400"},
		{"bare LF behind data", chunked("2\r\nab\n" + end), "400"},
		{"nothing behind data", chunked("2\r\nab" + end), "400"},
		{"data longer than its size", chunked("2\r\nabc\r\n" + end), "400"},
		{"bare LF at the end", chunked("0\n\n"), "400"},
		{"bare LF behind the last chunk", chunked("0\r\n\n"), "400"},
		{"extension", chunked("2;a=b;c\r\nab\r\n" + end), "200 200"},
		{"extension behind white space", chunked("2 ; a = \"b\"\r\nab\r\n" + end), "200 200"},
		{"extension without semicolon", chunked("2 a\r\nab\r\n" + end), "400"},
		{"extension with a bare CR", chunked("2;a\rb\r\nab\r\n" + end), "400"},
		{"extension with NUL", chunked("2;a\x00\r\nab\r\n" + end), "400"},
		{"extension over the limit", chunked("2;" + long + "\r\nab\r\n" + end), "400"},
		{"extensions over the limit", chunked(strings.Repeat("1;"+long[:2000]+"\r\na\r\n", 9) + end), "400"},
		{"trailer", chunked("0\r\nX: 1\r\n\r\n"), "200 200"},
		{"trailer without colon", chunked("0\r\nX\r\n\r\n"), "400"},
		{"trailer with white space", chunked("0\r\n X: 1\r\n\r\n"), "400"},
		{"trailer with a bare LF", chunked("0\r\nX: 1\n\r\n"), "400"},
		{"trailer over the limit", chunked("0\r\n" + strings.Repeat("X: "+long+"\r\n", 4) + "\r\n"), "400"},
		{"trailer with too many lines", chunked("0\r\n" + strings.Repeat("X: 1\r\n", 101) + "\r\n"), "400"},
		{"a request as a trailer", chunked("0\r\n" + get("")), "400"},
	})
}

// What comes at once is answered in its order, and is what was sent.
func TestPipelined(t *testing.T) {
	_, addr := start(t, h1.Config{}, whole)
	const smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
	for _, tt := range []struct {
		rule
		contents []string
	}{
		{
			rule{"GETs", "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", "200 200 200"},
			[]string{"GET a /1", "GET a /2", "GET a /probe"},
		},
		{
			rule{"behind a length", post(fmt.Sprintf("Content-Length: %d\r\n", len(smuggled)), smuggled), "200 200"},
			[]string{"POST a / " + smuggled, "GET a /probe"},
		},
		{
			rule{"behind chunks", chunked(fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(smuggled), smuggled)), "200 200"},
			[]string{"POST a / " + smuggled, "GET a /probe"},
		},
		{
			rule{"behind an empty line", post("Content-Length: 2\r\n", "ab") + "\r\n", "200 200"},
			[]string{"POST a / ab", "GET a /probe"},
		},
		{
			rule{"behind the last", post("Connection: close\r\nContent-Length: 2\r\n", "ab"), "200"},
			[]string{"POST a / ab"},
		},
		{
			rule{"many", strings.Repeat(chunked("1\r\na\r\n0\r\n\r\n"), 500), strings.Repeat("200 ", 500) + "200"},
			append(slices.Repeat([]string{"POST a / a"}, 500), "GET a /probe"),
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.try(t, addr); !slices.Equal(got, tt.contents) {
				t.Errorf("%.500q", got)
			}
		})
	}
}

// A client that ends its sending half gets the answers to all that it has sent
// before, however long each takes, within limits.
func TestHalfClose(t *testing.T) {
	_, addr := start(t, h1.Config{}, message.RoundTripFunc(func(ctx context.Context, r *message.Request) (*message.Response, error) {
		select { // long enough for somebody to look after the client
		case <-time.After(60 * time.Millisecond):
			return whole(ctx, r)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}))
	for _, sent := range []string{
		get(""), strings.Repeat(get(""), 3), strings.Repeat(post("Content-Length: 2\r\n", "ab"), 3),
		strings.Repeat(chunked("2\r\nab\r\n0\r\n\r\n"), 3) + "GET / HT",
	} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(c, sent)
		_ = c.(*net.TCPConn).CloseWrite()
		got := readAll(t, c)
		if n := strings.Count(got, "HTTP/1.1 200 OK\r\n"); n != strings.Count(sent, "Host:") {
			t.Errorf("%d answers to %q", n, sent)
		}
		_ = c.Close()
	}
}

// A client that goes away is noticed also when it has sent more requests.
func TestPipelinedClientGoesAway(t *testing.T) {
	began, ended := make(chan struct{}, 4), make(chan struct{}, 4)
	var asked atomic.Int32
	_, addr := start(t, h1.Config{}, message.RoundTripFunc(func(ctx context.Context, _ *message.Request) (*message.Response, error) {
		asked.Add(1)
		began <- struct{}{}
		<-ctx.Done()
		ended <- struct{}{}
		return nil, ctx.Err()
	}))
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(c, get(""))
	enginetest.Within(t, "request", began)
	for range 3 { // each comes by itself
		fmt.Fprint(c, get(""))
		<-time.After(30 * time.Millisecond)
	}
	_ = c.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
	enginetest.Within(t, "end of the exchange", ended)
	if n := asked.Load(); n != 1 {
		t.Errorf("%d requests of a client that has gone", n)
	}
}

// An answer's content is framed as its length says, whatever its maker says
// beside it.
func TestAnswerFraming(t *testing.T) {
	for _, tt := range []struct {
		name, method, want string
		res                message.Response
	}{
		{"length without content", "GET", "200 0 200", message.Response{Status: 200, Length: 5}},
		{"204", "GET", "204 - 200", message.Response{Status: 204, Header: message.Header{{Name: "Content-Length", Value: "5"}}}},
		{"304", "GET", "304 5 200", message.Response{Status: 304, Header: message.Header{{Name: "Content-Length", Value: "5"}}}},
		{"HEAD", "HEAD", "200 5 200", message.Response{Status: 200, Length: 5, Body: message.Content("12345")}},
		{"HEAD of unknown length", "HEAD", "200 - 200", message.Response{Status: 200, Length: -1, Body: message.Content("12345")}},
		{"HEAD with a length that is none", "HEAD", "200 - 200", message.Response{Status: 200, Header: message.Header{{Name: "Content-Length", Value: "1\r\nX: 2"}}}},
		{"length in a field", "GET", "200 5 200", message.Response{Status: 200, Length: 5, Body: message.Content("12345"), Header: message.Header{{Name: "Content-Length", Value: "3"}}}},
		{"interim status", "GET", "502 0 200", message.Response{Status: 103}},
		{"unasked stream", "GET", "502 0 200", message.Response{Status: 101, Stream: discard{}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, addr := start(t, h1.Config{}, message.RoundTripFunc(func(_ context.Context, r *message.Request) (*message.Response, error) {
				if r.Target == "/probe" {
					return &message.Response{Status: 200}, nil
				}
				return &tt.res, nil
			}))
			got := exchange(t, addr, tt.method+" / HTTP/1.1\r\nHost: a\r\n\r\n"+probe)
			first, _, _ := strings.Cut(got, "\r\n\r\n")
			length := "-"
			if _, after, ok := strings.Cut(first, "Content-Length: "); ok {
				length, _, _ = strings.Cut(after, "\r\n")
			}
			last := got[strings.LastIndex(got, "HTTP/1.1 ")+9:]
			if said := fmt.Sprint(first[9:12], " ", length, " ", last[:3]); said != tt.want || strings.Contains(got, "X: 2") {
				t.Errorf("%s: %q", said, got)
			}
		})
	}
}

// discard is a stream of nothing.
type discard struct{ net.Conn }

// Close does nothing.
func (discard) Close() error { return nil }
