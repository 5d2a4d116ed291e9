package main_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"anyedge/internal/testpeer"
)

// counted is what a daemon counts.
type counted map[string]*dto.MetricFamily

// value is that of the metric with these values of its labels, in their order.
func (c counted) value(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	for _, m := range c[name].GetMetric() {
		var have []string
		for _, l := range m.GetLabel() {
			have = append(have, l.GetValue())
		}
		if strings.Join(have, "|") != strings.Join(labels, "|") {
			continue
		}
		switch {
		case m.Counter != nil:
			return m.GetCounter().GetValue()
		case m.Histogram != nil:
			return float64(m.GetHistogram().GetSampleCount())
		}
		return m.GetGauge().GetValue()
	}
	t.Errorf("no %s of %v", name, labels)
	return -1
}

func metricsAt(t *testing.T, client *http.Client, url string) counted {
	t.Helper()
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%d %v", resp.StatusCode, err)
	}
	if problems, err := promlint.New(strings.NewReader(string(b))).Lint(); len(problems) > 0 || err != nil {
		t.Error(problems, err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// What clients meet is what is counted, by the daemon as it runs.
func TestMetrics(t *testing.T) {
	t.Parallel()
	app := startApp(t, "here", "app-a")
	port, metrics := testpeer.FreePort(t, edgeIP), testpeer.FreePort(t, edgeIP)
	d := start(t, localConfig(port, serviceAt("app", "/", app.Addr.String()))+fmt.Sprintf("\nnode: {metrics: {listen: '%s:%d'}}\n", edgeIP, metrics))
	client := browser(t, d.ca(t))
	url := fmt.Sprintf("https://%s:%d", edgeIP, port)
	for range 3 {
		mustAsk(t, client, "POST", url+"/", []byte("12345"))
	}
	down(t, app)
	if got := mustAsk(t, client, "GET", url+"/", nil); got.status != 503 {
		t.Fatalf("without a backend: %d", got.status)
	}
	c := metricsAt(t, http.DefaultClient, fmt.Sprintf("http://%s:%d/metrics", edgeIP, metrics))
	protocol := "h2"
	if c.value(t, "edged_listener_requests_total", "https", "h2") == 0 {
		protocol = "h1"
	}
	for _, tt := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"edged_service_requests_total", []string{"2xx", "app"}, 3}, // by the names of the labels
		{"edged_service_requests_total", []string{"5xx", "app"}, 1},
		{"edged_service_first_byte_seconds", []string{"app"}, 3},
		{"edged_service_received_bytes_total", []string{"app"}, 15},
		{"edged_service_requests_in_flight", []string{"app"}, 0},
		{"edged_backend_answers_total", []string{"app-a", "2xx", "app"}, 3},
		{"edged_backend_first_byte_seconds", []string{"app-a", "app"}, 3},
		{"edged_refused_requests_total", []string{"https", "", "no_backend", "app"}, 1},
		{"edged_listener_requests_total", []string{"https", protocol}, 4},
		{"edged_listener_up", []string{"https"}, 1},
		{"edged_service_backends", []string{"app"}, 1},
	} {
		if got := c.value(t, tt.name, tt.labels...); got != tt.want {
			t.Errorf("%s %v is %v, want %v", tt.name, tt.labels, got, tt.want)
		}
	}
	testpeer.WaitFor(t, "the verdict on the dead backend", func() bool {
		c := metricsAt(t, http.DefaultClient, fmt.Sprintf("http://%s:%d/metrics", edgeIP, metrics))
		return c.value(t, "edged_backend_up", "app-a", "app") == 0 && c.value(t, "edged_part_state", "proxy", "bad") == 1
	})
}

// metrics are what the daemon counts, read at its admin socket.
func (d *daemon) metrics(t *testing.T) counted {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(d.dir, "edged.sock"))
		},
	}}
	return metricsAt(t, client, "http://edged/metrics")
}
