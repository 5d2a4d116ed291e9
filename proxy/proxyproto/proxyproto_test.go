package proxyproto_test

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"

	"anyedge/proxy/proxyproto"
)

const sig = "\r\n\r\n\x00\r\nQUIT\n"

func header(src, dst string) proxyproto.Header {
	return proxyproto.Header{Source: netip.MustParseAddrPort(src), Destination: netip.MustParseAddrPort(dst)}
}

var (
	four = header("192.0.2.1:1000", "203.0.113.9:443")
	six  = header("[2001:db8::1]:1000", "[2001:db8::9]:443")
	// The same addresses in binary.
	bin4 = "\xc0\x00\x02\x01\xcb\x00\x71\x09\x03\xe8\x01\xbb"
	bin6 = "\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x01" + "\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x09" + "\x03\xe8\x01\xbb"
)

func TestRead(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     proxyproto.Header
	}{
		{"v1 TCP4", "PROXY TCP4 192.0.2.1 203.0.113.9 1000 443\r\n", four},
		{"v1 TCP6", "PROXY TCP6 2001:db8::1 2001:db8::9 1000 443\r\n", six},
		{"v1 longest TCP6", "PROXY TCP6 ffff:f000:ffff:ffff:ffff:ffff:ffff:ffff ffff:f000:ffff:ffff:ffff:ffff:ffff:fff0 65535 65535\r\n", header("[ffff:f000:ffff:ffff:ffff:ffff:ffff:ffff]:65535", "[ffff:f000:ffff:ffff:ffff:ffff:ffff:fff0]:65535")},
		{"v1 unknown", "PROXY UNKNOWN\r\n", proxyproto.Header{}},
		{"v1 unknown with more", "PROXY UNKNOWN 1 2 3 4 anything\r\n", proxyproto.Header{}},
		{"v2 TCP4", sig + "\x21\x11\x00\x0c" + bin4, four},
		{"v2 TCP6", sig + "\x21\x21\x00\x24" + bin6, six},
		{"v2 values", sig + "\x21\x11\x00\x16" + bin4 + "\x01\x00\x02h2" + "\x04\x00\x02\x00\x00", four},
		{"v2 local", sig + "\x20\x00\x00\x00", proxyproto.Header{}},
		{"v2 local with addresses", sig + "\x20\x11\x00\x0c" + bin4, proxyproto.Header{}},
		{"v2 unspecified", sig + "\x21\x00\x00\x03abc", proxyproto.Header{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			const rest = "GET / HTTP/1.1\r\n"
			r := strings.NewReader(tt.in + rest)
			got, err := proxyproto.Read(r)
			if err != nil || got != tt.want {
				t.Fatalf("Read() = %v, %v, want %v", got, err, tt.want)
			}
			if left, _ := io.ReadAll(r); string(left) != rest {
				t.Errorf("left %q, want %q", left, rest)
			}
		})
	}
}

func TestReadRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		none     bool // no header at all
	}{
		{"HTTP", "GET / HTTP/1.1\r\n\r\n", true},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abcdef", true},
		{"lower case", "proxy TCP4 192.0.2.1 203.0.113.9 1000 443\r\n", true},
		{"v1 bare LF", "PROXY TCP4 192.0.2.1 203.0.113.9 1000 443\n" + strings.Repeat("x", 99), false},
		{"v1 no end", "PROXY TCP4 " + strings.Repeat("1", 200), false},
		{"v1 two spaces", "PROXY TCP4  192.0.2.1 203.0.113.9 1000 443\r\n", false},
		{"v1 more", "PROXY TCP4 192.0.2.1 203.0.113.9 1000 443 1\r\n", false},
		{"v1 less", "PROXY TCP4 192.0.2.1 203.0.113.9 1000\r\n", false},
		{"v1 protocol", "PROXY UDP4 192.0.2.1 203.0.113.9 1000 443\r\n", false},
		{"v1 family", "PROXY TCP4 2001:db8::1 2001:db8::9 1000 443\r\n", false},
		{"v1 families", "PROXY TCP6 2001:db8::1 203.0.113.9 1000 443\r\n", false},
		{"v1 zone", "PROXY TCP6 fe80::1%eth0 2001:db8::9 1000 443\r\n", false},
		{"v1 octal", "PROXY TCP4 192.0.2.01 203.0.113.9 1000 443\r\n", false},
		{"v1 port of zeros", "PROXY TCP4 192.0.2.1 203.0.113.9 01000 443\r\n", false},
		{"v1 port with sign", "PROXY TCP4 192.0.2.1 203.0.113.9 +1000 443\r\n", false},
		{"v1 port", "PROXY TCP4 192.0.2.1 203.0.113.9 65536 443\r\n", false},
		{"v1 unknown's beginning", "PROXY UNKNOWNS 1 1\r\n", false},
		{"v2 version", sig + "\x11\x11\x00\x0c" + bin4, false},
		{"v2 command", sig + "\x22\x11\x00\x0c" + bin4, false},
		{"v2 UDP", sig + "\x21\x12\x00\x0c" + bin4, false},
		{"v2 unix", sig + "\x21\x31\x00\xd8" + strings.Repeat("x", 216), false},
		{"v2 short", sig + "\x21\x11\x00\x0b" + bin4, false},
		{"v2 TCP6 short", sig + "\x21\x21\x00\x0c" + bin4, false},
		{"v2 long", sig + "\x21\x11\x10\x01" + bin4 + strings.Repeat("\x00", 5000), false},
		{"v2 value ends", sig + "\x21\x11\x00\x10" + bin4 + "\x01\x00\x02h", false},
		{"v2 value without length", sig + "\x21\x11\x00\x0e" + bin4 + "\x01\x00", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := proxyproto.Read(strings.NewReader(tt.in))
			if err == nil {
				t.Fatalf("Read() = %v, want an error", got)
			}
			if errors.Is(err, proxyproto.ErrNoHeader) != tt.none {
				t.Errorf("Read() = %v; no header at all: want %v", err, tt.none)
			}
		})
	}
}

