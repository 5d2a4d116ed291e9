package proxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"anyedge/internal/message"
	"anyedge/internal/steering"
	"anyedge/proxy"
)

// echoGeo answers with the geo that the backend runs in, and what it was sent.
func echoGeo(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	_, _ = io.WriteString(w, r.Header.Get("Edge-Geo")+" "+string(b))
}

// three starts fra, iad and nrt with one backend each.
func three(t *testing.T, h http.HandlerFunc) *fleet {
	t.Helper()
	f := newFleet("fra", "iad", "nrt")
	for _, geo := range f.order {
		f.start(t, geo, proxy.Setup{Services: []proxy.ServiceConfig{shop(backend(t, h).URL)}})
	}
	for _, geo := range f.order {
		f.plan(geo, steering.ShedPlan{})
	}
	return f
}

// without starts a geo whose only backend is not there.
func (f *fleet) without(t *testing.T, geo string) *edge {
	t.Helper()
	e := f.start(t, geo, proxy.Setup{Services: []proxy.ServiceConfig{shop("http://127.0.0.1:1")}})
	f.plan(geo, steering.ShedPlan{})
	return e
}

// An app elsewhere that closes without an answer may have executed the request:
// a GET is asked for once more, a POST is not, and the client sees no field of
// ours.
func TestAppElsewhereGivesNoAnswer(t *testing.T) {
	f := newFleet("fra", "iad", "nrt")
	f.start(t, "fra", proxy.Setup{Services: []proxy.ServiceConfig{shop("http://127.0.0.1:1")}})
	f.start(t, "iad", proxy.Setup{Services: []proxy.ServiceConfig{shop(backend(t, func(http.ResponseWriter, *http.Request) {
		panic(http.ErrAbortHandler)
	}).URL)}})
	f.start(t, "nrt", proxy.Setup{Services: []proxy.ServiceConfig{shop(backend(t, echoGeo).URL)}})
	for _, geo := range f.order {
		f.plan(geo, steering.ShedPlan{})
	}
	for method, want := range map[string]int{"GET": 200, "POST": 502} {
		got := f.edges["fra"].do(t, method, "http://shop.example/", strings.NewReader("x"))
		if got.Status != want || got.Header.Get("Edge-Failed") != "" {
			t.Errorf("%s: %d, Edge-Failed %q, want %d", method, got.Status, got.Header.Get("Edge-Failed"), want)
		}
	}
}

// A request that no local backend takes is served by the nearest geo that
// does, with its content.
func TestFailover(t *testing.T) {
	f := three(t, echoGeo)
	fra := f.without(t, "fra")
	for _, method := range []string{"POST", "PUT"} { // not idempotent is as good: nothing was sent
		got := fra.do(t, method, "http://shop.example/", strings.NewReader("content"))
		if got.Status != 200 || got.Body != "iad content" {
			t.Fatalf("got %d %q", got.Status, got.Body)
		}
		if g, e := got.Header.Get("Edge-Geo"), got.Header.Get("Edge-Entry"); g != "iad" || e != "fra" {
			t.Errorf("Edge-Geo %q, Edge-Entry %q", g, e)
		}
		for name := range got.Header {
			if strings.HasPrefix(name, "Edge-") && name != "Edge-Geo" && name != "Edge-Entry" {
				t.Errorf("the client sees %s", name)
			}
		}
	}

	f.without(t, "iad")
	if got := fra.get(t, "http://shop.example/next"); got.Body != "nrt " {
		t.Errorf("with iad busy: got %d %q", got.Status, got.Body)
	}
	line := fra.logged(t, "/next")
	if line["failover"] != "nrt" || line["geo"] != "nrt" || line["entry"] != "fra" || !strings.Contains(line["why"].(string), "busy: no-backend") {
		t.Errorf("logged %v", line)
	}

	f.mu.Lock()
	f.cut["nrt"] = true
	f.mu.Unlock()
	got := fra.get(t, "http://shop.example/")
	if got.Status != 503 || got.Header.Get("Retry-After") == "" || got.Header.Get("Edge-Geo") != "fra" {
		t.Errorf("with nobody left: got %d %v", got.Status, got.Header)
	}
	want := []string{
		"failover fra>iad", "failover fra>iad", "failover fra>iad", "failover fra>nrt", "failover fra>iad", "failover fra>nrt",
	}
	if diff := cmp.Diff(want, f.taken()); diff != "" {
		t.Error(diff)
	}
}

