package main_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"anyedge/internal/api"
	"anyedge/internal/lab"
	"anyedge/internal/testpeer"
)

// Two geos, two processes, one fabric. The steps build on one another.
func TestTwoGeos(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "fra", "iad")
	apps := map[string]*lab.Backend{"fra": startApp(t, "fra", "fra-a"), "iad": startApp(t, "iad", "iad-a")}
	g := &twoGeos{fleet: f, apps: apps, client: browser(t, "")}
	g.fra = startIn(t, f.write(t, "fra", appService(apps["fra"].Addr.String())))
	g.other = startIn(t, f.write(t, "iad", appService(apps["iad"].Addr.String())))
	g.waitTogether(t)
	for _, step := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"status", g.status},
		{"replay", g.replay},
		{"replay to nowhere", g.replayToNowhere},
		{"forged provenance", g.forged},
		{"local backends die", g.backendsDie},
		{"drain", g.drain},
		{"SIGKILL", g.kill},
		{"and back", g.back},
	} {
		if !t.Run(step.name, step.run) {
			return // later steps start from this one's state
		}
	}
}

type twoGeos struct {
	*fleet
	fra, other *daemon // other: iad or nrt
	apps       map[string]*lab.Backend
	client     *http.Client
}

// status speaks of the one other geo.
func (g *twoGeos) status(t *testing.T) {
	t.Helper()
	s, err := g.fra.admin.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(s.Parts, func(p api.Part) bool { return p.Name == "fabric" })
	if i < 0 || !strings.HasPrefix(s.Parts[i].Text, "1/1 geo; iad ") {
		t.Errorf("parts: %+v", s.Parts)
	}
}

// waitTogether waits until each geo knows that the other can serve and that it
// announces.
func (g *twoGeos) waitTogether(t *testing.T) {
	t.Helper()
	for d, other := range map[*daemon]string{g.fra: "iad", g.other: "fra"} {
		waitGeo(t, d, other, func(row api.Geo) bool {
			return row.State == "up" && len(row.Nodes) == 1 && row.Nodes[0].Services["app"].Healthy == 1 && row.Nodes[0].VIPs["www"] == "announced"
		})
	}
}

// waitGeo waits until what d knows of a geo satisfies ok.
func waitGeo(t *testing.T, d *daemon, name string, ok func(api.Geo) bool) {
	t.Helper()
	var last api.Geos
	defer func() {
		if t.Failed() {
			t.Logf("geos: %+v", last)
		}
	}()
	testpeer.WaitFor(t, "news of "+name, func() bool {
		var err error
		if last, err = d.admin.Geos(t.Context()); err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(last.Geos, func(row api.Geo) bool { return row.Name == name })
		return i >= 0 && ok(last.Geos[i])
	})
}

// wantServed checks that an answer came from the geo with status 200 and shows
// nothing of the protocol, and returns what the app said.
func wantServed(t *testing.T, got reply, geo string) lab.Answer {
	t.Helper()
	if got.status != 200 {
		t.Fatalf("%d: %s", got.status, got.body)
	}
	wantNoProtocol(t, got)
	a := appSaid(t, got.body)
	if a.Geo != geo || got.header.Get("Edge-Geo") != geo {
		t.Errorf("served by %s, Edge-Geo: %s, want %s", a.Geo, got.header.Get("Edge-Geo"), geo)
	}
	return a
}

// wantNoProtocol checks that the client sees no field of the replay protocol
// but the error's code, and none of those between edges.
func wantNoProtocol(t *testing.T, got reply) {
	t.Helper()
	for name := range got.header {
		if strings.HasPrefix(name, "Replay-Geo") && name != "Replay-Geo-Error" ||
			strings.HasPrefix(name, "Edge-") && name != "Edge-Geo" && name != "Edge-Entry" && name != "Edge-Request" {
			t.Errorf("the client sees %s: %q", name, got.header[name])
		}
	}
}

func (g *twoGeos) replay(t *testing.T) {
	t.Helper()
	body := randomBytes(64 << 10)
	got := mustAsk(t, g.client, "POST", g.url("fra")+"/replay/iad?x=1", body, "X-Custom", "kept")
	a := wantServed(t, got, "iad")
	if a.Method != "POST" || a.Path != "/replay/iad?x=1" || a.Body != int64(len(body)) || a.SHA256 != sumOf(body) {
		t.Errorf("iad's app got %+v", a)
	}
	if src := a.Via["Replay-Geo-Src"]; !strings.HasPrefix(src, "geo=fra, node=fra-edge1, t=") || !strings.Contains(src, "hops=(fra)") || !strings.Contains(src, "sig=:") {
		t.Errorf("Replay-Geo-Src: %s", src)
	}
	if got.header.Get("Edge-Entry") != "fra" || a.Via["Edge-Geo"] != "iad" {
		t.Errorf("Edge-Entry: %s; the app was told Edge-Geo: %s", got.header.Get("Edge-Entry"), a.Via["Edge-Geo"])
	}
}

func (g *twoGeos) replayToNowhere(t *testing.T) {
	t.Helper()
	for _, tt := range []struct{ target, code string }{
		{"atlantis", "bad-instruction"}, // no such geo
		{"NRT!", "bad-instruction"},     // malformed
		{"fra;hops=2", "loop"},          // it was there
	} {
		got := mustAsk(t, g.client, "GET", g.url("fra")+"/replay/"+tt.target, nil)
		status := map[string]int{"bad-instruction": 502, "loop": 508}[tt.code]
		if got.status != status || got.header.Get("Replay-Geo-Error") != tt.code {
			t.Errorf("to %s: %d, Replay-Geo-Error: %s, %s", tt.target, got.status, got.header.Get("Replay-Geo-Error"), got.body)
		}
		wantNoProtocol(t, got)
	}
}

