package proxy_test

import (
	"net/netip"
	"strings"
	"testing"

	"anyedge/internal/message"
	"anyedge/proxy"
)

// RFC 3986 sections 5.2.4 and 6.2.2.
func TestNormalise(t *testing.T) {
	tests := []struct{ path, want string }{
		{"/", "/"},
		{"/a/b", "/a/b"},
		{"/%7euser", "/~user"},
		{"/a%2fb", "/a%2Fb"},
		{"/%41%2d%2E%5f", "/A-._"},
		{"/a/./b", "/a/b"},
		{"/a/../b", "/b"},
		{"/../../b", "/b"},
		{"/a/b/..", "/a/"},
		{"/a/b/.", "/a/b/"},
		{"/a/%2e%2e/b", "/b"},
		{"/a//../b", "/a/b"},
		{"/.hidden/..x/...", "/.hidden/..x/..."},
		{"/a/b/c/./../../g", "/a/g"},
		{"//a", "//a"},
	}
	for _, test := range tests {
		if got, err := proxy.Normalise(test.path); got != test.want || err != nil {
			t.Errorf("%s: got %s, %v, want %s", test.path, got, err, test.want)
		}
	}
	for _, bad := range []string{"", "a", "*", "/%", "/%4", "/%4g"} {
		if got, err := proxy.Normalise(bad); err == nil {
			t.Errorf("%q: got %q", bad, got)
		}
	}
}

// A normal form is its own normal form and has no dot segments.
func FuzzNormalise(f *testing.F) {
	f.Add("/a/%2e%2E/b%2f.")
	f.Fuzz(func(t *testing.T, path string) {
		once, err := proxy.Normalise(path)
		if err != nil {
			return
		}
		twice, err := proxy.Normalise(once)
		if err != nil || twice != once {
			t.Errorf("%q → %q → %q, %v", path, once, twice, err)
		}
		for s := range strings.SplitSeq(once, "/") {
			if s == "." || s == ".." {
				t.Errorf("%q → %q", path, once)
			}
		}
	})
}

func FuzzParseAuthority(f *testing.F) {
	for _, s := range []string{"shop.example:8443", "[2001:db8::1]:1", "a@b", "shop.example.", "[::1%eth0]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		host, port, err := proxy.ParseAuthority(s)
		if err != nil {
			return
		}
		if host == "" || strings.ContainsAny(host+port, " \t\r\n/?#@[]%\x00") || host != strings.ToLower(host) {
			t.Errorf("%q → %q %q", s, host, port)
		}
	})
}

func FuzzClientOf(f *testing.F) {
	f.Add("192.0.2.1, 127.0.0.2")
	f.Add("[2001:db8::1]:80,, x")
	trusted := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	f.Fuzz(func(t *testing.T, s string) {
		h := message.Header{{Name: "X-Forwarded-For", Value: s}}
		stranger := netip.MustParseAddr("198.51.100.1")
		if got := proxy.ClientOf(stranger, h, trusted); got != stranger {
			t.Errorf("%q makes an untrusted client %s", s, got)
		}
		if got := proxy.ClientOf(netip.MustParseAddr("127.0.0.1"), h, trusted); !got.IsValid() {
			t.Errorf("%q gives no client", s)
		}
	})
}

func FuzzParseInbound(f *testing.F) {
	f.Add("shed", "fra", "192.0.2.1:1", "https", "h2", "1;urgent")
	f.Add("replay", "fra, iad", "[2001:db8::1]:1", "http", "h1", "")
	f.Fuzz(func(t *testing.T, hop, visited, client, proto, version, want string) {
		h := message.Header{
			{Name: "Edge-Hop", Value: hop},
			{Name: "Edge-Visited", Value: visited},
			{Name: "Edge-Client", Value: client},
			{Name: "Edge-Proto", Value: proto},
			{Name: "Edge-Version", Value: version},
			{Name: "Edge-Want", Value: want},
		}
		geos, addr, rate, err := proxy.ParseInbound(h, "fra")
		if err == nil && (geos[0] != "fra" || !addr.IsValid() || !(rate >= 0 && rate < 1e12)) {
			t.Errorf("accepted %v: %v %v %v", h, geos, addr, rate)
		}
	})
}
