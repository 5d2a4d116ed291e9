package admin_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"anyedge/internal/admin"
	"anyedge/internal/admin/client"
	"anyedge/internal/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixed is a Source with constant answers that notes the orders it gets.
type fixed struct {
	orders chan api.DrainRequest
}

func (fixed) Version() api.Version { return api.Version{Daemon: "1.0.0", Geo: "fra"} }

func (fixed) Status() api.Status { return api.Status{Health: api.OK} }
func (fixed) Geos() api.Geos     { return api.Geos{Geo: "fra"} }
func (fixed) Routes() api.Routes { return api.Routes{V: 1, ASN: 65010} }

func (fixed) Services() api.Services       { return api.Services{Services: []api.Service{{Name: "shop"}}} }
func (fixed) FabricPeers() api.FabricPeers { return api.FabricPeers{} }
func (fixed) Traces(q url.Values) (api.Traces, error) {
	return api.Traces{Geo: q.Get("service")}, nil
}

func (fixed) WatchTraces(_ context.Context, q url.Values, show func(api.TraceEvent) error) error {
	if q.Get("status") == "no" {
		return &admin.BadRequestError{Text: "status: no"}
	}
	for _, e := range []api.TraceEvent{{}, {Trace: &api.Trace{ID: "1"}}, {Trace: &api.Trace{ID: "2"}, Dropped: 7}} {
		if err := show(e); err != nil {
			return err
		}
	}
	return nil
}

func (fixed) Explain(q url.Values) (api.Explanation, error) {
	return api.Explanation{Outcome: q.Get("url")}, nil
}

func (fixed) ServeMetrics(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "edged_info 1") }

func (fixed) L4() api.L4 { return api.L4{} }
func (fixed) L4Trace(_, _, _ string) (api.L4Trace, error) {
	return api.L4Trace{}, &admin.BadRequestError{Text: "no"}
}

func (fixed) Backends(service string) api.Backends {
	return api.Backends{Backends: []api.Backend{{Service: service, Name: "a"}}}
}

func (fixed) Events(ctx context.Context, after uint64, _ time.Time) api.Events {
	if after > 0 {
		<-ctx.Done()
	}
	return api.Events{Events: []api.Event{{ID: after + 1}}}
}

func (f fixed) Drain(r api.DrainRequest) (api.DrainReply, error) {
	if r.Name != "fra" {
		return api.DrainReply{}, &admin.BadRequestError{Text: fmt.Sprintf("geo %q is not configured", r.Name)}
	}
	f.orders <- r
	return api.DrainReply{Text: "draining"}, nil
}

func (fixed) Undrain(api.DrainRequest) (api.DrainReply, error) {
	return api.DrainReply{}, errors.New("disk full")
}

// start runs a server on a socket of its own and returns the socket's path.
func start(t *testing.T, source admin.Source) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "run", "edged.sock")
	s := admin.New(admin.Config{Socket: socket}, source, slog.New(slog.NewTextHandler(t.Output(), nil)))
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- s.Run(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is left behind: %v", err)
		}
	})
	return socket
}

