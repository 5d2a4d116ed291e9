package compress_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/andybalholm/brotli"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"

	"anyedge/internal/message"
	"anyedge/proxy/compress"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestChoose(t *testing.T) {
	all := []string{"zstd", "br", "gzip"}
	for _, tt := range []struct{ accept, want string }{
		{"", ""},
		{"gzip", "gzip"},
		{"gzip, deflate, br, zstd", "zstd"},
		{"gzip, br", "br"},
		{"GZIP", "gzip"},
		{"x-gzip", "gzip"},
		{"deflate", ""},
		{"identity", ""},
		{"*", "zstd"},
		{"*;q=0", ""},
		{"zstd;q=0, *", "br"},
		{"gzip;q=1.0, zstd;q=0.5", "gzip"},
		{"gzip;q=0.001", "gzip"},
		{"gzip;q=0", ""},
		{"gzip; q=0.5 , br ;q=0.8", "br"},
		{"gzip;q=0.5, identity;q=0.6", ""},
		{"gzip;q=0.5, identity;q=0.5", "gzip"},
		{"identity;q=0", ""}, // nothing else is named: it gets what there is
		{"gzip;q=2", ""},
		{"gzip;q=x", ""},
		{"gzip;q=", ""},
		{"gzip;q=0.5555", ""},
		{"gzip;level=9", ""},
		{",,gzip,,", "gzip"},
	} {
		if got := compress.Choose(tt.accept, all); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.accept, got, tt.want)
		}
	}
}

// FuzzChoose: whatever a client sends, it gets what is offered, and never what it
// refuses by name.
func FuzzChoose(f *testing.F) {
	f.Add("gzip;q=0, br;q=0.3, *")
	f.Fuzz(func(t *testing.T, accept string) {
		switch got := compress.Choose(accept, []string{"br", "gzip"}); {
		case got != "" && got != "br" && got != "gzip":
			t.Fatal(got)
		case accept == "" && got != "":
			t.Fatal(got)
		}
	})
}

const text = "the same words again and again; "

// answer is one of long text.
func answer(fields ...message.Field) *message.Response {
	content := strings.Repeat(text, 1000)
	h := message.Header{{Name: "Content-Type", Value: "text/html; charset=utf-8"}}
	for _, f := range fields {
		h.Set(f.Name, f.Value)
	}
	return &message.Response{Status: 200, Header: h, Length: int64(len(content)), Body: io.NopCloser(strings.NewReader(content))}
}

func field(name, value string) message.Field { return message.Field{Name: name, Value: value} }

func request(method string, fields ...message.Field) *message.Request {
	return &message.Request{Method: method, Header: append(message.Header{field("Accept-Encoding", "gzip")}, fields...)}
}

func TestWhatIsCompressed(t *testing.T) {
	of := func(status int, res *message.Response) *message.Response { res.Status = status; return res }
	sized := func(n int64, res *message.Response) *message.Response {
		res.Length, res.Body = n, io.NopCloser(strings.NewReader(strings.Repeat("x", int(max(n, 10)))))
		return res
	}
	for _, tt := range []struct {
		name string
		res  *message.Response
		want bool // it may be compressed
	}{
		{"text", answer(), true},
		{"JSON", answer(field("Content-Type", "application/json")), true},
		{"upper case", answer(field("Content-Type", "Text/HTML")), true},
		{"an error page", of(404, answer()), true},
		{"an image", answer(field("Content-Type", "image/png")), false},
		{"gRPC", answer(field("Content-Type", "application/grpc")), false},
		{"events", answer(field("Content-Type", "text/event-stream")), false},
		{"no type", answer(field("Content-Type", "")), false},
		{"compressed already", answer(field("Content-Encoding", "br")), false},
		{"no-transform", answer(field("Cache-Control", "public, No-Transform")), false},
		{"a range", of(206, answer(field("Content-Range", "bytes 0-9/100"))), false},
		{"ranges", of(206, answer()), false},
		{"a digest of the bytes", answer(field("Content-Digest", "sha-256=:AAAA:")), false},
		{"short", sized(1023, answer()), false},
		{"just long enough", sized(1024, answer()), true},
		{"of unknown length", sized(-1, answer()), true},
		{"no content", &message.Response{Status: 204}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := tt.res.Header.Clone()
			compress.New(compress.Config{}).Apply(request("GET"), tt.res)
			defer tt.res.Close()
			if got := tt.res.Header.Get("Content-Encoding") == "gzip"; got != tt.want {
				t.Errorf("%v", tt.res.Header)
			}
			if d := cmp.Diff(before, tt.res.Header); !tt.want && d != "" {
				t.Error(d)
			}
		})
	}
}