// What the next geo's backend is told is what it would be told at home, but
// for where it runs.
func TestFailoverKeepsTheRequest(t *testing.T) {
	f := three(t, func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Edge-Geo")
		r.Header.Del("X-Request-Id")
		echo(w, r)
	})
	fra := f.edges["fra"]
	ask := func() string {
		got := fra.do(t, "POST", "https://shop.example/a%2Fb//c?q=%20", strings.NewReader("x"),
			"X-Mine", "1", "Edge-Hop", "shed", "X-Forwarded-For", "192.0.2.1", "Te", "trailers")
		return got.Body
	}
	home := ask()
	f.without(t, "fra")
	fra = f.edges["fra"]
	if diff := cmp.Diff(home, ask()); diff != "" || len(f.taken()) == 0 {
		t.Errorf("hops %v: %s", f.taken(), diff)
	}
}

// A backend that sends garbage: 502. One that may have executed the request:
// an idempotent one is tried once elsewhere, others are not.
func TestMaybeExecuted(t *testing.T) {
	garbage := tcpServer(t, func(c net.Conn) {
		_, _ = bufio.NewReader(c).ReadString('\n')
		_, _ = io.WriteString(c, "\x00\x01garbage\r\n\r\n")
	})
	s := shop("http://" + garbage)
	s.Health.HTTP = nil
	alone := start(t, proxy.Setup{Services: []proxy.ServiceConfig{s}})
	for _, method := range []string{"GET", "POST"} {
		if got := alone.do(t, method, "http://shop.example/", nil); got.Status != 502 {
			t.Errorf("%s: got %d, want 502", method, got.Status)
		}
	}

	hangup := tcpServer(t, func(c net.Conn) {
		_, _ = bufio.NewReader(c).ReadString('\n')
	})
	s = shop("http://" + hangup)
	s.Health.HTTP = nil
	f := three(t, echoGeo)
	fra := f.start(t, "fra", proxy.Setup{Services: []proxy.ServiceConfig{s}})
	f.plan("fra", steering.ShedPlan{})
	if got := fra.get(t, "http://shop.example/"); got.Body != "iad " {
		t.Errorf("GET: got %d %q", got.Status, got.Body)
	}
	if got := fra.do(t, "POST", "http://shop.example/", strings.NewReader("pay")); got.Status != 502 {
		t.Errorf("POST: got %d %q", got.Status, got.Body)
	}
	if diff := cmp.Diff([]string{"failover fra>iad"}, f.taken()); diff != "" {
		t.Error(diff)
	}
}

// tcpServer serves connections with f, then closes them; it returns its
// address.
func tcpServer(t *testing.T, f func(net.Conn)) string {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(patience))
			f(c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

func TestResponseHeaderTimeout(t *testing.T) {
	release := make(chan struct{})
	s := shop(backend(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}).URL)
	t.Cleanup(func() { close(release) })
	limit := 100 * time.Millisecond
	s.Timeouts.ResponseHeader = &limit
	e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{s}})
	if got := e.get(t, "http://shop.example/"); got.Status != 504 {
		t.Errorf("got %d %q, want 504", got.Status, got.Body)
	}
}

// all sheds everything there is to one or more geos.
func all(geos ...string) steering.ShedPlan {
	p := steering.ShedPlan{Shedding: true, Offered: 1000, Need: 1000}
	for _, g := range geos {
		p.Routes = append(p.Routes, steering.Route{Geo: g, Rate: 1000 / float64(len(geos)), Want: 12.5})
	}
	return p
}

func takes(budget float64) steering.ShedPlan {
	return steering.ShedPlan{Budget: budget, BudgetUrgent: budget}
}

