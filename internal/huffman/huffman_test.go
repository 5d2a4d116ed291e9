package huffman_test

import (
	"bytes"
	"testing"

	"golang.org/x/net/http2/hpack"

	"anyedge/internal/huffman"
)

// Every byte alone, and all of them in a row, come back from another encoder's
// words.
func TestEveryByte(t *testing.T) {
	var all []byte
	for i := range 256 {
		all = append(all, byte(i))
	}
	words := [][]byte{nil, all}
	for i := range all {
		words = append(words, all[i:i+1], bytes.Repeat(all[i:i+1], 9))
	}
	for _, w := range words {
		got, err := huffman.Append([]byte("kept"), hpack.AppendHuffmanString(nil, string(w)))
		if err != nil || string(got) != "kept"+string(w) {
			t.Errorf("%q became %q, %v", w, got, err)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   []byte
	}{
		{"zeros as padding", []byte{0x18}},             // a, then 000
		{"eight ones", []byte{0x1f, 0xff}},             // a, then 11 ones
		{"nothing but ones", []byte{0xff}},             // 8 ones
		{"EOS", []byte{0xff, 0xff, 0xff, 0xff}},        // and 2 bits
		{"a, EOS", []byte{0x1f, 0xff, 0xff, 0xff, 12}}, // EOS ends within
		{"half a code", []byte{0xff, 0xc0}},
	} {
		if got, err := huffman.Append(nil, tt.in); err == nil {
			t.Errorf("%s: decoded to %q", tt.name, got)
		}
	}
}

func TestDecodingAllocatesNothing(t *testing.T) {
	in := hpack.AppendHuffmanString(nil, "text/html,application/xhtml+xml,application/xml;q=0.9")
	room := make([]byte, 0, huffman.MaxLen(len(in)))
	if n := testing.AllocsPerRun(100, func() { _, _ = huffman.Append(room, in) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzAppend compares with x/net's decoder.
func FuzzAppend(f *testing.F) {
	for _, s := range []string{"", "www.example.com", "\x00\xff\n", "private, max-age=60"} {
		f.Add(hpack.AppendHuffmanString(nil, s))
	}
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, in []byte) {
		want, wantErr := hpack.HuffmanDecodeToString(in)
		got, err := huffman.Append(nil, in)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%x: %v, x/net says %v", in, err, wantErr)
		}
		if err == nil && string(got) != want {
			t.Fatalf("%x: %q, x/net says %q", in, got, want)
		}
		if len(got) > huffman.MaxLen(len(in)) {
			t.Fatalf("%x: %d bytes, more than MaxLen", in, len(got))
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	in := hpack.AppendHuffmanString(nil, "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36")
	room := make([]byte, 0, huffman.MaxLen(len(in)))
	for b.Loop() {
		_, _ = huffman.Append(room, in)
	}
}
