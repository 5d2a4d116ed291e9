package discover_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"anyedge/internal/message"
	"anyedge/proxy/discover"
	"anyedge/proxy/upstream"
)

func TestValidate(t *testing.T) {
	for _, tt := range []struct {
		cfg  discover.Config
		want string
	}{
		{discover.Config{File: "/x"}, ""},
		{discover.Config{DNSSRV: "_a._tcp.b", Resolver: "192.0.2.1:53", Scheme: "h2c"}, ""},
		{discover.Config{DNS: "a:80"}, ""},
		{discover.Config{}, "want one of file, dns_srv and dns"},
		{discover.Config{File: "/x", DNS: "a:80"}, "want one of file, dns_srv and dns"},
		{discover.Config{DNS: "a"}, `dns: "a" is not HOST:PORT`},
		{discover.Config{DNS: "a:0"}, `dns: port 0 of "a:0" is not 1-65535`},
		{discover.Config{DNS: "a:http"}, `dns: port http of "a:http" is not 1-65535`},
		{discover.Config{DNS: "a:80", Resolver: "192.0.2.1"}, `resolver: "192.0.2.1" is not HOST:PORT`},
		{discover.Config{DNS: "a:80", Scheme: "https"}, `scheme: "https" is unknown: want http or h2c`},
		{discover.Config{File: "/x", Scheme: "h2c"}, "resolver, scheme and keep are for DNS; a file says all by itself"},
		{discover.Config{File: "/x", Refresh: new(time.Millisecond)}, "refresh: must be 1s or more"},
	} {
		got := ""
		if err := tt.cfg.Validate(); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%+v:\n got %s\nwant %s", tt.cfg, got, tt.want)
		}
	}
}

// write puts a file in the place of another, as careful programs do.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// A file may come late, change in any way and break: what was good last stays.
func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shop.yaml")
	var l listener
	s := run(t, discover.Config{File: path, Refresh: new(time.Hour)}, l.tell)
	waitFor(t, "a first word", func() bool { return len(l.told()) == 1 && s.Status().LastError != "" })
	if l.last() != "" || s.Status().Source != "file "+path {
		t.Errorf("told %q, %+v", l.last(), s.Status())
	}
	const a, b = "http://192.0.2.1:80", "h2c://192.0.2.2:81"
	for _, step := range []struct {
		name, text string
		want       string // "": what was before
		wrong      string
	}{
		{"YAML", "- {name: a, url: '" + a + "', weight: 3}\n", a + " 3/0", ""},
		{"JSON", `[{"name": "a", "url": "` + a + `", "weight": 3}, {"name": "b", "url": "` + b + `", "limit": {"hard": 5}}]`, a + " 3/0, " + b + " 0/0", ""},
		{"not YAML", "- {name: a", "", "shop.yaml: "},
		{"no list", "name: a\n", "", "shop.yaml: "},
		{"nothing", "", "", "is empty; a list without backends is []"},
		{"unknown field", "- {name: a, url: '" + a + "', wait: 3}\n", "", `unknown field "wait"`},
		{"no name", "- {url: '" + a + "'}\n", "", "[0]: name is required"},
		{"bad backend", "- {name: a, url: 'ftp://x'}\n", "", `[0]: url: scheme "ftp" is unknown`},
		{"too large", strings.Repeat("#", 5<<20), "", "has more than"},
		{"good again", "- {name: b, url: '" + b + "'}\n", b + " 0/0", ""},
	} {
		before := l.last()
		write(t, path, step.text)
		want := step.want
		if want == "" {
			want = before
		}
		waitFor(t, step.name, func() bool {
			wrong := s.Status().LastError
			return l.last() == want && (wrong == "") == (step.wrong == "") && strings.Contains(wrong, step.wrong)
		})
	}
	write(t, path, "[]\n")
	waitFor(t, "an empty list", func() bool { return l.last() == "" && s.Status().LastError == "" && s.Status().Backends == 0 })
	if err := os.WriteFile(path, []byte("- {name: a, url: '"+a+"'}\n"), 0o600); err != nil { // in place
		t.Fatal(err)
	}
	waitFor(t, "a file written in place", func() bool { return l.last() == a+" 0/0" })
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the loss to be seen", func() bool { return strings.Contains(s.Status().LastError, "no such file") })
	if l.last() != a+" 0/0" || s.Status().Backends != 1 {
		t.Errorf("a file that went took %q along", l.last())
	}
}

