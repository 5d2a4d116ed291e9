package qpack_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	theirs "github.com/quic-go/qpack"
	"pgregory.net/rapid"

	"anyedge/proxy/h3/qpack"
)

// decode returns the lines of a section, "name: value" each.
func decode(tb testing.TB, b []byte, maxSize int) ([]string, error) {
	tb.Helper()
	var s qpack.Section
	if err := s.Decode(b, maxSize); err != nil {
		return nil, err
	}
	text := string(s.Text())
	var lines []string
	for i := range s.Len() {
		name, value := s.Line(i, text)
		lines = append(lines, name+": "+value)
	}
	return lines, nil
}

// peer decodes with quic-go's decoder.
func peer(b []byte) ([]string, error) {
	next := theirs.NewDecoder().Decode(bytes.Clone(b))
	var lines []string
	for {
		f, err := next()
		if errors.Is(err, io.EOF) {
			return lines, nil
		}
		if err != nil {
			return nil, err
		}
		lines = append(lines, f.Name+": "+f.Value)
	}
}

func TestDecode(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   string
		want []string // nil: refused
	}{
		{"nothing", "\x00\x00", []string{}},
		{"indexed", "\x00\x00\xd1", []string{":method: GET"}},
		{"the last entry", "\x00\x00\xff\x23", []string{"x-frame-options: sameorigin"}},
		{"behind the last entry", "\x00\x00\xff\x24", nil},
		{"name reference", "\x00\x00\x50\x03a.b", []string{":authority: a.b"}},
		{"name reference, never indexed", "\x00\x00\x70\x03a.b", []string{":authority: a.b"}},
		{"name reference, Huffman", "\x00\x00\x51\x89\x62\x17\xd8\x5d\xa2\xc9\x2a\x62\xff", nil}, // padding of a byte
		{"literal", "\x00\x00\x23x-a\x011", []string{"x-a: 1"}},
		{"literal, never indexed", "\x00\x00\x33x-a\x00", []string{"x-a: "}},
		{"an empty name", "\x00\x00\x20\x011", []string{": 1"}},
		{"a base that is not 0", "\x00\x05\xd1", []string{":method: GET"}},
		{"a negative base", "\x00\x80\xd1", nil},
		{"insertions are required", "\x02\x00\xd1", nil},
		{"indexed, dynamic", "\x00\x00\x80", nil},
		{"indexed behind the base", "\x00\x00\x10", nil},
		{"name reference, dynamic", "\x00\x00\x40\x011", nil},
		{"name reference behind the base", "\x00\x00\x00\x011", nil},
		{"empty", "", nil},
		{"half a prefix", "\x00", nil},
		{"a name that ends early", "\x00\x00\x23x-", nil},
		{"no value", "\x00\x00\x23x-a", nil},
		{"a value that ends early", "\x00\x00\x23x-a\x02a", nil},
		{"an integer that ends early", "\x00\x00\xff", nil},
		{"an endless integer", "\x00\x00\xff" + strings.Repeat("\xff", 20) + "\x00", nil},
	} {
		got, err := decode(t, []byte(tt.in), 1<<20)
		if tt.want == nil && err == nil {
			t.Errorf("%s: decoded to %q", tt.name, got)
		}
		if tt.want != nil && (err != nil || !cmp.Equal(append([]string{}, got...), tt.want)) {
			t.Errorf("%s: %q, %v", tt.name, got, err)
		}
	}
}

func TestBounds(t *testing.T) {
	b := qpack.Begin(nil)
	for i := range 10 {
		b = qpack.Append(b, fmt.Sprintf("x-%d", i), "value")
	}
	size := 10 * (32 + 3 + 5)
	for _, tt := range []struct {
		size int
		fits bool
	}{{size, true}, {size - 1, false}} {
		if _, err := decode(t, b, tt.size); (err == nil) != tt.fits || err != nil && !errors.Is(err, qpack.ErrTooLarge) {
			t.Errorf("%d bytes: %v", tt.size, err)
		}
	}
}

// What is encoded here is what another decoder reads, and this one.
func TestEncode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := qpack.Begin(nil)
		var want []string
		known := []string{":path", "Content-Type", "content-type", "Vary", "X-Frame-Options", "accept-encoding", "cookie"}
		values := []string{"/", "application/json", "text/plain", "accept-encoding", "deny", "gzip, deflate, br", ""}
		for range rapid.IntRange(0, 20).Draw(t, "lines") {
			name := rapid.OneOf(rapid.SampledFrom(known), rapid.StringMatching(`[A-Za-z0-9-]{1,200}`)).Draw(t, "name")
			value := rapid.OneOf(rapid.SampledFrom(values), rapid.StringMatching(`[ -~]{0,300}`)).Draw(t, "value")
			b = qpack.Append(b, name, value)
			want = append(want, strings.ToLower(name)+": "+value)
		}
		if got, err := peer(b); err != nil || !cmp.Equal(got, want) {
			t.Fatalf("another decoder reads %q, %v; want %q", got, err, want)
		}
	})
	for status := 100; status < 1000; status++ {
		got, err := peer(qpack.AppendStatus(qpack.Begin(nil), status))
		if err != nil || len(got) != 1 || got[0] != fmt.Sprint(":status: ", status) {
			t.Errorf("%d: %q, %v", status, got, err)
		}
	}
}

// FuzzDecode compares with quic-go's decoder.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{"\x00\x00\xd1\xc1\xd7\x50\x03a.b", "\x00\x00\x23x-a\x83\x1d\x75\x7f", "\x02\x00\x80"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1 && b[1] != 0 {
			return // theirs takes no base but 0
		}
		got, err := decode(t, b, 1<<30)
		want, wantErr := peer(b)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%x: %v, quic-go says %v", b, err, wantErr)
		}
		if err == nil && !cmp.Equal(got, want) {
			t.Fatalf("%x: %q, quic-go says %q", b, got, want)
		}
	})
}