func TestFields(t *testing.T) {
	page := field("Content-Type", "text/html")
	for _, tt := range []struct {
		name   string
		req    *message.Request
		status int
		fields message.Header
		want   message.Header
	}{
		{
			"compressed", request("GET"), 200,
			message.Header{page, field("ETag", `"a"`), field("Accept-Ranges", "bytes"), field("Vary", "Origin")},
			message.Header{page, field("ETag", `W/"a"`), field("Vary", "Origin, Accept-Encoding"), field("Content-Encoding", "gzip")},
		},
		{
			"weak already", request("GET"), 200,
			message.Header{page, field("ETag", `W/"a"`), field("Vary", "accept-encoding")},
			message.Header{page, field("ETag", `W/"a"`), field("Vary", "accept-encoding"), field("Content-Encoding", "gzip")},
		},
		{
			"not wanted", &message.Request{Method: "GET"}, 200,
			message.Header{page, field("ETag", `"a"`)},
			message.Header{page, field("ETag", `"a"`), field("Vary", "Accept-Encoding")},
		},
		{
			"HEAD", request("HEAD"), 200,
			message.Header{page, field("Content-Length", "5000"), field("ETag", `"a"`)},
			message.Header{page, field("ETag", `W/"a"`), field("Vary", "Accept-Encoding"), field("Content-Encoding", "gzip")},
		},
		{
			"HEAD of a short one", request("HEAD"), 200,
			message.Header{page, field("Content-Length", "50")},
			message.Header{page, field("Content-Length", "50")},
		},
		{
			"304 of a compressed one", request("GET", field("If-None-Match", `"b", W/"a"`)), 304,
			message.Header{field("ETag", `"a"`)},
			message.Header{field("ETag", `W/"a"`), field("Vary", "Accept-Encoding")},
		},
		{
			"304 of another one", request("GET", field("If-None-Match", `"a"`)), 304,
			message.Header{field("ETag", `"a"`)},
			message.Header{field("ETag", `"a"`)},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res := answer()
			defer res.Close()
			res.Status, res.Header = tt.status, tt.fields
			if tt.req.Method == "HEAD" || tt.status == 304 {
				res.Body, res.Length = nil, 0
			}
			compress.New(compress.Config{}).Apply(tt.req, res)
			if d := cmp.Diff(tt.want, res.Header); d != "" {
				t.Error(d)
			}
		})
	}
}

var decoders = map[string]func(io.Reader) (io.Reader, error){
	"gzip": func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
	"br":   func(r io.Reader) (io.Reader, error) { return brotli.NewReader(r), nil },
	"zstd": func(r io.Reader) (io.Reader, error) {
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
		return d.IOReadCloser(), err
	},
}

