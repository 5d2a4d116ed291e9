package proxy_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"anyedge/internal/message"
	"anyedge/internal/steering"
	"anyedge/proxy"
	"anyedge/replay"
)

// instructing is an app that answers /replay with the instruction in ?to=, but
// only where it runs in a geo of ?at=; else it says where it is, how it came
// there, and the hash of what it got.
func instructing(w http.ResponseWriter, r *http.Request) {
	geo := r.Header.Get("Edge-Geo")
	q := r.URL.Query()
	if slices.Contains(strings.Split(q.Get("at"), ","), geo) {
		if q.Has("read") { // the content first
			_, _ = io.Copy(io.Discard, r.Body)
		}
		w.Header().Set("Replay-Geo", q.Get("to"))
		w.WriteHeader(409)
		_, _ = io.WriteString(w, "this is thrown away")
		return
	}
	sum := sha256.New()
	n, _ := io.Copy(sum, r.Body)
	w.Header().Set("X-Src", r.Header.Get(replay.FieldSource))
	w.Header().Set("X-Failed", r.Header.Get(replay.FieldFailed))
	w.Header().Set("X-Sum", hex.EncodeToString(sum.Sum(nil)))
	_, _ = fmt.Fprintf(w, "%s %s %d", geo, r.Method, n)
}

// The instruction of an app leads the original request to another geo, bit by
// bit, and the client learns of it only who served.
func TestReplay(t *testing.T) {
	f := three(t, instructing)
	fra := f.edges["fra"]
	content := make([]byte, 64<<10)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(content)
	sum := sha256.Sum256(content)
	for _, url := range []string{"http://shop.example/?at=fra&to=nrt", "https://shop.example/?at=fra&to=nrt&read"} {
		for _, chunked := range []bool{false, true} {
			var body io.Reader = bytes.NewReader(content)
			if chunked {
				body = struct{ io.Reader }{body}
			}
			got := fra.do(t, "PATCH", url, body, "Content-Type", "application/octet-stream")
			if got.Status != 200 || got.Body != "nrt PATCH 65536" || got.Header.Get("X-Sum") != hex.EncodeToString(sum[:]) {
				t.Fatalf("%s, chunked %v: got %d %q, sum %s", url, chunked, got.Status, got.Body, got.Header.Get("X-Sum"))
			}
			if got.Header.Get("Edge-Geo") != "nrt" || got.Header.Get("Edge-Entry") != "fra" {
				t.Errorf("Edge-Geo %q, Edge-Entry %q", got.Header.Get("Edge-Geo"), got.Header.Get("Edge-Entry"))
			}
			for name := range got.Header {
				if strings.HasPrefix(name, "Replay-") {
					t.Errorf("the client sees %s", name)
				}
			}
			src, err := replay.Verify(replay.NewSigner([32]byte{7}).Public(), got.Header.Get("X-Src"))
			if err != nil || src.Geo != "fra" || src.Node != "fra-edge1" || !slices.Equal(src.Hops, []string{"fra"}) {
				t.Errorf("Replay-Geo-Src %+v, %v", src, err)
			}
		}
	}
	if m := fra.service("shop"); m.Replayed == 0 || m.Shed != 0 {
		t.Errorf("statistics: %+v", m)
	}
	if line := fra.logged(t, "/?at=fra&to=nrt"); line["replay"] != "nrt" || line["geo"] != "nrt" {
		t.Errorf("logged %v", line)
	}
}

