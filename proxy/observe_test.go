package proxy_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anyedge/proxy"
)

// tell sends raw bytes to the plain listener and returns all that comes back.
func (e *edge) tell(t *testing.T, raw string) string {
	t.Helper()
	c, err := net.Dial("tcp", e.addr("http"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, raw); err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(bufio.NewReader(c)) // a reset after the answer is no failure
	return string(b)
}

// lines returns those with that message.
func (l *logLines) lines(msg string) []map[string]any {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []map[string]any
	for line := range strings.Lines(l.b.String()) {
		m := map[string]any{}
		if json.Unmarshal([]byte(line), &m) == nil && m["msg"] == msg {
			out = append(out, m)
		}
	}
	return out
}

// What an engine refuses is counted and logged, but not without end.
func TestEngineRefusalsAreToldAndBounded(t *testing.T) {
	e := start(t, proxy.Setup{})
	const many = 80
	for range many {
		if got := e.tell(t, "GET / HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 400 ") {
			t.Fatalf("answered %.60q", got)
		}
	}
	want := []proxy.RefusedCount{{proxy.RefusedRequest{Listener: "http", Protocol: "h1", Rule: "field"}, many}}
	if d := cmp.Diff(want, e.Refused()); d != "" {
		t.Error(d)
	}
	lines := e.log.lines("request not taken")
	if len(lines) < 50 || len(lines) == many {
		t.Fatalf("%d lines about %d requests", len(lines), many)
	}
	line := lines[0]
	if line["rule"] != "field" || line["status"] != 400.0 || line["listener"] != "http" || line["version"] != "h1" || !strings.HasPrefix(line["client"].(string), "127.0.0.1:") {
		t.Errorf("logged %v", line)
	}
}

// An error of the edge's own has one name in the log, the counters and the answer.
func TestErrorsOfTheEdgeHaveOneName(t *testing.T) {
	dead := backend(t, says("x"))
	slow := proxy.ServiceConfig{Name: "limited", Hosts: []string{"limited.example"}, Backends: shop(backend(t, says("x")).URL).Backends}
	slow.Limits = proxy.ServiceLimits{RPSPerIP: 0.001}
	e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{shop(dead.URL), slow}})
	dead.Close()
	e.get(t, "http://limited.example/first")
	for _, tt := range []struct {
		url     string
		status  int
		rule    proxy.Rule
		service string
		error   string
	}{
		{"http://shop.example/dead", 503, proxy.RuleNoBackend, "shop", "destination_unavailable"},
		{"http://other.example/", 404, proxy.RuleUnrouted, "", "destination_not_found"},
		{"http://limited.example/second", 429, proxy.RuleClientRate, "limited", "http_request_denied"},
		{"http://shop.example/%zz", 400, proxy.RuleRequest, "", "http_request_error"},
	} {
		t.Run(string(tt.rule), func(t *testing.T) {
			path := tt.url[strings.Index(tt.url, "example")+len("example"):]
			got := e.raw(t, tt.url)
			status, id := got.Header.Get("Proxy-Status"), got.Header.Get("Edge-Request")
			if want := fmt.Sprintf("edged; error=%s; details=%q", tt.error, tt.rule); got.Status != tt.status || status != want {
				t.Errorf("answered %d %q, want %d %q", got.Status, status, tt.status, want)
			}
			line := e.logged(t, path)
			if line["rule"] != string(tt.rule) || line["id"] != id || len(id) != 16 || line["error"] == nil {
				t.Errorf("the answer has id %q, logged is %v", id, line)
			}
			counted := proxy.RefusedCount{proxy.RefusedRequest{Listener: "http", Service: tt.service, Rule: tt.rule}, 1}
			if !slices.Contains(e.Refused(), counted) {
				t.Errorf("%+v is not among %+v", counted, e.Refused())
			}
		})
	}
	if got := e.get(t, "http://limited.example/"); got.Header.Get("Proxy-Status") == "" {
		t.Error("no Proxy-Status")
	}
}

// raw asks for a URL whose path net/url might not take.
func (e *edge) raw(t *testing.T, url string) answer {
	t.Helper()
	host, path, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
	text := e.tell(t, "GET /"+path+" HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(text)), nil)
	if err != nil {
		t.Fatalf("%v: %.60q", err, text)
	}
	defer resp.Body.Close()
	return answer{Status: resp.StatusCode, Header: resp.Header}
}

// A backend's own error is not the edge's.
func TestErrorsOfBackendsStayTheirs(t *testing.T) {
	app := backend(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{shop(app.URL)}})
	got := e.get(t, "http://shop.example/")
	if got.Status != 500 || got.Header.Get("Proxy-Status") != "" || got.Header.Get("Edge-Request") != "" {
		t.Errorf("%d %v", got.Status, got.Header)
	}
	if len(e.Refused()) > 0 {
		t.Errorf("counted %v", e.Refused())
	}
}

