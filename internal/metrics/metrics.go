// Package metrics says what this node counts, to Prometheus and whoever reads its
// text form.
//
// The list of all metrics is here ([All]); their values are read from the parts of
// the node when somebody asks (a [Gatherer], which cmd/edged has), so that nothing
// on a request's way knows this package. A [Server] answers on an address of its
// own; the admin socket answers with the same handler ([NewHandler]). It alerts nobody, and keeps
// nothing.
package metrics

import (
	"cmp"
	"net/http"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// A Kind is how a metric behaves.
type Kind string

// The kinds of metrics.
const (
	Counter   Kind = "counter" // only grows, from 0 at the start of the process
	Gauge     Kind = "gauge"
	Histogram Kind = "histogram"
)

// A Metric is one of those that this node has. Its labels have few values, which
// are configured or constants of the code: no client chooses them.
type Metric struct {
	Name   string
	Kind   Kind
	Labels []string
	Help   string
}

// A Gatherer hands over the values of the moment.
type Gatherer func(*Values)

// Values takes the values of one look at the node.
type Values struct {
	out   chan<- prometheus.Metric
	descs map[string]*prometheus.Desc
}

// Set gives the value of a counter or a gauge with the values of its labels.
func (v *Values) Set(m Metric, value float64, labels ...string) {
	kind := prometheus.GaugeValue
	if m.Kind == Counter {
		kind = prometheus.CounterValue
	}
	v.out <- prometheus.MustNewConstMetric(v.descs[m.Name], kind, value, labels...)
}

// Flag is Set of 1 for true and 0 for false.
func (v *Values) Flag(m Metric, on bool, labels ...string) {
	value := 0.0
	if on {
		value = 1
	}
	v.Set(m, value, labels...)
}

// Observe gives a histogram: counts[i] values were above bounds[i-1] and up to
// bounds[i], the last one above all bounds.
func (v *Values) Observe(m Metric, bounds []float64, counts []uint64, sum float64, labels ...string) {
	var total uint64
	upTo := make(map[float64]uint64, len(bounds))
	for i, n := range counts {
		total += n
		if i < len(bounds) {
			upTo[bounds[i]] = total
		}
	}
	v.out <- prometheus.MustNewConstHistogram(v.descs[m.Name], total, sum, upTo, labels...)
}

// collector asks a Gatherer when it is asked.
type collector struct {
	gather Gatherer
	descs  map[string]*prometheus.Desc
}

// Describe tells of every metric.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, m := range All {
		out <- c.descs[m.Name]
	}
}

// Collect hands over the values of the moment.
func (c *collector) Collect(out chan<- prometheus.Metric) { c.gather(&Values{out, c.descs}) }

// most is how many may ask at once.
const most = 4

// NewHandler returns what answers with the values of gather, and those of the
// process and the Go runtime.
func NewHandler(gather Gatherer) http.Handler {
	c := &collector{gather: gather, descs: map[string]*prometheus.Desc{}}
	for _, m := range All {
		c.descs[m.Name] = prometheus.NewDesc(m.Name, m.Help, m.Labels, nil)
	}
	r := prometheus.NewRegistry()
	r.MustRegister(c, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{MaxRequestsInFlight: most, DisableCompression: true})
}

// sorted puts metrics in the order of their names.
func sorted(list ...[]Metric) []Metric {
	all := slices.Concat(list...)
	slices.SortFunc(all, func(a, b Metric) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// All are the metrics of a node, by name; those of the process and the Go runtime
// (process_…, go_…) are client_golang's.
var All = sorted(ofNode, ofListeners, ofServices, ofBackends, ofGeos)