func (g *twoGeos) forged(t *testing.T) {
	t.Helper()
	got := mustAsk(t, g.client, "GET", g.url("fra")+"/replay/iad", nil, "Replay-Geo-Src", "geo=fra", "Edge-Hop", "replay", "Edge-Visited", "iad")
	wantServed(t, got, "iad") // with the forged field, fra's app would have served it
}

// backendsDie takes fra's only backend away in the middle of requests: iad
// serves them at once, none fails. Then fra withdraws, and returns.
func (g *twoGeos) backendsDie(t *testing.T) {
	t.Helper()
	const requests = 100
	body := randomBytes(1000)
	for i := range requests {
		if i == requests/4 {
			down(t, g.apps["fra"])
		}
		geo := "fra"
		if i >= requests/4 {
			geo = "iad"
		}
		a := wantServed(t, mustAsk(t, g.client, "PUT", g.url("fra")+"/", body), geo)
		if a.SHA256 != sumOf(body) || a.Via["Replay-Geo-Src"] != "" {
			t.Fatalf("request %d: %+v", i, a)
		}
	}
	waitVIPState(t, g.fra, "withdrawn")
	waitGeo(t, g.other, "fra", func(row api.Geo) bool { return row.Nodes[0].VIPs["www"] == "withdrawn" })
	wantServed(t, mustAsk(t, g.client, "GET", g.url("fra")+"/", nil), "iad") // the listener stays
	up(t, g.apps["fra"])
	waitVIPState(t, g.fra, "announced")
	testpeer.WaitFor(t, "fra to serve again", func() bool {
		return appSaid(t, mustAsk(t, g.client, "GET", g.url("fra")+"/", nil).body).Geo == "fra"
	})
}

func waitVIPState(t *testing.T, d *daemon, state string) {
	t.Helper()
	testpeer.WaitFor(t, "VIP www to be "+state, func() bool { return d.routes(t).VIPs[0].State == state })
}

// drain is ordered at iad and about fra: every geo knows it, fra leaves, still
// serves what comes, and returns when the order is taken back.
func (g *twoGeos) drain(t *testing.T) {
	t.Helper()
	reply, err := g.other.admin.Drain(t.Context(), api.DrainRequest{Kind: "geo", Name: "fra", Reason: "new line cards"})
	if err != nil || !strings.Contains(reply.Text, "geo fra drains") {
		t.Fatalf("%+v, %v", reply, err)
	}
	for _, d := range []*daemon{g.fra, g.other} {
		waitGeo(t, d, "fra", func(row api.Geo) bool {
			return row.State == "draining" && row.Nodes[0].VIPs["www"] == "withdrawn"
		})
	}
	if v := g.fra.routes(t).VIPs[0]; v.Cause.Kind != "operator" || v.Cause.Reason != "new line cards" || v.Cause.Who == "" {
		t.Errorf("cause: %+v", v.Cause)
	}
	wantServed(t, mustAsk(t, g.client, "GET", g.url("fra")+"/", nil), "fra")
	if _, err := g.other.admin.Drain(t.Context(), api.DrainRequest{Kind: "geo", Name: "atlantis"}); err == nil || !strings.Contains(err.Error(), "there are fra, iad") {
		t.Errorf("draining an unknown geo: %v", err)
	}
	if _, err := g.other.admin.Drain(t.Context(), api.DrainRequest{Kind: "geo", Name: "fra", Reason: "red \x1b[31m\n"}); err == nil || !strings.Contains(err.Error(), "control characters") {
		t.Errorf("a reason that moves the cursor: %v", err)
	}
	if _, err := g.fra.admin.Undrain(t.Context(), api.DrainRequest{Kind: "geo", Name: "fra"}); err != nil {
		t.Fatal(err)
	}
	g.waitTogether(t)
}

// kill ends iad as a crash does: fra serves on, replays to iad are refused with
// a reason, and fra's geos say that iad is unseen.
func (g *twoGeos) kill(t *testing.T) {
	t.Helper()
	g.other.kill()
	// Before fra knows, a replay may be lost on the way; it is answered.
	if got := mustAsk(t, g.client, "POST", g.url("fra")+"/replay/iad", []byte("x")); got.status != 503 && got.status != 504 {
		t.Errorf("replay to a geo that has just died: %d %s", got.status, got.body)
	}
	for range 20 {
		wantServed(t, mustAsk(t, g.client, "GET", g.url("fra")+"/", nil), "fra")
	}
	waitGeo(t, g.fra, "iad", func(row api.Geo) bool { return row.State == "unseen" })
	got := mustAsk(t, g.client, "POST", g.url("fra")+"/replay/iad", []byte("x"))
	if got.status != 503 || got.header.Get("Replay-Geo-Error") != "no-candidate" || got.header.Get("Retry-After") == "" {
		t.Errorf("replay to a dead geo: %d %v %s", got.status, got.header, got.body)
	}
	wantNoProtocol(t, got)
}

// back starts iad again with the same files.
func (g *twoGeos) back(t *testing.T) {
	t.Helper()
	g.other = startIn(t, g.other.dir)
	g.waitTogether(t)
	wantServed(t, mustAsk(t, g.client, "POST", g.url("fra")+"/replay/iad", []byte("x")), "iad")
}