func TestShed(t *testing.T) {
	f := three(t, echoGeo)
	fra := f.edges["fra"]
	f.plan("fra", all("iad"))
	f.plan("iad", takes(100))
	got := fra.do(t, "POST", "http://shop.example/shed", strings.NewReader("content"))
	if got.Body != "iad content" || got.Header.Get("Edge-Geo") != "iad" || got.Header.Get("Edge-Entry") != "fra" {
		t.Errorf("got %d %q %v", got.Status, got.Body, got.Header)
	}
	if line := fra.logged(t, "/shed"); line["shed"] != "iad" {
		t.Errorf("logged %v", line)
	}
	if line := f.edges["iad"].logged(t, "/shed"); line["hop"] != "shed" || line["entry"] != "fra" || line["client"] != "127.0.0.1" {
		t.Errorf("logged there: %v", line)
	}
	m := f.edges["iad"].Door().Measure(time.Now())
	if m.Offered != 0 || m.Executed != 1 || m.Foreign != 1 || m.Peers["fra/fra-edge1"].Want != 12.5 {
		t.Errorf("iad measured %+v", m)
	}
	m = fra.Door().Measure(time.Now())
	if m.Offered != 1 || m.Executed != 0 || m.Peers["iad"].Relayed != 1 || m.Peers["iad"].Grant != 50 || m.Peers["iad"].Busy != 0 {
		t.Errorf("fra measured %+v", m)
	}
}

// A busy geo is passed over once, then the request is served at home; it is
// never shed on.
func TestShedBusy(t *testing.T) {
	f := three(t, echoGeo)
	fra := f.edges["fra"]
	f.plan("iad", all("nrt")) // over its target itself: no budget
	f.plan("nrt", takes(100))
	fra.Door().SetPlan(&steering.Plan{At: time.Now(), Shed: steering.ShedPlan{
		Shedding: true, Offered: 1, Routes: []steering.Route{{Geo: "iad", Rate: 1}, {Geo: "nrt", Rate: 1}},
	}})
	if got := fra.do(t, "POST", "http://shop.example/", strings.NewReader("content")); got.Body != "nrt content" {
		t.Errorf("got %d %q", got.Status, got.Body)
	}
	f.plan("nrt", takes(0))
	if got := fra.do(t, "POST", "http://shop.example/home", strings.NewReader("content")); got.Body != "fra content" {
		t.Errorf("got %d %q", got.Status, got.Body)
	}
	if why, _ := fra.logged(t, "/home")["why"].(string); !strings.Contains(why, "busy: no-budget") {
		t.Errorf("why: %q", why)
	}
	want := []string{"shed fra>iad", "shed fra>nrt", "shed fra>iad", "shed fra>nrt"}
	if diff := cmp.Diff(want, f.taken()); diff != "" {
		t.Error(diff)
	}
	if m := fra.Door().Measure(time.Now()); m.Peers["iad"].Busy != 2 || m.Peers["nrt"].Busy != 1 {
		t.Errorf("busy: %+v", m.Peers)
	}
}

// What cannot be sent twice is not shed.
func TestNotShed(t *testing.T) {
	f := three(t, echoGeo)
	fra := f.edges["fra"]
	f.plan("fra", all("iad"))
	f.plan("iad", takes(100))
	big := strings.NewReader(strings.Repeat("x", 2<<20))
	if got := fra.do(t, "POST", "http://shop.example/", big); got.Header.Get("Edge-Geo") != "fra" {
		t.Errorf("2 MiB went to %s", got.Header.Get("Edge-Geo"))
	}
	if got := fra.do(t, "POST", "http://shop.example/", struct{ io.Reader }{strings.NewReader("x")}); got.Header.Get("Edge-Geo") != "fra" {
		t.Errorf("content of unknown length went to %s", got.Header.Get("Edge-Geo"))
	}
	if len(f.taken()) != 0 {
		t.Errorf("hops: %v", f.taken())
	}
}

