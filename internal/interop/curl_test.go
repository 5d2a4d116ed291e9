package interop_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"anyedge/internal/interop"
)

// curlWays are the ways that Debian's curl can ask in.
func curlWays() []struct {
	name, base string
	args       []string
} {
	secure, plain := "https://"+edge.TLS.String(), "http://"+edge.Plain.String()
	return []struct {
		name, base string
		args       []string
	}{
		{"h1", plain, []string{"--http1.1"}},
		{"h1 TLS", secure, []string{"--http1.1"}},
		{"h2 TLS", secure, []string{"--http2"}},
		{"h2c with prior knowledge", "http://" + edge.H2C.String(), []string{"--http2-prior-knowledge"}},
	}
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func TestCurl(t *testing.T) {
	dir := t.TempDir()
	small, large := filepath.Join(dir, "small"), filepath.Join(dir, "large")
	for path, n := range map[string]int{small: 3_000, large: 4 << 20} {
		if err := os.WriteFile(path, interop.Content(n), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name  string
		args  []string
		path  string
		input string // standard input
		check func(t *testing.T, out string)
	}{
		{"a get", nil, "/bytes/1000", "", wantContent(1000)},
		{"a large answer", nil, "/bytes/8000000", "", wantContent(8_000_000)},
		{"an answer without a length", nil, "/chunked/3000000", "", wantContent(3_000_000)},
		{"an empty answer", nil, "/bytes/0", "", wantContent(0)},
		{"head", []string{"--head"}, "/bytes/5000", "", wantText("content-length: 5000")},
		{"a range", []string{"--range", "1000-1999"}, "/bytes/5000", "", func(t *testing.T, out string) {
			t.Helper()
			if out != string(interop.Content(5000)[1000:2000]) {
				t.Errorf("got %d bytes, or wrong ones", len(out))
			}
		}},
		{"a range from the end", []string{"--range", "-7", "--include"}, "/bytes/5000", "", wantText("206", "content-range: bytes 4993-4999/5000")},
		{"a range that is not there", []string{"--range", "9000-9001", "--include"}, "/bytes/5000", "", wantText("416", "content-range: bytes */5000")},
		{"an upload with a length", []string{"--data-binary", "@" + small}, "/sum", "", wantReceipt(3000)},
		{"an upload that asks first", []string{"--data-binary", "@" + large, "-H", "Expect: 100-continue"}, "/sum", "", wantReceipt(4 << 20)},
		{"an upload without a length", []string{"-T", "-"}, "/sum", string(interop.Content(1 << 20)), wantReceipt(1 << 20)},
		{"an upload in parts", []string{"-F", "f=@" + small, "-F", "g=value"}, "/sum", "", wantText(`"method":"POST"`, "multipart/form-data")},
		{"an echo", []string{"--data-binary", "@" + large}, "/echo", "", wantContent(4 << 20)},
		{"an answer while the upload goes on", []string{"--data-binary", "@" + large, "-o", os.DevNull, "-w", "%{http_code}"}, "/early", "", wantText("403")},
		{"compressed", []string{"--compressed"}, "/gzip/100000", "", wantContent(100_000)},
		{"early hints", []string{"--include"}, "/hints", "", wantText("103", "rel=preload", `"method":"GET"`)},
		{"events", []string{"--no-buffer"}, "/events/5", "", wantText("data: event 0", "data: event 4")},
		{"a method of its own", []string{"-X", "PURGE"}, "/sum", "", wantText(`"method":"PURGE"`)},
		{"options with an asterisk", []string{"-X", "OPTIONS", "--request-target", "*", "-o", os.DevNull, "-w", "%{http_code}"}, "/", "", wantText("20")},
		{"many fields", []string{"-H", "X-Long: " + strings.Repeat("v", 20_000), "-H", "X-Empty;"}, "/sum", "", wantText(strings.Repeat("v", 20_000), `"X-Empty":[""]`)},
	}
	for i, way := range curlWays() {
		for _, prefix := range []string{"", "/h2c"}[:1+i%2] { // every second to the HTTP/2 backend, too
			for _, test := range tests {
				if test.path == "/early" && strings.HasPrefix(way.name, "h2") {
					continue // curl 7.88 loses an answer that comes together with RST_STREAM NO_ERROR (RFC 9113 section 8.1), net/http's as well
				}
				t.Run(way.name+" "+prefix+" "+test.name, func(t *testing.T) {
					args := append([]string{"-sS", "--cacert", edge.CA, "--max-time", "50"}, way.args...)
					args = append(args, test.args...)
					test.check(t, program(t, test.input, "curl", append(args, way.base+prefix+test.path)...))
				})
			}
		}
	}
}

func wantContent(n int) func(*testing.T, string) {
	return func(t *testing.T, out string) {
		t.Helper()
		if len(out) != n || sum([]byte(out)) != sum(interop.Content(n)) {
			t.Errorf("got %d bytes, or wrong ones, not %d", len(out), n)
		}
	}
}

func wantText(parts ...string) func(*testing.T, string) {
	return func(t *testing.T, out string) {
		t.Helper()
		for _, part := range parts {
			if !strings.Contains(strings.ToLower(out), strings.ToLower(part)) {
				t.Errorf("no %.100q in\n%.2000s", part, out)
			}
		}
	}
}

func wantReceipt(n int) func(*testing.T, string) {
	return func(t *testing.T, out string) {
		t.Helper()
		var got interop.Receipt
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			t.Fatalf("%v in %.500s", err, out)
		}
		if got.Bytes != int64(n) || got.SHA256 != sum(interop.Content(n)) {
			t.Errorf("the application got %d bytes, or wrong ones, not %d", got.Bytes, n)
		}
	}
}

// HTTP/1.0 has neither chunks nor kept connections.
func TestCurlHTTP10(t *testing.T) {
	base := "http://" + edge.Plain.String()
	out := program(t, "", "curl", "-sS", "--http1.0", "--include", base+"/chunked/100000")
	head, content, _ := strings.Cut(out, "\r\n\r\n")
	if content != string(interop.Content(100_000)) || strings.Contains(strings.ToLower(head), "transfer-encoding") {
		t.Errorf("%d bytes behind\n%s", len(content), head)
	}
}

// One connection carries several requests, one after another.
func TestCurlKeepsConnection(t *testing.T) {
	for _, way := range curlWays()[:3] { // with prior knowledge curl 7.88 breaks its second request itself, to any server
		t.Run(way.name, func(t *testing.T) {
			args := append([]string{"-sS", "--cacert", edge.CA, "-w", "%{num_connects}\n", "-o", os.DevNull, "-o", os.DevNull, "-o", os.DevNull}, way.args...)
			args = append(args, way.base+"/bytes/100", way.base+"/chunked/100", way.base+"/h2c/bytes/100")
			if out := program(t, "", "curl", args...); out != "1\n0\n0\n" {
				t.Errorf("connections opened for each request: %q", out)
			}
		})
	}
}
