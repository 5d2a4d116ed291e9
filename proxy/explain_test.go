package proxy_test

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"anyedge/internal/message"
	"anyedge/internal/steering"
	"anyedge/proxy"
)

// explained is an explanation in lines.
func explained(t *testing.T, e *edge, q proxy.Question) (proxy.Explanation, string) {
	t.Helper()
	x, err := e.Explain(q)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, s := range x.Steps {
		b.WriteString(s.Name + ": " + s.Text + "\n")
	}
	return x, b.String()
}

// What is explained is what happens.
func TestExplainIsWhatHappens(t *testing.T) {
	f := three(t, echoGeo)
	limited := shop(backend(t, echoGeo).URL)
	limited.Name, limited.Hosts = "limited", []string{"limited.example"}
	limited.Limits = proxy.ServiceLimits{RPSPerIP: 0.001}
	dead := shop("http://127.0.0.1:1")
	dead.Name, dead.Hosts = "dead", []string{"dead.example"}
	fra := f.start(t, "fra", proxy.Setup{Services: []proxy.ServiceConfig{shop(backend(t, echoGeo).URL), limited, dead}})
	f.plan("fra", steering.ShedPlan{})
	for _, tt := range []struct {
		name, method, url string
		status            int
		rule              proxy.Rule
		geo               string
		step              string
	}{
		{"served here", "GET", "http://shop.example/a?b", 0, "", "fra", "backends: p2c: shop-a (weight 1, 0 under way)"},
		{"no service", "GET", "http://other.example/", 404, proxy.RuleUnrouted, "", `route: no service here has the host "other.example"`},
		{"no such method", "TRACE", "http://shop.example/", 405, proxy.RuleRequest, "", "request: TRACE is not allowed here"},
		{"no such path", "GET", "http://shop.example/%zz", 400, proxy.RuleRequest, "", "route: "},
		{"served elsewhere", "GET", "http://dead.example/", 0, "", "iad", "failover: the nearest geo that can serve it: iad, then nrt"},
		{"once allowed", "GET", "http://limited.example/", 0, "", "fra", "limits: 127.0.0.1 is within 0.001 requests/s"},
		{"then not", "GET", "http://limited.example/", 429, proxy.RuleClientRate, "", "limits: 127.0.0.1 is over 0.001 requests/s"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q := proxy.Question{Method: tt.method, URL: tt.url}
			x, steps := explained(t, fra, q)
			if x.Status != tt.status || x.Rule != tt.rule || x.Geo != tt.geo || !strings.Contains(steps, tt.step) {
				t.Errorf("explained %+v\n%s", x, steps)
			}
			if tt.name == "served elsewhere" {
				return // the other geos of this test do not have it
			}
			if again, _ := explained(t, fra, q); again.Status != tt.status {
				t.Errorf("asking changed it: %+v", again)
			}
			host, path, _ := strings.Cut(strings.TrimPrefix(tt.url, "http://"), "/")
			got := fra.tell(t, tt.method+" /"+path+" HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
			status, rule := 200, ""
			if tt.status != 0 {
				status, rule = tt.status, string(tt.rule)
			}
			if !strings.HasPrefix(got, "HTTP/1.1 "+strconv.Itoa(status)+" ") || rule != "" && !strings.Contains(got, `details="`+rule+`"`) {
				t.Errorf("what happened is %.300q", got)
			}
		})
	}
	if n := fra.service("shop").Active; n != 0 {
		t.Errorf("%d requests are under way", n)
	}
}

// Questions of what would be if something were not there.
func TestExplainWhatIf(t *testing.T) {
	f := three(t, echoGeo)
	one, two := backend(t, echoGeo), backend(t, echoGeo)
	fra := f.start(t, "fra", proxy.Setup{Services: []proxy.ServiceConfig{shop(one.URL, two.URL)}})
	f.plan("fra", steering.ShedPlan{})
	const url = "http://shop.example/"
	for _, tt := range []struct {
		name     string
		q        proxy.Question
		backends string
		geo      string
		rule     proxy.Rule
	}{
		{"nothing", proxy.Question{}, "shop-a shop-b", "fra", ""},
		{"a backend", proxy.Question{BackendsDown: []string{"shop-a"}}, "shop-b", "fra", ""},
		{"all backends", proxy.Question{BackendsDown: []string{"shop-a", "shop-b"}}, "", "iad", ""},
		{"and the next geo", proxy.Question{BackendsDown: []string{"shop-a", "shop-b"}, GeosDown: []string{"iad"}}, "", "nrt", ""},
		{"and all", proxy.Question{BackendsDown: []string{"shop-a", "shop-b"}, GeosDown: []string{"iad", "nrt"}}, "", "", proxy.RuleNoBackend},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.q.URL = url
			x, steps := explained(t, fra, tt.q)
			if strings.Join(x.Backends, " ") != tt.backends || x.Geo != tt.geo || x.Rule != tt.rule {
				t.Errorf("%+v\n%s", x, steps)
			}
		})
	}
	f.plan("fra", steering.ShedPlan{Offered: 100, Routes: []steering.Route{{Geo: "iad", Rate: 100}}, Shedding: true})
	if x, steps := explained(t, fra, proxy.Question{URL: url}); x.Geo != "iad" || !strings.Contains(steps, "door: shed to iad") {
		t.Errorf("overloaded: %+v\n%s", x, steps)
	}
	if x, steps := explained(t, fra, proxy.Question{URL: url, GeosDown: []string{"iad"}}); x.Geo != "fra" {
		t.Errorf("overloaded, without iad: %+v\n%s", x, steps)
	}
	var h message.Header
	h.Add("Upgrade", "websocket")
	if x, steps := explained(t, fra, proxy.Question{URL: url, Header: h, Client: netip.MustParseAddr("192.0.2.7")}); x.Geo != "fra" {
		t.Errorf("an upgrade: %+v\n%s", x, steps)
	}
}

func TestQuestionsThatAreNone(t *testing.T) {
	e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{shop("http://127.0.0.1:1")}})
	for _, q := range []proxy.Question{
		{},
		{URL: "shop.example"},
		{URL: "ftp://shop.example/"},
		{URL: "http:///x"},
		{URL: "http://shop.example/", Listener: "none"},
		{URL: "http://shop.example/", BackendsDown: []string{"shop-z"}},
		{URL: "http://shop.example/", GeosDown: []string{"fra"}},
		{URL: "http://shop.example/", GeosDown: []string{"atlantis"}},
	} {
		if x, err := e.Explain(q); err == nil {
			t.Errorf("%+v: %+v", q, x)
		}
	}
}