func TestClientReadsAndOrders(t *testing.T) {
	source := fixed{orders: make(chan api.DrainRequest, 1)}
	c := client.New(start(t, source))
	defer c.Close()
	v, err := c.Version(t.Context())
	if d := cmp.Diff(api.Version{Daemon: "1.0.0", Geo: "fra"}, v); d != "" || err != nil {
		t.Error(d, err)
	}
	b, err := c.Backends(t.Context(), "shop")
	if d := cmp.Diff(api.Backends{Backends: []api.Backend{{Service: "shop", Name: "a"}}}, b); d != "" || err != nil {
		t.Error(d, err)
	}
	e, err := c.Events(t.Context(), 7, time.Now(), 10*time.Millisecond)
	if err != nil || len(e.Events) != 1 || e.Events[0].ID != 8 {
		t.Errorf("events %+v, %v", e, err)
	}
	if _, err := c.Drain(t.Context(), api.DrainRequest{Kind: "geo", Name: "fra", Who: "mallory"}); err != nil {
		t.Error(err)
	}
	if got := <-source.orders; got.Who == "mallory" || got.Who == "" {
		t.Errorf("the order is by %q, want the socket's peer", got.Who)
	}
	for _, tt := range []struct {
		name string
		call func() error
		want string
	}{
		{"a mistake of the caller", func() error {
			_, err := c.Drain(t.Context(), api.DrainRequest{Name: "fro"})
			return err
		}, `geo "fro" is not configured`},
		{"a failure of the daemon", func() error {
			_, err := c.Undrain(t.Context(), api.DrainRequest{Name: "fra"})
			return err
		}, "disk full"},
	} {
		if err := tt.call(); err == nil || err.Error() != tt.want {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestLiveTrace(t *testing.T) {
	c := client.New(start(t, fixed{}))
	defer c.Close()
	var got []api.TraceEvent
	err := c.TraceLive(t.Context(), nil, func(e api.TraceEvent) error {
		got = append(got, e)
		return nil
	})
	want := []api.TraceEvent{{}, {Trace: &api.Trace{ID: "1"}}, {Trace: &api.Trace{ID: "2"}, Dropped: 7}}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Error(d, err)
	}
	stop := errors.New("enough")
	if err := c.TraceLive(t.Context(), nil, func(api.TraceEvent) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("%v, want what the caller said", err)
	}
	if err := c.TraceLive(t.Context(), url.Values{"status": {"no"}}, nil); err == nil || err.Error() != "status: no" {
		t.Errorf("%v, want what the daemon said", err)
	}
	if traces, err := c.Traces(t.Context(), url.Values{"service": {"shop"}}); err != nil || traces.Geo != "shop" {
		t.Errorf("%v %v", traces, err)
	}
}

func TestAnswersToBadRequests(t *testing.T) {
	socket := start(t, fixed{orders: make(chan api.DrainRequest, 1)})
	if _, err := exec.LookPath("curl"); err != nil {
		if os.Getenv("EDGE_TEST_STRICT") != "" {
			t.Fatal(err)
		}
		t.Skip("curl is not installed")
	}
	for _, tt := range []struct{ name, args, want string }{
		{"unknown path", "http://e/v1/nothing", `404 {"error":"GET /v1/nothing is not part of this version's API"}`},
		{"not JSON", "-d x http://e/v1/drain", `400 {"error":"body: invalid character 'x' looking for beginning of value"}`},
		{"unknown field", `-d {"knd":1} http://e/v1/drain`, `400 {"error":"body: json: unknown field \"knd\""}`},
		{"two objects", `-d {}{} http://e/v1/drain`, `400 {"error":"body: want one JSON object"}`},
		{"a number that is none", "http://e/v1/events?after=-1", `400 {"error":"strconv.ParseUint: parsing \"-1\": invalid syntax"}`},
	} {
		args := append([]string{"-s", "--unix-socket", socket, "-w", "%{stderr}%{http_code}"}, strings.Fields(tt.args)...)
		cmd := exec.CommandContext(t.Context(), "curl", args...)
		var status strings.Builder
		cmd.Stderr = &status
		out, err := cmd.Output()
		if got := status.String() + " " + strings.TrimSpace(string(out)); got != tt.want || err != nil {
			t.Errorf("%s: %s (%v), want %s", tt.name, got, err, tt.want)
		}
	}
}

func TestSocketOfALivingDaemonIsKept(t *testing.T) {
	socket := start(t, fixed{})
	second := admin.New(admin.Config{Socket: socket}, fixed{}, slog.New(slog.DiscardHandler))
	err := second.Run(t.Context(), func() { t.Error("the second daemon is ready") })
	if err == nil || !strings.Contains(err.Error(), "another edged answers there") {
		t.Fatalf("second daemon: %v", err)
	}
	if _, err := client.New(socket).Version(t.Context()); err != nil {
		t.Fatalf("the first daemon no longer answers: %v", err)
	}
}

func TestSocketOfADeadDaemonIsReplaced(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "edged.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := client.New(socket).Version(t.Context()); !errors.Is(err, client.ErrUnreachable) {
		t.Fatalf("a dead socket gives %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := admin.New(admin.Config{Socket: socket}, fixed{}, slog.New(slog.DiscardHandler))
	if err := s.Run(ctx, cancel); err != nil {
		t.Fatal(err)
	}
}

// Nothing but a dead daemon's socket is ever removed.
func TestOtherFilesAreKept(t *testing.T) {
	dir := t.TempDir()
	file, link, busy := filepath.Join(dir, "edged.yaml"), filepath.Join(dir, "link"), filepath.Join(dir, "busy.sock")
	if err := os.WriteFile(file, []byte("listeners: []"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	// A living daemon that does not get around to its connections.
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: busy}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	first, err := net.Dial("unix", busy)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = first.Close() })
	for path, says := range map[string]string{file: "no socket", link: "no socket", busy: "another edged"} {
		s := admin.New(admin.Config{Socket: path}, fixed{}, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		err := s.Run(ctx, cancel)
		cancel()
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", path, err)
		}
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("it was removed: %v", err)
		}
	}
}

func TestUnreachableSaysWhatToDo(t *testing.T) {
	_, err := client.New(filepath.Join(t.TempDir(), "none.sock")).Version(t.Context())
	if !errors.Is(err, client.ErrUnreachable) || !strings.Contains(err.Error(), "Is edged running?") {
		t.Fatal(err)
	}
}

// A user who may connect may still not change anything.
func TestStrangersMayNotChange(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("EDGE_TEST_STRICT") != "" {
			t.Fatal("needs root to become another user")
		}
		t.Skip("needs root to become another user")
	}
	socket := start(t, fixed{})
	for path := socket; path != os.TempDir() && path != "/"; path = filepath.Dir(path) {
		if err := os.Chmod(path, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.CommandContext(t.Context(), "setpriv", "--reuid=65534", "--clear-groups",
		"curl", "-s", "--unix-socket", socket, "-d", `{"kind":"geo","name":"fra"}`, "http://e/v1/drain").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "may look but not change") {
		t.Fatalf("%s (%v)", out, err)
	}
}