func TestRefusedAtTheDoor(t *testing.T) {
	f := three(t, echoGeo)
	f.plan("fra", steering.ShedPlan{Offered: 100, RefuseShare: 1})
	got := f.edges["fra"].get(t, "http://shop.example/")
	if got.Status != 503 || got.Header.Get("Retry-After") == "" {
		t.Errorf("got %d %v", got.Status, got.Header)
	}
}

// Hop fields that make no sense are refused, and nothing is executed.
func TestServeFabricChecksHopFields(t *testing.T) {
	executed := make(chan string, 100)
	f := three(t, func(_ http.ResponseWriter, r *http.Request) { executed <- r.RequestURI })
	iad := f.edges["iad"]
	f.plan("iad", takes(1000))
	good := message.Header{
		{Name: "Edge-Hop", Value: "shed"},
		{Name: "Edge-Visited", Value: "fra"},
		{Name: "Edge-Client", Value: "192.0.2.7:4711"},
		{Name: "Edge-Proto", Value: "https"},
		{Name: "Edge-Version", Value: "h2"},
		{Name: "Edge-Service", Value: "shop"},
		{Name: "Edge-Want", Value: "5;urgent"},
	}
	tests := []struct {
		name, field, value string
		status             int
		busy               string
	}{
		{"all is well", "", "", 200, ""},
		{"no hop", "Edge-Hop", "", 400, "malformed"},
		{"unknown hop", "Edge-Hop", "teleport", 400, "malformed"},
		{"another origin", "Edge-Visited", "nrt", 400, "malformed"},
		{"not a geo", "Edge-Visited", "fra, N R T", 400, "malformed"},
		{"no client", "Edge-Client", "localhost", 400, "malformed"},
		{"no scheme", "Edge-Proto", "gopher", 400, "malformed"},
		{"want is no number", "Edge-Want", "NaN", 400, "malformed"},
		{"want with an unknown flag", "Edge-Want", "5;please", 400, "malformed"},
		{"unknown service", "Edge-Service", "bank", 503, "no-service"},
		{"was here", "Edge-Visited", "fra, iad", 503, "loop"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := good.Clone()
			if test.field != "" {
				h.Set(test.field, test.value)
			}
			r := &message.Request{Method: "GET", Scheme: "https", Authority: "shop.example", Target: "/", Version: message.HTTP3, Header: h}
			resp, err := iad.ServeFabric(t.Context(), proxy.Sender{Geo: "fra", Node: "fra-edge1"}, r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Close()
			if resp.Status != test.status || resp.Header.Get("Edge-Busy") != test.busy || resp.Header.Get("Edge-Geo") != "iad" {
				t.Errorf("got %d %v", resp.Status, resp.Header)
			}
			if want := test.status != 400; (resp.Header.Get("Edge-Grant") != "") != want {
				t.Errorf("Edge-Grant %q", resp.Header.Get("Edge-Grant"))
			}
			if got := len(executed); (got == 1) != (test.status == 200) {
				t.Errorf("executed %d times", got)
			}
			for len(executed) > 0 {
				<-executed
			}
		})
	}
}

// A geo that maybe executed a relayed request is not asked again, nor is
// anybody else, unless repeating does no harm.
func TestRelayBreaks(t *testing.T) {
	f := three(t, echoGeo)
	fra := f.without(t, "fra")
	f.mu.Lock()
	f.intercept = func(geo string, _ *message.Request) (*message.Response, error) {
		if geo == "iad" {
			return nil, fmt.Errorf("try: %w", &message.TryError{Sent: message.MaybeExecuted, To: geo, Err: errors.New("cut")})
		}
		return nil, nil
	}
	f.mu.Unlock()
	if got := fra.do(t, "POST", "http://shop.example/", strings.NewReader("pay")); got.Status != 502 {
		t.Errorf("POST: got %d %q", got.Status, got.Body)
	}
	if got := fra.get(t, "http://shop.example/"); got.Body != "nrt " {
		t.Errorf("GET: got %d %q", got.Status, got.Body)
	}
	if !slices.Equal(f.taken(), []string{"failover fra>iad", "failover fra>iad", "failover fra>nrt"}) {
		t.Errorf("hops: %v", f.taken())
	}
}
