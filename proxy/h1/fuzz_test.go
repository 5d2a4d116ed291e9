package h1_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anyedge/internal/message"
	"anyedge/proxy/h1"
)

// A dump is a connection that gives bytes in pieces and keeps what is written.
type dump struct {
	net.Conn
	in    []byte
	piece int
	out   bytes.Buffer
}

// Read gives one piece.
func (w *dump) Read(p []byte) (int, error) {
	if len(w.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), w.piece)], w.in)
	w.in = w.in[n:]
	return n, nil
}

// Write keeps p.
func (w *dump) Write(p []byte) (int, error) { return w.out.Write(p) }

// A reading is what somebody took a request for.
type reading struct {
	Method, Target, Authority string
	Header                    map[string][]string
	Length                    int64 // -1: chunks
	Content, Rest             string
}

// ours reads raw as a server does. ok is false when that refuses the head or the
// content, or when either has no end.
func ours(t *testing.T, raw []byte, piece int) (r reading, req *message.Request, ok bool) {
	t.Helper()
	req, rest, status := h1.Receive(&dump{in: raw, piece: piece})
	if status != 0 {
		return reading{}, nil, false
	}
	r = reading{Method: req.Method, Target: req.Target, Authority: req.Authority, Header: map[string][]string{}}
	for _, f := range req.Header {
		key := textproto.CanonicalMIMEHeaderKey(f.Name)
		r.Header[key] = append(r.Header[key], f.Value)
	}
	if req.Body != nil {
		r.Length = req.Body.Length()
		reader, err := req.Body.Open()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(reader)
		if err != nil {
			return reading{}, nil, false
		}
		r.Content = string(content)
	}
	behind, err := rest()
	if err != nil {
		t.Fatal(err)
	}
	r.Rest = string(behind)
	return r, req, true
}

// theirs reads raw as net/http does.
func theirs(raw []byte) (reading, error) {
	in := bufio.NewReader(bytes.NewReader(raw))
	req, err := http.ReadRequest(in)
	if err != nil {
		return reading{}, err
	}
	r := reading{Method: req.Method, Target: req.RequestURI, Authority: req.Host, Header: req.Header, Length: req.ContentLength}
	content, err := io.ReadAll(req.Body)
	if err != nil {
		return reading{}, err
	}
	rest, err := io.ReadAll(in)
	r.Content, r.Rest = string(content), string(rest)
	return r, err
}

// FuzzRequest finds requests that the server takes and net/http understands
// differently, as they came or as the client sends them on.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		get(""), get("X: 1\r\nx: 2\r\nConnection: X\r\n"), "\r\n" + get("TE: trailers\r\n"),
		post("Content-Length: 2\r\n", "ab") + get(""), post("Transfer-Encoding: chunked\r\n", "2;a\r\nab\r\n0\r\nX: 1\r\n\r\n"+get("")),
		"GET http://b:80?q HTTP/1.1\r\nHost: a\r\n\r\n", "CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: a\r\n\r\n",
		"OPTIONS * HTTP/1.2\r\nHost: a\r\n\r\n", "GET / HTTP/1.0\r\n\r\n", "GET /%zz HTTP/1.1\r\nHost:\r\n\r\n",
		get("Connection: Upgrade\r\nUpgrade: websocket\r\n"), post("Expect: 100-continue\r\nContent-Length: 1\r\n", "a"),
		post("Transfer-Encoding: chunked\r\nTrailer: X\r\n", "0\r\nX: 1\r\n\r\n"),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > 8<<10 {
			return // net/http has limits of its own
		}
		got, req, ok := ours(t, raw, len(raw))
		if pieces, _, same := ours(t, raw, 1); same != ok || !cmp.Equal(pieces, got) {
			t.Fatalf("byte by byte: %v: %s", same, cmp.Diff(got, pieces))
		}
		if !ok {
			return
		}
		compareReceived(t, raw, got)
		if req.Method != "CONNECT" {
			compareSent(t, got, req)
		}
	})
}

