package hpack_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	xhpack "golang.org/x/net/http2/hpack"

	"anyedge/internal/hpack"
	"anyedge/internal/message"
)

// A list takes fields as text.
type list []string

func (l *list) Field(name, value string) { *l = append(*l, name+": "+value) }

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The examples of RFC 7541 appendix C.
func TestExamples(t *testing.T) {
	requests := [][]string{
		{":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"},
		{":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com", "cache-control: no-cache"},
		{":method: GET", ":scheme: https", ":path: /index.html", ":authority: www.example.com", "custom-key: custom-value"},
	}
	answers := [][]string{
		{":status: 302", "cache-control: private", "date: Mon, 21 Oct 2013 20:13:21 GMT", "location: https://www.example.com"},
		{":status: 307", "cache-control: private", "date: Mon, 21 Oct 2013 20:13:21 GMT", "location: https://www.example.com"},
		{
			":status: 200", "cache-control: private", "date: Mon, 21 Oct 2013 20:13:22 GMT", "location: https://www.example.com",
			"content-encoding: gzip", "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
		},
	}
	for _, tt := range []struct {
		name     string
		size     string // of the table, set first; "": none
		sections []string
		want     [][]string
	}{
		{"C.2.1", "", []string{"400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572"}, [][]string{{"custom-key: custom-header"}}},
		{"C.2.2", "", []string{"040c 2f73 616d 706c 652f 7061 7468"}, [][]string{{":path: /sample/path"}}},
		{"C.2.3", "", []string{"1008 7061 7373 776f 7264 0673 6563 7265 74"}, [][]string{{"password: secret"}}},
		{"C.2.4", "", []string{"82"}, [][]string{{":method: GET"}}},
		{"C.3", "", []string{
			"8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
			"8286 84be 5808 6e6f 2d63 6163 6865",
			"8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
		}, requests},
		{"C.4", "", []string{
			"8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
			"8286 84be 5886 a8eb 1064 9cbf",
			"8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
		}, requests},
		{"C.5", "3fe1 01", []string{
			"4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
			"4803 3330 37c1 c0bf",
			"88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
		}, answers},
		{"C.6", "3fe1 01", []string{
			"4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
			"4883 640e ffc1 c0bf",
			"88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
		}, answers},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := hpack.NewDecoder()
			a := message.NewArena()
			defer a.End()
			for i, section := range tt.sections {
				b := unhex(t, section)
				if i == 0 {
					b = append(unhex(t, tt.size), b...)
				}
				var got list
				if err := d.Decode(b, a, &got); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.want[i], []string(got)); diff != "" {
					t.Fatal(diff)
				}
			}
		})
	}
}

func TestBrokenSections(t *testing.T) {
	for _, tt := range []struct{ name, section string }{
		{"index 0", "80"},
		{"index behind the tables", "be"},
		{"name's index behind the tables", "7f00 0161"},
		{"an integer without its end", "ffff"},
		{"an integer over 63 bits", "ffff ffff ffff ffff ffff ff7f"},
		{"a name cut short", "400a 6375"},
		{"no value", "400161"},
		{"a value cut short", "4001 6105 61"},
		{"a length of 2^62", "4001 617f ffff ffff ffff ffff ff3f"},
		{"size behind a field", "8220"},
		{"size over the limit", "3fe2 1f"},
		{"padding of 8 bits", "0401 61 0081 ff"},
		{"padding of zeros", "0481 18"},
		{"EOS in a string", "0484 ffff ffff"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got list
			if err := hpack.NewDecoder().Decode(unhex(t, tt.section), nil, &got); err == nil {
				t.Fatalf("taken as %q", got)
			}
		})
	}
}

// What a table gave stays what it was when the entry has gone, and the arena too.
func TestTableOwnsItsStrings(t *testing.T) {
	d := hpack.NewDecoder()
	section := []byte("\x40\x01a\x01b\x41\x01c")
	a := message.NewArena()
	var got list
	if err := d.Decode(section, a, &got); err != nil {
		t.Fatal(err)
	}
	a.End()
	clear(section)
	var fields pair
	if err := d.Decode([]byte("\xbf"), nil, &fields); err != nil {
		t.Fatal(err)
	}
	if err := d.Decode([]byte("\x20"), nil, &fields); err != nil { // an empty table
		t.Fatal(err)
	}
	if fields != (pair{"a", "b"}) {
		t.Fatal(fields)
	}
	if err := d.Decode([]byte("\xbe"), nil, &fields); err == nil {
		t.Fatal("the entry is still there")
	}
}

type pair [2]string

func (p *pair) Field(name, value string) { *p = pair{name, value} }

