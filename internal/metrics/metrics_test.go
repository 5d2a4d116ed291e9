package metrics_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.uber.org/goleak"

	"anyedge/internal/metrics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// one gives every metric one value.
func one(v *metrics.Values) {
	for _, m := range metrics.All {
		labels := make([]string, len(m.Labels))
		for i := range labels {
			labels[i] = `a "b"`
		}
		if m.Kind == metrics.Histogram {
			v.Observe(m, []float64{0.1, 1}, []uint64{3, 2, 1}, 7.5, labels...)
		} else {
			v.Set(m, 42, labels...)
		}
	}
}

func text(t *testing.T) string {
	t.Helper()
	w := httptest.NewRecorder()
	metrics.NewHandler(one).ServeHTTP(w, httptest.NewRequest("GET", metrics.Path, nil))
	if w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// What is said parses, and follows Prometheus' conventions.
func TestText(t *testing.T) {
	out := text(t)
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range metrics.All {
		if f := families[m.Name]; f == nil || f.GetHelp() != m.Help || len(f.GetMetric()) != 1 || len(f.GetMetric()[0].GetLabel()) != len(m.Labels) {
			t.Errorf("%s: %v", m.Name, f)
		}
	}
	if families["go_goroutines"] == nil || families["process_start_time_seconds"] == nil {
		t.Error("the process and the runtime are missing")
	}
	h := families[metrics.ServiceDuration.Name].GetMetric()[0].GetHistogram()
	if h.GetSampleCount() != 6 || h.GetSampleSum() != 7.5 || h.GetBucket()[1].GetCumulativeCount() != 5 {
		t.Errorf("histogram %v", h)
	}
	problems, err := promlint.New(strings.NewReader(out)).Lint()
	if len(problems) > 0 || err != nil {
		t.Error(problems, err)
	}
	for _, m := range metrics.All {
		if strings.HasSuffix(m.Name, "_total") != (m.Kind == metrics.Counter) || !strings.HasPrefix(m.Name, "edged_") || !strings.HasSuffix(m.Help, ".") {
			t.Errorf("%s (%s): %s", m.Name, m.Kind, m.Help)
		}
	}
	if !slices.IsSortedFunc(metrics.All, func(a, b metrics.Metric) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("not sorted by name")
	}
}

// The reference has every metric as it is, and no other.
func TestReference(t *testing.T) {
	const page = "../../docs/metrics.md"
	have, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, m := range metrics.All {
		labels := "–"
		if len(m.Labels) > 0 {
			labels = "`" + strings.Join(m.Labels, "` `") + "`"
		}
		want = append(want, fmt.Sprintf("| `%s` | %s | %s | %s |", m.Name, m.Kind, labels, m.Help))
	}
	got := regexp.MustCompile("(?m)^\\| `edged_.*$").FindAllString(string(have), -1)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +have):\n%s", page, d)
	}
	// Alerts speak of metrics that are there.
	for _, name := range regexp.MustCompile(`edged_[a-z0-9_]+`).FindAllString(string(have), -1) {
		base := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
		if !slices.ContainsFunc(metrics.All, func(m metrics.Metric) bool { return m.Name == name || m.Name == base }) {
			t.Errorf("%s speaks of %s, which is no metric", page, name)
		}
	}
}

func TestServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	s := metrics.NewServer(metrics.Config{Listen: addr}, metrics.NewHandler(one), slog.New(slog.NewTextHandler(t.Output(), nil)))
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- s.Run(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for path, want := range map[string]int{metrics.Path: 200, "/": 404, "/debug/pprof/": 404} {
		resp, err := client.Get("http://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != want || path == metrics.Path && !strings.Contains(string(b), "\nedged_info{") {
			t.Errorf("%s: %d, %d bytes", path, resp.StatusCode, len(b))
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestListenThatIsNone(t *testing.T) {
	for _, listen := range []string{"", "9101", "localhost:9101", "127.0.0.1:0"} {
		if err := (metrics.Config{Listen: listen}).Validate(); err == nil {
			t.Errorf("%q is taken", listen)
		}
	}
}