// compareReceived compares got, which raw was taken for, with net/http's reading.
func compareReceived(t *testing.T, raw []byte, got reading) {
	t.Helper()
	raw = bytes.TrimPrefix(raw, []byte("\r\n"))
	want, err := theirs(raw)
	if _, target := errors.AsType[*url.Error](err); target {
		// What stands in a target is its reader's; it must not move anything else.
		line, rest, _ := bytes.Cut(raw, []byte("\r\n"))
		words := strings.Split(string(line), " ")
		want, err = theirs(append([]byte(words[0]+" / "+words[2]+"\r\n"), rest...))
		got.Target = "/"
		if !strings.HasPrefix(words[1], "/") { // the target named the host
			got.Authority = want.Authority
		}
	}
	switch {
	case err != nil && (strings.Contains(err.Error(), "bad trailer key") || strings.Contains(err.Error(), notRead)):
		return // the first is cutTrailer's matter
	case err != nil:
		t.Fatalf("net/http refuses it: %v", err)
	}
	if !strings.HasPrefix(want.Target, "/") { // the absolute form; what is sent tells more
		got.Target = want.Target
		if host, err := url.PathUnescape(got.Authority); err == nil {
			got.Authority = host
		}
	}
	compareHeader(t, got.Header, want.Header)
	got.Header, want.Header = nil, nil
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
}

// compareHeader has every field that we found, and no other one, in want.
func compareHeader(t *testing.T, got, want map[string][]string) {
	t.Helper()
	for name, values := range got {
		switch name {
		case "Te", "Trailer": // rewritten here, taken out there
		default:
			if !slices.Equal(values, want[name]) {
				t.Fatalf("%s: %q, net/http says %q", name, values, want[name])
			}
		}
	}
}

// compareSent has req sent on, and read by both.
func compareSent(t *testing.T, want reading, req *message.Request) {
	t.Helper()
	w := &dump{}
	if err := h1.Send(w, req); err != nil {
		t.Fatal(err)
	}
	sent := w.out.Bytes()
	want.Rest = ""
	got, _, ok := ours(t, sent, len(sent))
	if !ok {
		t.Fatalf("the server refuses what the client sends: %q", sent)
	}
	if _, has := want.Header["Trailer"]; has && want.Length >= 0 && got.Length < 0 {
		got.Length = want.Length // trailers need chunks
	}
	if _, has := want.Header["Sec-Websocket-Key"]; !has { // the client makes one
		delete(got.Header, "Sec-Websocket-Key")
	}
	if want.Length == 0 { // nothing that could wait
		delete(want.Header, "Expect")
	}
	for _, name := range []string{"Te", "Trailer"} {
		delete(got.Header, name)
		delete(want.Header, name)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
	compareReceived(t, sent, got)
}

// notRead is what net/http says about white space before a chunk's extension,
// which it must read (RFC 9112 section 7.1.1).
const notRead = "invalid byte in chunk length"

// FuzzChunked finds chunks that mean something else to net/http.
func FuzzChunked(f *testing.F) {
	for _, s := range []string{
		"0\r\n\r\n", "2\r\nab\r\n0\r\n\r\nrest", "2;a=b\r\nab\r\nA \t;c\r\n0123456789\r\n00\r\nX: 1\r\n\r\n",
		"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n0\r\n\r\n", "ffffffffffffffff\r\n",
	} {
		f.Add([]byte(s), uint8(3), uint8(7))
	}
	f.Fuzz(func(t *testing.T, raw []byte, piece, size uint8) {
		if len(raw) > 8<<10 {
			return
		}
		read := func(piece, size int) (string, string, error) {
			c, rest := h1.Chunks(&dump{in: raw, piece: piece})
			b, err := io.ReadAll(onlyReader{c, size})
			if err != nil {
				return "", "", err
			}
			behind, err := rest()
			return string(b), string(behind), err
		}
		got, rest, err := read(len(raw)+1, 512)
		again, restAgain, errAgain := read(int(piece)+1, int(size)+1)
		if again != got || restAgain != rest || (err == nil) != (errAgain == nil) {
			t.Fatalf("%q %q %v, in pieces %q %q %v", got, rest, err, again, restAgain, errAgain)
		}
		if err != nil {
			return
		}
		in := bufio.NewReader(bytes.NewReader(raw))
		want, err := io.ReadAll(httputil.NewChunkedReader(in))
		if err != nil && err.Error() == notRead && bytes.ContainsAny(raw, " \t") {
			return
		}
		if err != nil || got != string(want) {
			t.Fatalf("%q, net/http says %q, %v", got, want, err)
		}
		if behind, err := io.ReadAll(in); err != nil || !strings.HasSuffix(string(behind), rest) {
			t.Fatalf("then %q, net/http says %q, %v", rest, behind, err)
		}
	})
}

// onlyReader reads into small buffers.
type onlyReader struct {
	from io.Reader
	most int
}

// Read reads at most so much.
func (r onlyReader) Read(p []byte) (int, error) { return r.from.Read(p[:min(len(p), r.most)]) }