func TestReplayOutcomes(t *testing.T) {
	f := three(t, instructing)
	fra := f.edges["fra"]
	down := func(geo string) func() {
		return func() { f.without(t, geo) }
	}
	tests := []struct {
		name   string
		before func()
		query  string
		status int
		code   string // Replay-Geo-Error
		body   string
		failed string // part of Replay-Geo-Failed at the app
	}{
		{"a target names itself", nil, "at=fra,iad&to=iad", 508, "loop", "", ""},
		{"next", nil, "at=fra&to=next", 200, "", "iad GET 0", ""},
		{"elsewhere", nil, "at=fra&to=elsewhere", 200, "", "iad GET 0", ""},
		{"unknown geo", nil, "at=fra&to=xyz", 502, "bad-instruction", "xyz", ""},
		{"malformed", nil, "at=fra&to=%22", 502, "bad-instruction", "", ""},
		{"back and forth", nil, "at=fra,nrt&to=nrt", 508, "loop", "", ""},
		{"itself", nil, "at=fra&to=fra", 508, "loop", "", ""},
		{"every app passes it on", nil, "at=fra,iad,nrt&to=elsewhere", 508, "loop", "", ""},
		{"the second of a list", down("iad"), "at=fra&to=iad,nrt", 200, "", "nrt GET 0", ""},
		{"unreachable", nil, "at=fra&to=iad", 503, "no-candidate", "iad", ""},
		{"fallback next", nil, "at=fra&to=iad%3Bfallback%3Dnext", 200, "", "nrt GET 0", "reason=no-candidate"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.before != nil {
				test.before()
			}
			got := fra.get(t, "http://shop.example/?"+test.query)
			if got.Status != test.status || got.Header.Get("Replay-Geo-Error") != test.code || !strings.Contains(got.Body, test.body) {
				t.Errorf("got %d %q %q, want %d %q %q", got.Status, got.Header.Get("Replay-Geo-Error"), got.Body, test.status, test.code, test.body)
			}
			if test.code == "no-candidate" && got.Header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
			if !strings.Contains(got.Header.Get("X-Failed"), test.failed) || test.failed == "" && got.Header.Get("X-Failed") != "" {
				t.Errorf("Replay-Geo-Failed %q", got.Header.Get("X-Failed"))
			}
		})
	}
}

func TestReplayAllowList(t *testing.T) {
	f := newFleet("fra", "iad", "nrt")
	for geo, allow := range map[string][]string{"iad": nil, "nrt": nil, "fra": {"iad"}} {
		s := shop(backend(t, instructing).URL)
		s.Replay.Allow = allow
		f.start(t, geo, proxy.Setup{Services: []proxy.ServiceConfig{s}})
	}
	fra := f.edges["fra"]
	if got := fra.get(t, "http://shop.example/?at=fra&to=nrt"); got.Status != 502 || got.Header.Get("Replay-Geo-Error") != "not-allowed" {
		t.Errorf("got %d %v", got.Status, got.Header)
	}
	if got := fra.get(t, "http://shop.example/?at=fra&to=iad"); got.Body != "iad GET 0" {
		t.Errorf("got %d %q", got.Status, got.Body)
	}

	s := shop(backend(t, instructing).URL)
	s.Replay.Allow = []string{}
	fra = f.start(t, "fra", proxy.Setup{Services: []proxy.ServiceConfig{s}})
	got := fra.get(t, "http://shop.example/?at=fra&to=nrt")
	if got.Status != 409 || got.Header.Get("Replay-Geo") != "" || got.Body != "this is thrown away" {
		t.Errorf("ignored: got %d %q %v", got.Status, got.Body, got.Header)
	}
}

func TestReplayBodyTooLarge(t *testing.T) {
	f := newFleet("fra", "iad")
	for _, geo := range f.order {
		s := shop(backend(t, instructing).URL)
		most := 10 * message.KiB
		s.Replay.MaxBody = &most
		f.start(t, geo, proxy.Setup{Services: []proxy.ServiceConfig{s}})
	}
	for _, test := range []struct{ size, status int }{{10 << 10, 200}, {10<<10 + 1, 413}} {
		got := f.edges["fra"].do(t, "POST", "http://shop.example/?at=fra&to=iad&read", bytes.NewReader(make([]byte, test.size)))
		if got.Status != test.status || (test.status == 413) != (got.Header.Get("Replay-Geo-Error") == "body-too-large") {
			t.Errorf("%d bytes: got %d %v", test.size, got.Status, got.Header)
		}
	}
}

// A target that is too slow: an idempotent request falls back, another is
// given up.
func TestReplayTimeout(t *testing.T) {
	var slow atomic.Bool
	slow.Store(true)
	f := three(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Edge-Geo") == "nrt" && slow.Load() {
			_, _ = io.Copy(io.Discard, r.Body) // net/http watches the client only then
			<-r.Context().Done()
			return
		}
		if r.Header.Get(replay.FieldFailed) != "" {
			r.URL.RawQuery = ""
		}
		instructing(w, r)
	})
	fra := f.edges["fra"]
	const query = "?at=fra&to=nrt%3Btimeout%3D0.1%3Bfallback%3Dself"
	got := fra.get(t, "http://shop.example/"+query)
	if got.Body != "fra GET 0" || !strings.Contains(got.Header.Get("X-Failed"), "reason=timeout") || !strings.Contains(got.Header.Get("X-Failed"), "geo=nrt") {
		t.Errorf("GET: got %d %q %v", got.Status, got.Body, got.Header)
	}
	got = fra.do(t, "POST", "http://shop.example/"+query, strings.NewReader("pay"))
	if got.Status != 504 || got.Header.Get("Replay-Geo-Error") != "timeout" {
		t.Errorf("POST: got %d %q %v", got.Status, got.Body, got.Header)
	}
}