// A header that breaks off is the connection's end, at every byte.
func TestReadEnds(t *testing.T) {
	for _, v := range []proxyproto.Version{proxyproto.V1, proxyproto.V2} {
		whole := proxyproto.Append(nil, v, six)
		for n := range whole {
			if _, err := proxyproto.Read(bytes.NewReader(whole[:n])); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("%s cut at %d: %v", v, n, err)
			}
		}
	}
}

func TestAppend(t *testing.T) {
	for _, tt := range []struct {
		name string
		v    proxyproto.Version
		in   proxyproto.Header
		want string
	}{
		{"v1", proxyproto.V1, four, "PROXY TCP4 192.0.2.1 203.0.113.9 1000 443\r\n"},
		{"v1 IPv6", proxyproto.V1, six, "PROXY TCP6 2001:db8::1 2001:db8::9 1000 443\r\n"},
		{"v1 mapped", proxyproto.V1, header("[::ffff:192.0.2.1]:1000", "203.0.113.9:443"), "PROXY TCP4 192.0.2.1 203.0.113.9 1000 443\r\n"},
		{"v1 zone", proxyproto.V1, header("[fe80::1%eth0]:1", "[fe80::2%eth0]:2"), "PROXY TCP6 fe80::1 fe80::2 1 2\r\n"},
		{"v1 two families", proxyproto.V1, header("192.0.2.1:1", "[2001:db8::1]:1"), "PROXY TCP4 192.0.2.1 0.0.0.0 1 0\r\n"},
		{"v1 destination unknown", proxyproto.V1, proxyproto.Header{Source: six.Source}, "PROXY TCP6 2001:db8::1 :: 1000 0\r\n"},
		{"v1 unknown", proxyproto.V1, proxyproto.Header{}, "PROXY UNKNOWN\r\n"},
		{"v2", proxyproto.V2, four, sig + "\x21\x11\x00\x0c" + bin4},
		{"v2 IPv6", proxyproto.V2, six, sig + "\x21\x21\x00\x24" + bin6},
		{"v2 local", proxyproto.V2, proxyproto.Header{}, sig + "\x20\x00\x00\x00"},
	} {
		if got := string(proxyproto.Append(nil, tt.v, tt.in)); got != tt.want {
			t.Errorf("%s: Append() = %q, want %q", tt.name, got, tt.want)
		}
	}
}

// What is read can be written, and reads the same again.
func FuzzRead(f *testing.F) {
	for _, v := range []proxyproto.Version{proxyproto.V1, proxyproto.V2} {
		for _, h := range []proxyproto.Header{four, six, {}} {
			f.Add(proxyproto.Append(nil, v, h))
		}
	}
	f.Add([]byte(sig + "\x21\x11\x00\x16" + bin4 + "\x01\x00\x02h2" + "\x04\x00\x02\x00\x00"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		h, err := proxyproto.Read(r)
		if err != nil {
			if h != (proxyproto.Header{}) {
				t.Fatalf("%v with %v", h, err)
			}
			return
		}
		if used := len(in) - r.Len(); used > 16+4096 {
			t.Fatalf("took %d bytes", used)
		}
		if h.Source.IsValid() != h.Destination.IsValid() || h.Source.Addr().BitLen() != h.Destination.Addr().BitLen() {
			t.Fatalf("read %v", h)
		}
		if h.Source.Addr().Is4In6() || h.Destination.Addr().Is4In6() {
			return // written as the IPv4 addresses that they are
		}
		for _, v := range []proxyproto.Version{proxyproto.V1, proxyproto.V2} {
			again, err := proxyproto.Read(bytes.NewReader(proxyproto.Append(nil, v, h)))
			if err != nil || again != h {
				t.Fatalf("%s: %v, %v, want %v", v, again, err, h)
			}
		}
	})
}
