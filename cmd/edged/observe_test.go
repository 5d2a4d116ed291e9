package main_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"

	"anyedge/internal/api"
	"anyedge/internal/lab"
	"anyedge/internal/testpeer"
)

// What goes wrong is told by the answer, the log, the trace, the metrics and, where
// it can be foreseen, by explain: with the same words.
func TestFailuresAreFoundAndExplained(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "fra", "iad")
	apps := map[string]*lab.Backend{"fra": startApp(t, "fra", "fra-a"), "iad": startApp(t, "iad", "iad-a")}
	services := func(geo string) string {
		return appService(apps[geo].Addr.String()) +
			fmt.Sprintf("  - {name: slow, hosts: [\"*\"], paths: [/slow], timeouts: {response_header: 300ms}, backends: [{name: slow-a, url: \"http://%s\"}]}\n", silent(t))
	}
	g := &twoGeos{fleet: f, apps: apps, client: browser(t, "")}
	g.fra = startIn(t, f.write(t, "fra", services("fra")))
	g.other = startIn(t, f.write(t, "iad", services("iad")))
	g.waitTogether(t)

	for _, tt := range []struct {
		name   string
		before func()
		path   string
		status int
		rule   string
		moved  string // and to iad
		metric []string
		step   string // of the trace
	}{
		{"a slow backend", func() {}, "/slow", 504, "timeout", "", []string{"edged_refused_requests_total", "http", "", "timeout", "slow"}, "backend slow-a gave no answer"},
		{"no path", func() {}, "/%zz", 400, "request", "", []string{"edged_refused_requests_total", "http", "", "request", ""}, ""},
		{"a replay", func() {}, "/replay/iad", 200, "", "replay", []string{"edged_service_elsewhere_requests_total", "app", "replay"}, "fra asks for a replay: iad"},
		{"a replay to nowhere", func() {}, "/replay/atlantis", 502, "replay", "", []string{"edged_refused_requests_total", "http", "", "replay", "app"}, "bad-instruction"},
		{"a dead backend", func() { down(t, apps["fra"]) }, "/dead", 200, "", "failover", []string{"edged_service_elsewhere_requests_total", "app", "failover"}, "failover to iad"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.before()
			answer := rawGet(t, f, tt.path)
			if !strings.HasPrefix(answer, fmt.Sprintf("HTTP/1.1 %d ", tt.status)) {
				t.Fatalf("answered %.200q", answer)
			}
			line := g.fra.logged(t, tt.path)
			id, _ := line["id"].(string)
			if rule, _ := line["rule"].(string); rule != tt.rule || len(id) != 16 {
				t.Errorf("logged %v", line)
			}
			if tt.rule != "" && (!strings.Contains(answer, `details="`+tt.rule+`"`) || !strings.Contains(answer, "Edge-Request: "+id)) {
				t.Errorf("answered %.400q", answer)
			}
			if tt.moved != "" && line[tt.moved] != "iad" {
				t.Errorf("logged %v", line)
			}
			if tt.status >= 500 || tt.moved != "" {
				g.wantTrace(t, id, tt.rule, tt.moved, tt.step)
			}
			c := g.fra.metrics(t)
			if got := c.value(t, tt.metric[0], tt.metric[1:]...); got != 1 {
				t.Errorf("%v is %v", tt.metric, got)
			}
		})
	}
	x, err := g.fra.admin.Explain(t.Context(), url.Values{"url": {f.url("fra") + "/dead"}, "listener": {"http"}})
	if err != nil || x.Geo != "iad" || x.Status != 0 {
		t.Errorf("explained %+v %v", x, err)
	}
	x, err = g.fra.admin.Explain(t.Context(), url.Values{"url": {f.url("fra") + "/%zz"}, "listener": {"http"}})
	if err != nil || x.Rule != "request" || x.Status != 400 {
		t.Errorf("explained %+v %v", x, err)
	}
}

// wantTrace checks what is kept of a request, in the other geo too when that served
// it.
func (g *twoGeos) wantTrace(t *testing.T, id, rule, moved, step string) {
	t.Helper()
	one := g.fra.trace(t, id)
	text := ""
	for _, s := range one.Steps {
		text += s.Text + "\n"
	}
	if one.Rule != rule || one.Moved != moved || !strings.Contains(text, step) {
		t.Errorf("traced %+v", one)
	}
	if moved != "" {
		if there := g.other.trace(t, id); there.Hop != moved || there.Entry != "fra" || there.Backend == "" {
			t.Errorf("iad traced %+v", there)
		}
	}
}

// trace waits for the trace of a request.
func (d *daemon) trace(t *testing.T, id string) api.Trace {
	t.Helper()
	var one api.Trace
	testpeer.WaitFor(t, "the trace of "+id, func() bool {
		all, err := d.admin.Traces(t.Context(), url.Values{"id": {id}})
		if err != nil {
			t.Fatal(err)
		}
		if len(all.Traces) > 0 {
			one = all.Traces[0]
		}
		return len(all.Traces) > 0
	})
	return one
}

// logged waits for a request's line in the access log.
func (d *daemon) logged(t *testing.T, path string) map[string]any {
	t.Helper()
	var found map[string]any
	testpeer.WaitFor(t, "the log line of "+path, func() bool {
		for line := range strings.Lines(d.log.String()) {
			m := map[string]any{}
			if json.Unmarshal([]byte(line), &m) == nil && m["msg"] == "request" && m["path"] == path {
				found = m
			}
		}
		return found != nil
	})
	return found
}

// rawGet asks fra for a path as it is.
func rawGet(t *testing.T, f *fleet, path string) string {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(f.url("fra"), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: www.example.net\r\nConnection: close\r\n\r\n", path)
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// silent listens, and never says anything.
func silent(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", backendIP+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(io.Discard, c)
			}()
		}
	}()
	return l.Addr().String()
}
