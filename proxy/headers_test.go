package proxy_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anyedge/proxy"
)

// What a backend is told of a request, exactly.
func TestRequestHeaders(t *testing.T) {
	s := shop(backend(t, echo).URL)
	trusting := plain("trusting")
	trusting.Config.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("2001:db8:1::/48")}
	e := start(t, proxy.Setup{
		Services:  []proxy.ServiceConfig{s},
		Listeners: []proxy.Listener{plain("http"), trusting},
	})
	const own = "for=127.0.0.1;host=shop.example;proto=http"
	tests := []struct {
		name    string
		trusted bool
		send    []string
		want    map[string][]string // nil: absent
	}{
		{"nothing special", false, nil, map[string][]string{
			"X-Forwarded-For": {"127.0.0.1"}, "X-Forwarded-Proto": {"http"}, "X-Forwarded-Host": {"shop.example"},
			"Forwarded": {own}, "Via": {"1.1 edged"}, "Edge-Geo": {"fra"}, "Connection": nil,
		}},
		{"what only edges say", false, []string{
			"Edge-Geo", "sin", "edge-client", "192.0.2.1:1", "Edge_Hop", "shed", "Replay-Geo-Src", "geo=fra", "replay_geo_failed", "x", "Edgy", "kept",
		}, map[string][]string{
			"Edge-Geo": {"fra"}, "Edge-Client": nil, "Edge_hop": nil, "Replay-Geo-Src": nil, "Replay_geo_failed": nil, "Edgy": {"kept"},
		}},
		{"an untrusted client's forwarding", false, []string{
			"X-Forwarded-For", "192.0.2.1", "X-Forwarded-Proto", "https", "X-Forwarded-Host", "evil.example", "X-Forwarded-Port", "1", "Forwarded", "for=192.0.2.1",
		}, map[string][]string{
			"X-Forwarded-For": {"127.0.0.1"}, "X-Forwarded-Proto": {"http"}, "X-Forwarded-Host": {"shop.example"}, "X-Forwarded-Port": nil, "Forwarded": {own},
		}},
		{"a trusted proxy's forwarding", true, []string{
			"X-Forwarded-For", "203.0.113.9", "X-Forwarded-For", "192.0.2.1", "X-Forwarded-Proto", "https", "X-Forwarded-Host", "www.example", "Forwarded", `for="[2001:db8::1]"`,
		}, map[string][]string{
			"X-Forwarded-For": {"203.0.113.9, 192.0.2.1, 127.0.0.1"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"www.example"},
			"Forwarded": {`for="[2001:db8::1]", ` + own},
		}},
		{"hop by hop", false, []string{
			"Connection", "X-Mine, keep-alive", "X-Mine", "1", "Keep-Alive", "5", "Proxy-Connection", "close", "Proxy-Authorization", "secret", "TE", "trailers, deflate", "X-Yours", "2",
		}, map[string][]string{
			"X-Mine": nil, "Keep-Alive": nil, "Proxy-Connection": nil, "Proxy-Authorization": nil, "Te": {"trailers"}, "X-Yours": {"2"},
		}},
		{"via goes on", false, []string{"Via", "1.0 fred", "Via", "2 nancy"}, map[string][]string{"Via": {"1.0 fred, 2 nancy, 1.1 edged"}}},
		{"several lines stay", false, []string{"X-Many", "a", "X-Many", "b"}, map[string][]string{"X-Many": {"a", "b"}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			listener := "http"
			if test.trusted {
				listener = "trusting"
			}
			got := e.do(t, "GET", "http://"+e.addr(listener)+"/", nil, append([]string{"Host", "shop.example"}, test.send...)...)
			var seen echoed
			if err := json.Unmarshal([]byte(got.Body), &seen); err != nil {
				t.Fatalf("%v: %s", err, got.Body)
			}
			for name, want := range test.want {
				if diff := cmp.Diff(want, seen.Header[name]); diff != "" {
					t.Errorf("%s: %s", name, diff)
				}
			}
			if seen.Host != "shop.example" {
				t.Errorf("host %q", seen.Host)
			}
		})
	}
}