// A ConfigMap of Kubernetes: the file is a link through a folder link that is
// swapped.
func TestFileBehindLinks(t *testing.T) {
	dir := t.TempDir()
	version := func(n int) {
		name := fmt.Sprintf("..%d", n)
		if err := os.Mkdir(filepath.Join(dir, name), 0o750); err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf("- {name: a, url: 'http://192.0.2.%d:80'}\n", n)
		if err := os.WriteFile(filepath.Join(dir, name, "shop.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(name, filepath.Join(dir, "..new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..new"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	version(1)
	if err := os.Symlink("..data/shop.yaml", filepath.Join(dir, "shop.yaml")); err != nil {
		t.Fatal(err)
	}
	var l listener
	run(t, discover.Config{File: filepath.Join(dir, "shop.yaml"), Refresh: new(time.Hour)}, l.tell)
	for n := 1; n <= 4; n++ {
		if n > 1 {
			version(n)
		}
		waitFor(t, fmt.Sprint("version ", n), func() bool { return l.last() == fmt.Sprintf("http://192.0.2.%d:80 0/0", n) })
		if n > 2 {
			if err := os.RemoveAll(filepath.Join(dir, fmt.Sprintf("..%d", n-1))); err != nil {
				t.Fatal(err)
			}
		}
	}
	// A link to a file elsewhere that is replaced there.
	far, near := filepath.Join(t.TempDir(), "far.yaml"), filepath.Join(t.TempDir(), "near.yaml")
	write(t, far, "- {name: a, url: 'http://192.0.2.1:80'}\n")
	if err := os.Symlink(far, near); err != nil {
		t.Fatal(err)
	}
	var f listener
	run(t, discover.Config{File: near, Refresh: new(time.Hour)}, f.tell)
	waitFor(t, "the file elsewhere", func() bool { return f.last() == "http://192.0.2.1:80 0/0" })
	write(t, far, "- {name: a, url: 'http://192.0.2.9:80'}\n")
	waitFor(t, "its change", func() bool { return f.last() == "http://192.0.2.9:80 0/0" })
}

// A list that its user refuses is wrong like one that cannot be read.
func TestRefusedList(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shop.yaml")
	write(t, path, "- {name: a, url: 'http://192.0.2.1:80'}\n")
	l := listener{refuse: errors.New("the name is there twice")}
	s := run(t, discover.Config{File: path}, l.tell)
	waitFor(t, "the refusal", func() bool { return s.Status().LastError == "the name is there twice" })
	if st := s.Status(); st.Backends != 0 || !st.Read.IsZero() {
		t.Errorf("%+v", st)
	}
}

// Lists change under load, through a file and a pool, and no request fails.
func TestFileUnderLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shop.json")
	var lines []string
	for i := range 4 {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }))
		t.Cleanup(s.Close)
		lines = append(lines, fmt.Sprintf(`{"name": "s%d", "url": "%s"}`, i, s.URL))
	}
	list := func(i int) string { return "[" + lines[i%4] + "," + lines[(i+1)%4] + "]" }
	p, err := upstream.New("shop", upstream.Config{Discovered: true}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if p.Reported() {
		t.Error("reported before the first list")
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx, func() {}) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	write(t, path, list(0))
	s := run(t, discover.Config{File: path}, p.Update)
	waitFor(t, "backends", func() bool { return p.Reported() && p.Healthy() == 2 })

	var clients sync.WaitGroup
	var stop atomic.Bool
	for range 4 {
		clients.Go(func() {
			for !stop.Load() && !t.Failed() {
				r := &message.Request{Version: message.HTTP1, Method: "POST", Scheme: "http", Authority: "x", Target: "/"}
				resp, err := p.RoundTrip(ctx, r)
				if err != nil {
					t.Error(err)
					return
				}
				if text, err := io.ReadAll(resp.Body); err != nil || string(text) != "hello" {
					t.Errorf("%q, %v", text, err)
				}
				resp.Close()
			}
		})
	}
	for i := 1; i <= 8; i++ {
		before := s.Status().Read
		write(t, path, list(i))
		waitFor(t, "the list", func() bool { return s.Status().Read.After(before) && p.Reported() && p.Healthy() == 2 })
	}
	stop.Store(true)
	clients.Wait()
}

func FuzzFile(f *testing.F) {
	f.Add([]byte("- {name: a, url: 'http://192.0.2.1:80', weight: 2, limit: {soft: 1, hard: 2}}\n"))
	f.Add([]byte(`[{"name":"a","url":"h2c://[2001:db8::1]:80"}]`))
	f.Add([]byte("- *a\n- &a {}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := discover.Parse(text)
		for _, b := range list {
			if err == nil && (b.Name == "" || b.Validate() != nil) {
				t.Fatalf("took %+v", b)
			}
		}
	})
}