// A target's app that closes without an answer is a failed try: a GET goes on
// to the fallback, a POST does not.
func TestReplayTargetGivesNoAnswer(t *testing.T) {
	f := three(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Edge-Geo") == "nrt" {
			panic(http.ErrAbortHandler)
		}
		if r.Header.Get(replay.FieldFailed) != "" {
			r.URL.RawQuery = ""
		}
		instructing(w, r)
	})
	fra := f.edges["fra"]
	for method, want := range map[string]string{"GET": "200 fra GET 0", "POST": "504 timeout"} {
		got := fra.do(t, method, "http://shop.example/?at=fra&to=nrt%3Bfallback%3Dself", nil)
		if s := fmt.Sprint(got.Status, " ", got.Body); !strings.HasPrefix(s, want) || got.Header.Get("Edge-Failed") != "" {
			t.Errorf("%s: got %s, want %s…", method, s, want)
		}
	}
}

// The geo that served a shed request passes its app's instruction back, and
// the edge that the client reached runs it: here even to itself, whose app has
// not seen the request.
func TestReplayOfAShedRequest(t *testing.T) {
	f := three(t, instructing)
	fra := f.edges["fra"]
	f.plan("iad", takes(1000))
	for _, test := range []struct {
		to   string
		want string
		hops []string
	}{
		{"nrt", "nrt GET 0", []string{"shed fra>iad", "replay fra>nrt"}},
		{"fra", "fra GET 0", []string{"shed fra>iad"}},
	} {
		f.plan("fra", all("iad"))
		f.mu.Lock()
		f.hops = nil
		f.mu.Unlock()
		got := fra.get(t, "http://shop.example/?at=iad&to="+test.to)
		if got.Body != test.want || got.Header.Get("X-Src") == "" {
			t.Errorf("got %d %q %v", got.Status, got.Body, got.Header)
		}
		if diff := cmp.Diff(test.hops, f.taken()); diff != "" {
			t.Error(diff)
		}
	}
}

// The backend that gave the instruction is free before the request goes on.
func TestReplayFreesTheSlot(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	f := three(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Edge-Geo") == "iad" && r.URL.Path == "/" {
			close(arrived)
			<-release
		}
		instructing(w, r)
	})
	fra := f.edges["fra"]
	answered := make(chan answer, 1)
	go func() { answered <- fra.get(t, "http://shop.example/?at=fra&to=iad") }()
	<-arrived
	waitFor(t, "a free backend", func() bool { return fra.service("shop").Backends[0].Active == 0 })
	close(release)
	if got := <-answered; got.Body != "iad GET 0" {
		t.Errorf("got %d %q", got.Status, got.Body)
	}
}

// A client that leaves ends the work in the other geo.
func TestClientLeavesDuringReplay(t *testing.T) {
	arrived, ended := make(chan struct{}), make(chan struct{})
	f := three(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Edge-Geo") == "iad" && r.URL.Path == "/leave" {
			close(arrived)
			<-r.Context().Done()
			close(ended)
			return
		}
		instructing(w, r)
	})
	fra := f.edges["fra"]
	ctx, leave := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		r, err := http.NewRequestWithContext(ctx, "GET", "http://shop.example/leave?at=fra&to=iad", nil)
		if err == nil {
			var resp *http.Response
			if resp, err = fra.client(t).Do(r); err == nil {
				_ = resp.Body.Close()
			}
		}
		done <- err
	}()
	<-arrived
	leave()
	if err := <-done; err == nil {
		t.Error("the client got an answer")
	}
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("the other geo's backend still works")
	}
	if line := fra.logged(t, "/leave?at=fra&to=iad"); line["status"] != float64(499) {
		t.Errorf("logged %v", line)
	}
}

// Without other geos an instruction has nowhere to lead.
func TestSingleGeoReplay(t *testing.T) {
	e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{shop(backend(t, instructing).URL)}})
	got := e.get(t, "http://shop.example/?at=fra&to=nrt")
	if got.Status != 502 || got.Header.Get("Replay-Geo-Error") != "bad-instruction" {
		t.Errorf("got %d %q %v", got.Status, got.Body, got.Header)
	}
	e.Door().SetPlan(&steering.Plan{Services: map[string]steering.ServicePlan{"shop": {Elsewhere: []string{"nrt"}}}})
	if got := e.get(t, "http://shop.example/"); got.Status != 200 {
		t.Errorf("got %d", got.Status)
	}
}