// Hosts with a port and IPv6 addresses are quoted (RFC 7239 section 6).
func TestForwardedQuoting(t *testing.T) {
	s := shop(backend(t, echo).URL)
	six := plain("six")
	six.Addresses = []netip.AddrPort{netip.MustParseAddrPort("[::1]:0")}
	e, err := try(t, proxy.Setup{Services: []proxy.ServiceConfig{s}, Listeners: []proxy.Listener{six}})
	if err != nil {
		missing(t, "IPv6 on loopback")
	}
	got := e.do(t, "GET", "http://"+e.addr("six")+"/", nil, "Host", "shop.example:8443")
	var seen echoed
	if err := json.Unmarshal([]byte(got.Body), &seen); err != nil {
		t.Fatal(err)
	}
	want := `for="[::1]";host="shop.example:8443";proto=http`
	if f := seen.Header.Get("Forwarded"); f != want {
		t.Errorf("got %s, want %s", f, want)
	}
	if f := seen.Header.Get("X-Forwarded-For"); f != "::1" {
		t.Errorf("X-Forwarded-For: %s", f)
	}
}

// The client is the rightmost address that is no trusted proxy.
func TestClientBehindTrustedProxies(t *testing.T) {
	s := shop(backend(t, says("hello")).URL)
	trusting := plain("http")
	trusting.Config.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("2001:db8:1::/48")}
	e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{s}, Listeners: []proxy.Listener{trusting}})
	tests := []struct{ forwarded, want string }{
		{"", "127.0.0.1"},
		{"192.0.2.1", "192.0.2.1"},
		{"192.0.2.1, 198.51.100.7", "198.51.100.7"},
		{"192.0.2.1, 2001:db8:1::5, 127.0.0.3", "192.0.2.1"},
		{"192.0.2.1:4711", "192.0.2.1"},
		{"[2001:db8::7]:4711, 127.0.0.2", "2001:db8::7"},
		{"192.0.2.1, nonsense, 127.0.0.2", "127.0.0.2"},
		{"::ffff:192.0.2.4", "192.0.2.4"},
		{"127.0.0.9, 127.0.0.2", "127.0.0.9"},
	}
	for i, test := range tests {
		path := fmt.Sprintf("/%d", i)
		var h []string
		if test.forwarded != "" {
			h = []string{"X-Forwarded-For", test.forwarded}
		}
		e.get(t, "http://shop.example"+path, h...)
		if got := e.logged(t, path)["client"]; got != test.want {
			t.Errorf("X-Forwarded-For: %s: the client is %v, want %s", test.forwarded, got, test.want)
		}
	}
}

// logged waits for the access log's line about a path.
func (e *edge) logged(t *testing.T, path string) map[string]any {
	t.Helper()
	var line map[string]any
	waitFor(t, "the log line of "+path, func() bool {
		for _, m := range e.log.requests() {
			if m["path"] == path {
				line = m
			}
		}
		return line != nil
	})
	return line
}

func TestResponseHeaders(t *testing.T) {
	s := shop(backend(t, func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Edge-Geo", "lie")
		h.Set("Edge-Busy", "lie")
		h.Set("Replay-Geo-Src", "lie")
		h.Set("Keep-Alive", "timeout=5")
		h.Set("X-App", "kept")
		h.Add("Via", "1.1 app")
	}).URL)
	e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{s}})
	for _, url := range []string{"http://shop.example/", "https://shop.example/", "https://shop.example:443/"} {
		got := e.get(t, url)
		altSvc := `h3=":443"; ma=86400`
		if strings.HasPrefix(url, "http:") {
			altSvc = ""
		}
		want := map[string]string{
			"Edge-Geo": "fra", "Edge-Entry": "", "Edge-Busy": "", "Replay-Geo-Src": "", "Keep-Alive": "", "X-App": "kept",
			"Via": "1.1 app, 1.1 edged", "Alt-Svc": altSvc,
		}
		for name, v := range want {
			if g := strings.Join(got.Header.Values(name), "|"); g != v {
				t.Errorf("%s: %s: got %q, want %q", url, name, g, v)
			}
		}
	}
	// Alt-Svc names the port that the client used.
	if got := e.get(t, "https://shop.example/", "Host", "shop.example:8443"); got.Header.Get("Alt-Svc") != `h3=":8443"; ma=86400` {
		t.Errorf("Alt-Svc: %q", got.Header.Get("Alt-Svc"))
	}
}
