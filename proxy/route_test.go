package proxy_test

import (
	"net/http"
	"strings"
	"testing"

	"anyedge/proxy"
)

func TestRouting(t *testing.T) {
	named := func(name string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte(name + " " + r.RequestURI))
		}
	}
	svc := func(name string, hosts, paths []string) proxy.ServiceConfig {
		s := shop(backend(t, named(name)).URL)
		s.Name, s.Hosts, s.Paths = name, hosts, paths
		return s
	}
	e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{
		svc("shop", []string{"shop.example"}, nil),
		svc("admin", []string{"shop.example"}, []string{"/admin"}),
		svc("deep", []string{"shop.example"}, []string{"/admin/deep/"}),
		svc("wild", []string{"*.app.example"}, []string{"/"}),
		svc("one", []string{"one.app.example"}, []string{"/only"}),
		svc("six", []string{"2001:db8::1"}, nil),
		svc("other", []string{"*"}, []string{"/any"}),
	}})
	tests := []struct {
		host, path string
		status     int
		want       string
	}{
		{"shop.example", "/", 200, "shop /"},
		{"SHOP.Example.", "/x?q=1", 200, "shop /x?q=1"},
		{"shop.example:8443", "/", 200, "shop /"},
		{"shop.example", "/admin", 200, "admin /admin"},
		{"shop.example", "/admin?x", 200, "admin /admin?x"},
		{"shop.example", "/admin/", 200, "admin /admin/"},
		{"shop.example", "/administrator", 200, "shop /administrator"},
		{"shop.example", "/admin/deep", 200, "admin /admin/deep"},
		{"shop.example", "/admin/deep/x", 200, "deep /admin/deep/x"},
		{"shop.example", "/a%2fb/%7Euser/./c", 200, "shop /a%2fb/%7Euser/./c"}, // unchanged
		{"shop.example", "/%61dmin", 400, "belongs to another service"},
		{"shop.example", "/x/../admin", 400, "belongs to another service"},
		{"shop.example", "/x/%2e%2E/admin", 400, "belongs to another service"},
		{"shop.example", "/admin/../x", 400, "belongs to another service"},
		{"shop.example", "/admin/x/../y", 200, "admin /admin/x/../y"},
		{"shop.example", "/a%zz", 400, ""},
		{"a.app.example", "/", 200, "wild /"},
		{"a.b.app.example", "/", 404, `"a.b.app.example"`},
		{"app.example", "/", 404, `"app.example"`},
		{"one.app.example", "/only", 200, "one /only"},
		{"one.app.example", "/else", 200, "wild /else"},
		{"nobody.example", "/any/x", 200, "other /any/x"},
		{"nobody.example", "/x", 404, `no service of the host "nobody.example" has this path`},
		{"[2001:db8::1]", "/", 200, "six /"},
		{"[2001:db8:0::1]:443", "/", 200, "six /"},
		{"user@shop.example", "/", 400, ""},
		{"shop..example", "/", 400, "empty label"},
		{"sh~op.example", "/", 400, "character"},
		{"shop.example:99999", "/", 400, "port"},
		{"[::1", "/", 400, ""},
	}
	for _, test := range tests {
		t.Run(test.host+test.path, func(t *testing.T) {
			got := raw(t, e, "GET", test.path, test.host)
			if got.Status != test.status || !strings.Contains(got.Body, test.want) {
				t.Errorf("got %d %q, want %d %q", got.Status, got.Body, test.status, test.want)
			}
		})
	}
}

func TestRefusedMethods(t *testing.T) {
	e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{shop(backend(t, says("hello")).URL)}})
	tests := []struct {
		method, target string
		status         int
	}{
		{"TRACE", "/", 405},
		{"CONNECT", "shop.example:443", 501},
		{"GET", "*", 400},
		{"GET", "http://shop.example/", 200},
		{"QUERY", "/", 200},
	}
	for _, test := range tests {
		t.Run(test.method+" "+test.target, func(t *testing.T) {
			got := raw(t, e, test.method, test.target, "shop.example")
			if got.Status != test.status {
				t.Errorf("got %d %q, want %d", got.Status, got.Body, test.status)
			}
			if test.status == 405 && got.Header.Get("Allow") == "" {
				t.Error("no Allow field")
			}
		})
	}
}

func TestServicesAreBoundToListeners(t *testing.T) {
	s := shop(backend(t, says("hello")).URL)
	s.Listeners = []string{"https"}
	e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{s}})
	if got := e.get(t, "http://shop.example/"); got.Status != 404 {
		t.Errorf("http: got %d, want 404", got.Status)
	}
	if got := e.get(t, "https://shop.example/"); got.Status != 200 {
		t.Errorf("https: got %d, want 200", got.Status)
	}
}

func TestBadSetup(t *testing.T) {
	a, b := shop("http://127.0.0.1:1"), shop("http://127.0.0.1:2")
	b.Name = "copy"
	bad := shop("ftp://127.0.0.1:1")
	bad.Name = "bad"
	h3only := plain("noisy")
	h3only.Config.Protocols = []string{"h3"}
	sample := 2.0
	_, err := try(t, proxy.Setup{
		Services:  []proxy.ServiceConfig{a, b, bad},
		Listeners: []proxy.Listener{plain("http"), h3only},
		Log:       proxy.LogConfig{Access: proxy.AccessLogConfig{Sample: &sample, AlwaysOnStatus: []string{"6yy"}}},
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"services shop and copy both claim shop.example/", "service bad: ", "listener noisy: h3 needs tls",
		"log.access.sample", `"6yy" is no status`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing from:\n%v", want, err)
		}
	}
}
