package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"anyedge/internal/steering"
	"anyedge/proxy"
)

// traced waits for the trace of a request that is kept, by its path.
func (e *edge) traced(t *testing.T, path string) *proxy.Trace {
	t.Helper()
	var found *proxy.Trace
	waitFor(t, "the trace of "+path, func() bool {
		for _, one := range e.Traces(proxy.TraceFilter{Path: path}) {
			found = one
		}
		return found != nil
	})
	return found
}

// steps are a trace's in one line.
func stepsOf(one *proxy.Trace) string {
	var b strings.Builder
	for _, s := range one.Steps {
		b.WriteString(s.Text + "\n")
	}
	return b.String()
}

// What a request met is told with the same words by its trace and the log.
func TestTracesTellWhatTheLogTells(t *testing.T) {
	f := three(t, echoGeo)
	fra := f.without(t, "fra")
	fra.get(t, "http://shop.example/moved")
	line, one := fra.logged(t, "/moved"), fra.traced(t, "/moved")
	if one.ID != line["id"] || one.Moved != "failover" || one.Geo != line["failover"] || one.Status != 200 || one.Service != "shop" {
		t.Errorf("traced %+v, logged %v", one, line)
	}
	if steps := stepsOf(one); !strings.Contains(steps, "failover to iad") || !strings.Contains(steps, "asked geo iad") {
		t.Errorf("steps:\n%s", steps)
	}
	there := f.edges["iad"].traced(t, "/moved")
	if there.ID != one.ID || there.Hop != "failover" || there.Entry != "fra" || there.Backend == "" || there.Listener != proxy.FromFabric {
		t.Errorf("iad traced %+v", there)
	}
	for _, geo := range []string{"iad", "nrt"} {
		f.without(t, geo)
	}
	got := fra.get(t, "http://shop.example/nobody")
	line, one = fra.logged(t, "/nobody"), fra.traced(t, "/nobody")
	if got.Header.Get("Edge-Request") != one.ID || one.Rule != proxy.RuleNoBackend || string(one.Rule) != line["rule"] || one.Error != line["error"] {
		t.Errorf("answered %v, traced %+v, logged %v", got.Header, one, line)
	}
}

func TestTracesOfWhatWentWellAreNotKept(t *testing.T) {
	e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{shop(backend(t, echo).URL)}})
	e.get(t, "http://shop.example/fine")
	e.logged(t, "/fine")
	if all := e.Traces(proxy.TraceFilter{}); len(all) != 0 {
		t.Errorf("kept %+v", all[0])
	}
}

func TestWatch(t *testing.T) {
	e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{shop(backend(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/bad") {
			w.WriteHeader(500)
		}
	}).URL)}})
	for _, tt := range []struct {
		name   string
		filter proxy.TraceFilter
		want   string // paths of those shown
	}{
		{"all", proxy.TraceFilter{}, "/a /bad /b /nowhere"},
		{"a class", proxy.TraceFilter{Status: 5}, "/bad"},
		{"a status", proxy.TraceFilter{Status: 404}, "/nowhere"},
		{"a service", proxy.TraceFilter{Service: "shop"}, "/a /bad /b"},
		{"a rule", proxy.TraceFilter{Rule: proxy.RuleUnrouted}, "/nowhere"},
		{"a path", proxy.TraceFilter{Path: "/b"}, "/bad /b"},
		{"a client", proxy.TraceFilter{Client: netip.MustParsePrefix("127.0.0.0/8")}, "/a /bad /b /nowhere"},
		{"another client", proxy.TraceFilter{Client: netip.MustParsePrefix("192.0.2.0/24")}, ""},
		{"slow ones", proxy.TraceFilter{Slow: time.Hour}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, err := e.Watch(tt.filter)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			all, err := e.Watch(proxy.TraceFilter{}) // shown to after w
			if err != nil {
				t.Fatal(err)
			}
			defer all.Close()
			for _, url := range []string{"http://shop.example/a", "http://shop.example/bad", "http://shop.example/b", "http://other.example/nowhere"} {
				e.get(t, url)
				<-all.C
			}
			var got []string
			for len(w.C) > 0 {
				got = append(got, (<-w.C).Path)
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("shown %q, want %q", s, tt.want)
			}
		})
	}
}

// Who does not take what is shown misses it, and holds nobody up.
func TestSlowWatchMissesSome(t *testing.T) {
	e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{shop(backend(t, echo).URL)}})
	w, err := e.Watch(proxy.TraceFilter{})
	if err != nil {
		t.Fatal(err)
	}
	const many = 300
	c := e.client(t)
	for range many {
		resp, err := c.Get("http://shop.example/")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	waitFor(t, "all to be counted", func() bool { return len(e.log.requests()) == many })
	waitFor(t, "what was missed", func() bool { return len(w.C) == 256 })
	var dropped uint64
	waitFor(t, "how much it was", func() bool { dropped += w.Dropped(); return dropped == many-256 })
	w.Close()
}

func TestWatchesAreBounded(t *testing.T) {
	e := start(t, proxy.Setup{})
	var all []*proxy.Watch
	for range 8 {
		w, err := e.Watch(proxy.TraceFilter{})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, w)
	}
	if _, err := e.Watch(proxy.TraceFilter{}); err == nil {
		t.Error("a ninth may watch")
	}
	for _, w := range all {
		w.Close()
	}
	w, err := e.Watch(proxy.TraceFilter{})
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
}

func TestServerTiming(t *testing.T) {
	app := backend(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Server-Timing", "db;dur=1") })
	quiet, open := shop(app.URL), shop(app.URL)
	quiet.Name, quiet.Hosts = "quiet", []string{"quiet.example"}
	open.ServerTiming = true
	e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{quiet, open}})
	if got := e.get(t, "http://quiet.example/").Header.Values("Server-Timing"); len(got) != 1 || got[0] != "db;dur=1" {
		t.Errorf("where it is off: %q", got)
	}
	got := e.get(t, "http://shop.example/").Header.Values("Server-Timing")
	var backend, own float64
	if len(got) != 2 || got[0] != "db;dur=1" {
		t.Fatalf("told %q", got)
	}
	if n, err := fmt.Sscanf(got[1], "backend;dur=%f, edge;dur=%f", &backend, &own); n != 2 || backend <= 0 {
		t.Errorf("told %q: %v", got[1], err)
	}

	f := three(t, echoGeo)
	away := shop("http://127.0.0.1:1")
	away.ServerTiming = true
	fra := f.start(t, "fra", proxy.Setup{Services: []proxy.ServiceConfig{away}})
	f.plan("fra", steering.ShedPlan{})
	told := fra.get(t, "http://shop.example/").Header.Get("Server-Timing")
	if n, err := fmt.Sscanf(told, `geo;desc="iad";dur=%f, edge;dur=%f`, &backend, &own); n != 2 {
		t.Errorf("told %q: %v", told, err)
	}
}