// Somebody else's decoder reads what an encoder writes, through every change of the
// table's size.
func TestEncoder(t *testing.T) {
	var got list
	theirs := xhpack.NewDecoder(4096, func(f xhpack.HeaderField) { got.Field(f.Name, f.Value) })
	e := hpack.NewEncoder()
	sizes := []int{}
	for i := range 400 {
		switch i {
		case 100:
			e.Resize(0)
		case 200:
			e.Resize(128)
			e.Resize(64)
			e.Resize(2048)
		case 300:
			e.Resize(1 << 20)
		}
		want := list{
			":status: 200", "content-type: text/html; charset=utf-8", "edge-geo: fra", "set-cookie: id=1",
			fmt.Sprint("content-length: ", i), fmt.Sprint("x-turn: ", i/3%7), "x-empty: ", "via: 1.1 edged",
		}
		b := e.Begin(nil)
		for _, f := range want {
			name, value, _ := strings.Cut(f, ": ")
			if i%2 == 0 { // in any case
				name = strings.ToUpper(name)
			}
			b = e.Append(b, name, value)
		}
		got = nil
		if _, err := theirs.Write(b); err != nil {
			t.Fatal(i, err)
		}
		if err := theirs.Close(); err != nil {
			t.Fatal(i, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatal(i, d)
		}
		sizes = append(sizes, len(b))
	}
	// An answer like the ones before costs a byte per field that is the same, unless
	// one of them was forgotten: what was seen once shares places by a random sum.
	if n := slices.Min(sizes[90:100]); n > 6+len("\x0f\x0d\x02")+2+len("\x1f\x28\x04")+len("id=1") {
		t.Errorf("%d bytes", n)
	}
}

// A value that is kept out of the tables of those behind is never put into one.
func TestSecrets(t *testing.T) {
	e := hpack.NewEncoder()
	for range 3 {
		for _, name := range []string{"set-cookie", "authorization", "cookie", "proxy-authorization"} {
			b := e.Append(nil, name, "x")
			var never bool
			d := xhpack.NewDecoder(4096, func(f xhpack.HeaderField) { never = f.Sensitive })
			if _, err := d.Write(b); err != nil || !never {
				t.Fatal(name, err)
			}
		}
	}
}

// Sections that resemble each other cost no memory, in either direction.
func TestAllocatesNothing(t *testing.T) {
	e, d := hpack.NewEncoder(), hpack.NewDecoder()
	b := make([]byte, 0, 1024)
	paths := []string{"/one", "/two", "/three"}
	var got pair
	turn := 0
	once := func() {
		a := message.NewArena()
		defer a.End()
		turn++
		b = e.Begin(b[:0])
		for _, f := range []pair{{":Status", "200"}, {"Content-Type", "text/plain"}, {"X-Path", paths[turn%3]}, {"Etag", `"1"`}} {
			b = e.Append(b, f[0], f[1])
		}
		b = append(b, "\x04\x03/no"...)
		if err := d.Decode(b, a, &got); err != nil {
			t.Fatal(err)
		}
	}
	for range 10 {
		once()
	}
	if n := testing.AllocsPerRun(100, once); n != 0 && !raceEnabled {
		t.Fatalf("%v allocations", n)
	}
}

// Both decoders read the same, or fail; only a table that is resized twice is read
// here alone, and behind a field there alone.
func FuzzDecoder(f *testing.F) {
	for _, seed := range []string{"\x82\x86\x84A\x8c\xf1\xe3\xc2\xe5\xf2:k\xa0\xab\x90\xf4\xff", "@\x01a\x01b\xbe\x3f\xe1\x01", "\x20\x3f\xe1\x1f\x82", "\x00\x01a\x81\xff\x10\x01a\x00"} {
		f.Add([]byte(seed), []byte(seed))
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		var got, want list
		theirs := xhpack.NewDecoder(4096, func(x xhpack.HeaderField) { want.Field(x.Name, x.Value) })
		ours := hpack.NewDecoder()
		a := message.NewArena()
		defer a.End()
		for _, section := range [][]byte{first, second} {
			err := ours.Decode(bytes.Clone(section), a, &got)
			_, other := theirs.Write(section)
			if other == nil {
				other = theirs.Close()
			}
			if err != nil || other != nil {
				if (err == nil) != (other == nil) && !strings.Contains(fmt.Sprint(err, other), "size") {
					t.Fatalf("%x: %v, x/net: %v", section, err, other)
				}
				return
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Fatal(d)
			}
		}
	})
}

// What is encoded is read again as it was.
func FuzzEncoder(f *testing.F) {
	f.Add("content-type", "text/html", "X-A", "b", 100)
	f.Add("a", "", ":status", "200", 0)
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2 string, size int) {
		var got list
		theirs := xhpack.NewDecoder(4096, func(x xhpack.HeaderField) { got.Field(x.Name, x.Value) })
		e := hpack.NewEncoder()
		for range 3 {
			got = nil
			b := e.Begin(nil)
			for range 2 {
				b = e.Append(e.Append(b, name1, value1), name2, value2)
			}
			if _, err := theirs.Write(b); err != nil {
				t.Fatal(err)
			}
			if err := theirs.Close(); err != nil {
				t.Fatal(err)
			}
			one, two := lower(name1)+": "+value1, lower(name2)+": "+value2
			if d := cmp.Diff(list{one, two, one, two}, got); d != "" {
				t.Fatal(d)
			}
			e.Resize(max(size, 0) % 5000)
		}
	})
}

// lower is strings.ToLower for ASCII letters alone.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

func BenchmarkDecode(b *testing.B) {
	var block bytes.Buffer
	x := xhpack.NewEncoder(&block)
	for _, f := range []xhpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: "shop.example"}, {Name: ":path", Value: "/some/path?with=query", Sensitive: true}, {Name: "user-agent", Value: "h2load nghttp2/1.52.0", Sensitive: true}} {
		_ = x.WriteField(f)
	}
	first := block.Bytes()
	d := hpack.NewDecoder()
	var got pair
	b.ReportAllocs()
	for b.Loop() {
		a := message.NewArena()
		if err := d.Decode(first, a, &got); err != nil {
			b.Fatal(err)
		}
		a.End()
	}
}

func BenchmarkEncode(b *testing.B) {
	e := hpack.NewEncoder()
	out := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		out = e.Begin(out[:0])
		for _, f := range []pair{{":status", "200"}, {"Content-Type", "application/octet-stream"}, {"Via", "1.1 edged"}, {"Edge-Geo", "fra"}, {"date", "Mon, 21 Oct 2013 20:13:21 GMT"}, {"content-length", "1024"}} {
			out = e.Append(out, f[0], f[1])
		}
	}
}
