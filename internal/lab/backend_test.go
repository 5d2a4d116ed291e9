package lab_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"anyedge/internal/lab"
)

func TestApp(t *testing.T) {
	s := httptest.NewServer(lab.App("fra", "fra-a"))
	defer s.Close()
	tests := []struct {
		name, method, path string
		header             string // value of Replay-Geo-Src
		status             int
		replay             string // Replay-Geo of the answer
		answers            bool   // with an Answer
	}{
		{"health", "GET", "/healthz", "", 200, "", false},
		{"anything", "POST", "/any/thing?x=1", "", 200, "", true},
		{"replay", "POST", "/replay/nrt", "", 409, "nrt", false},
		{"replayed", "POST", "/replay/nrt", "geo=fra", 200, "", true},
		{"replay to where it is", "POST", "/replay/fra", "", 200, "", true},
		{"status", "GET", "/status/503", "", 503, "", true},
		{"no status", "GET", "/status/99", "", 400, "", false},
		{"slow", "GET", "/slow/20", "", 200, "", true},
		{"too slow", "GET", "/slow/60001", "", 400, "", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), test.method, s.URL+test.path, strings.NewReader("body"))
			if err != nil {
				t.Fatal(err)
			}
			if test.header != "" {
				r.Header.Set("Replay-Geo-Src", test.header)
			}
			begin := time.Now()
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			text, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != test.status || resp.Header.Get("Replay-Geo") != test.replay {
				t.Errorf("status %d, Replay-Geo %q: %s", resp.StatusCode, resp.Header.Get("Replay-Geo"), text)
			}
			if test.name == "slow" && time.Since(begin) < 20*time.Millisecond {
				t.Error("it was not slow")
			}
			var a lab.Answer
			if err := json.Unmarshal(text, &a); (err == nil) != test.answers {
				t.Fatalf("answer %q: %v", text, err)
			}
			if test.answers && (a.Geo != "fra" || a.Backend != "fra-a" || a.Method != test.method || a.Path != test.path || a.Via["Replay-Geo-Src"] != test.header) {
				t.Errorf("got %+v", a)
			}
		})
	}
}

func TestBackendDiesAndComesBack(t *testing.T) {
	b := lab.NewBackend("fra", "fra-a", netip.MustParseAddrPort("127.0.46.1:0"), logger(t))
	if err := b.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	get := func(path string) error {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+b.Addr.String()+path, http.NoBody)
		resp, err := client.Do(r)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		return err
	}
	if err := get("/"); err != nil {
		t.Fatal(err)
	}
	at, slow := b.Addr, make(chan error, 1)
	go func() { slow <- get("/slow/50000") }()
	if err := b.Up(t.Context()); err == nil {
		t.Error("it was started twice")
	}
	if err := b.Down(); err != nil {
		t.Fatal(err)
	}
	if err := <-slow; err == nil {
		t.Error("a request outlived its backend")
	}
	if b.Alive() || get("/") == nil || b.Down() == nil {
		t.Error("the dead backend lives")
	}
	if err := b.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b.Addr != at {
		t.Errorf("it came back at %s, was at %s", b.Addr, at)
	}
	if err := get("/"); err != nil {
		t.Error(err)
	}
	if err := b.Down(); err != nil {
		t.Error(err)
	}
}