// Somebody else's readers get the content back, however it comes and is read.
func TestContent(t *testing.T) {
	random := make([]byte, 300<<10)
	for i, x := 0, uint32(1); i < len(random); i++ {
		x = x*1664525 + 1013904223
		random[i] = byte(x >> 24)
	}
	for name, decode := range decoders {
		p := compress.New(compress.Config{Algorithms: []string{name}})
		for what, content := range map[string][]byte{
			"nothing": {}, "text": bytes.Repeat([]byte(text), 20_000), "noise": random, "a byte": {'x'},
		} {
			for _, length := range []int64{int64(len(content)), -1} {
				res := answer()
				res.Length = max(length, -1)
				if length >= 0 && length < 1024 {
					continue
				}
				res.Body = io.NopCloser(iotest.HalfReader(bytes.NewReader(content)))
				p.Apply(request("GET", field("Accept-Encoding", name)), res)
				encoded, err := io.ReadAll(iotest.HalfReader(res.Body))
				if err != nil {
					t.Fatal(err)
				}
				r, err := decode(bytes.NewReader(encoded))
				if err != nil {
					t.Fatal(name, what, err)
				}
				got, err := io.ReadAll(r)
				if err != nil || !bytes.Equal(got, content) {
					t.Errorf("%s of %s: %d bytes, not %d, %v", name, what, len(got), len(content), err)
				}
				if what == "text" && len(encoded) > len(content)/50 {
					t.Errorf("%s: %d of %d bytes", name, len(encoded), len(content))
				}
				res.Close()
			}
		}
		if n := p.Active(); n != 0 {
			t.Errorf("%d contents are compressed still", n)
		}
	}
}

// Content that comes in pieces goes in pieces, and its failure is one.
func TestPieces(t *testing.T) {
	broken := errors.New("broken")
	for name, decode := range decoders {
		pr, pw := io.Pipe()
		res := answer(field("Content-Type", "text/event-stream"))
		res.Length, res.Body = -1, pr
		p := compress.New(compress.Config{Algorithms: []string{name}, Types: []string{"text/event-stream"}})
		p.Apply(request("GET", field("Accept-Encoding", name)), res)
		decoded, toDecode := io.Pipe()
		copied := make(chan error, 1)
		go func() {
			_, err := io.Copy(toDecode, res.Body)
			_ = toDecode.CloseWithError(err)
			copied <- err
		}()
		sent := make(chan struct{})
		go func() { defer close(sent); _, _ = io.WriteString(pw, "data: 1\n\n") }()
		r, err := decode(decoded)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			b := make([]byte, 9)
			if _, err := io.ReadFull(r, b); err != nil || string(b) != "data: 1\n\n" {
				t.Fatalf("%s: %q, %v", name, b, err)
			}
			<-sent
			if i < 2 {
				sent = make(chan struct{})
				go func() { defer close(sent); _, _ = io.WriteString(pw, "data: 1\n\n") }()
			}
		}
		_ = pw.CloseWithError(broken)
		if err := <-copied; !errors.Is(err, broken) {
			t.Errorf("%s ended with %v", name, err)
		}
		if c, ok := r.(io.Closer); ok {
			_ = c.Close()
		}
		res.Close()
		if n := p.Active(); n != 0 {
			t.Errorf("%d contents are compressed still", n)
		}
	}
}

// Beyond the bound answers go as they are.
func TestBound(t *testing.T) {
	p := compress.New(compress.Config{})
	for i := range compress.MaxActive + 1 {
		res := answer()
		p.Apply(request("GET"), res)
		if got := res.Header.Has("Content-Encoding"); got != (i < compress.MaxActive) {
			t.Fatalf("answer %d: %v", i, res.Header)
		}
		defer res.Close()
	}
	if n := p.Active(); n != compress.MaxActive {
		t.Error(n)
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []compress.Config{
		{Algorithms: []string{"deflate"}},
		{Algorithms: []string{"gzip", "gzip"}},
		{Types: []string{"html"}},
		{Types: []string{"*/*"}},
		{Types: []string{"Text/html"}},
		{Types: []string{"text/html; charset=utf-8"}},
	} {
		if c.Validate() == nil {
			t.Errorf("%v is valid", c)
		}
	}
	if err := (compress.Config{Algorithms: []string{"gzip", "br"}, Types: []string{"text/*", "application/json"}}).Validate(); err != nil {
		t.Error(err)
	}
}