func TestAccessLogFields(t *testing.T) {
	app := backend(t, echo)
	always := []string{"time", "level", "msg", "id", "method", "host", "path", "status", "client", "service"}
	for _, tt := range []struct {
		name   string
		fields []string
		want   []string
	}{
		{"none", []string{}, nil},
		{"the default", nil, []string{"bytes", "bytes_in", "duration_ms", "first_byte_ms", "wait_ms", "backend_ms", "version", "geo", "entry", "backend"}},
		{"some, those without a value left out", []string{"user_agent", "listener", "replay"}, []string{"user_agent", "listener"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := start(t, proxy.Setup{
				Services: []proxy.ServiceConfig{shop(app.URL)},
				Log:      proxy.LogConfig{Access: proxy.AccessLogConfig{Fields: tt.fields}},
			})
			e.do(t, "POST", "http://shop.example/x", strings.NewReader("hello"), "User-Agent", "tester")
			line := e.logged(t, "/x")
			got := slices.DeleteFunc(slices.Sorted(maps.Keys(line)), func(s string) bool { return s == "component" })
			want := slices.Sorted(slices.Values(append(slices.Clone(always), tt.want...)))
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
			if tt.fields == nil && (line["bytes_in"] != 5.0 || line["backend_ms"].(float64) > line["duration_ms"].(float64)) {
				t.Errorf("logged %v", line)
			}
		})
	}
}

// What the handshake said is there for those who ask.
func TestAccessLogOfTLS(t *testing.T) {
	e := start(t, proxy.Setup{
		Services: []proxy.ServiceConfig{shop(backend(t, says("x")).URL)},
		Log:      proxy.LogConfig{Access: proxy.AccessLogConfig{Fields: []string{"tls_version", "tls_resumed", "server_name"}}},
	})
	e.get(t, "https://shop.example/tls")
	if line := e.logged(t, "/tls"); line["tls_version"] != "1.3" || line["tls_resumed"] != false || line["server_name"] != "shop.example" {
		t.Errorf("logged %v", line)
	}
}

func TestAccessLogFieldsThatAreNone(t *testing.T) {
	err := proxy.AccessLogConfig{Fields: []string{"bytes", "user-agent"}}.Validate()
	if err == nil || !strings.HasPrefix(err.Error(), `fields[1]: "user-agent" is no field of the access log; there are bytes, bytes_in, `) {
		t.Error(err)
	}
}

// The page that people read has every field, as it is.
func TestAccessLogFieldsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/observing.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range proxy.LogFields {
		when := ""
		switch {
		case f.Always:
			when = "always"
		case f.Default:
			when = "default"
		}
		if row := fmt.Sprintf("| `%s` | %s | %s | %s |\n", f.Name, f.Type, when, f.Meaning); !strings.Contains(string(page), row) {
			t.Errorf("docs/observing.md lacks %s", row)
		}
	}
}

// A request has one id in every geo that it comes to.
func TestRequestIDAcrossGeos(t *testing.T) {
	f := three(t, echoGeo)
	fra := f.without(t, "fra")
	fra.get(t, "http://shop.example/far")
	entry, served := fra.logged(t, "/far"), f.edges["iad"].logged(t, "/far")
	if entry["id"] != served["id"] || served["hop"] != "failover" || entry["failover"] != "iad" {
		t.Errorf("fra logged %v, iad %v", entry, served)
	}
}

// The page that people read has every rule, those of the engines too.
func TestRulesAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/observing.md")
	if err != nil {
		t.Fatal(err)
	}
	rules := regexp.MustCompile(`(?m)^\s*Rule\w+\s+(?:Rule )?= "(\w+)"`)
	for _, file := range []string{"refusals.go", "h1/refusal.go", "h2/refusal.go", "h3/refusal.go"} {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := rules.FindAllSubmatch(source, -1)
		if len(found) < 5 {
			t.Errorf("%s has %d rules", file, len(found))
		}
		for _, m := range found {
			if !strings.Contains(string(page), "`"+string(m[1])+"`") {
				t.Errorf("docs/observing.md lacks %s of %s", m[1], file)
			}
		}
	}
}
