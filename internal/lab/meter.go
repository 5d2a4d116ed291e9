package lab

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxSamples bounds the failures that a Meter keeps in words.
const maxSamples = 5

// A Tally counts requests.
type Tally struct {
	Sent    int            `json:"sent"`
	Failed  int            `json:"failed"`
	Late    int            `json:"late"`   // not sent in time: no client was free
	Served  map[string]int `json:"served"` // by the geo that answered
	Entered map[string]int `json:"entered"`
	// Samples are some of the failures, in words.
	Samples []string `json:"samples,omitempty"`
}

// A Meter counts what came of requests. It is safe for concurrent use.
type Meter struct {
	mu      sync.Mutex // guards all
	total   Tally
	regions map[string]*Tally
	samples []sample
	sources map[string]struct{}
}

type sample struct {
	at   time.Time
	text string
}

// NewMeter returns a Meter that has counted nothing.
func NewMeter() *Meter {
	return &Meter{total: newTally(), regions: make(map[string]*Tally), sources: make(map[string]struct{})}
}

func newTally() Tally {
	return Tally{Served: make(map[string]int), Entered: make(map[string]int)}
}

// Add counts one result of a region's client.
func (m *Meter) Add(region string, c *Client, r *Result) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sources[c.Source.String()] = struct{}{}
	for _, t := range m.both(region) {
		t.Sent++
		if r.Err != nil {
			t.Failed++
			continue
		}
		t.Served[r.Served()]++
		t.Entered[r.Entered()]++
	}
	if r.Err != nil {
		if len(m.samples) >= maxSamples {
			m.samples = m.samples[1:]
		}
		m.samples = append(m.samples, sample{time.Now(), fmt.Sprintf("%s %s: %v", region, c.Protocol, r.Err)})
	}
}

// Late counts requests that found no free client.
func (m *Meter) Late(region string, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.both(region) {
		t.Late += n
	}
}

func (m *Meter) both(region string) []*Tally {
	t := m.regions[region]
	if t == nil {
		fresh := newTally()
		t = &fresh
		m.regions[region] = t
	}
	return []*Tally{&m.total, t}
}

// Sources returns how many client addresses were seen.
func (m *Meter) Sources() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.sources)
}

// A Mark is a moment to count from.
type Mark struct {
	At      time.Time
	total   Tally
	regions map[string]Tally
}

// Mark returns this moment.
func (m *Meter) Mark() Mark {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := Mark{At: time.Now(), total: m.total.clone(), regions: make(map[string]Tally)}
	for name, t := range m.regions {
		out.regions[name] = t.clone()
	}
	return out
}

// Since returns what was counted since a mark, in all regions.
func (m *Meter) Since(from Mark) Tally {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.total.minus(from.total)
	for _, s := range m.samples {
		if s.at.After(from.At) {
			t.Samples = append(t.Samples, s.text)
		}
	}
	return t
}

// RegionSince returns what was counted since a mark in one region.
func (m *Meter) RegionSince(region string, from Mark) Tally {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.regions[region]
	if t == nil {
		return newTally()
	}
	return t.minus(from.regions[region])
}

func (t *Tally) clone() Tally {
	out := *t
	out.Served, out.Entered = maps.Clone(t.Served), maps.Clone(t.Entered)
	return out
}

func (t *Tally) minus(from Tally) Tally {
	out := Tally{Sent: t.Sent - from.Sent, Failed: t.Failed - from.Failed, Late: t.Late - from.Late}
	out.Served, out.Entered = subtract(t.Served, from.Served), subtract(t.Entered, from.Entered)
	return out
}

func subtract(a, b map[string]int) map[string]int {
	out := make(map[string]int)
	for k, n := range a {
		if n != b[k] {
			out[k] = n - b[k]
		}
	}
	return out
}

// shares writes counts by name: "fra 120, iad 4".
func shares(counts map[string]int) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s %d", k, counts[k]))
	}
	if len(parts) == 0 {
		return "nobody"
	}
	return strings.Join(parts, ", ")
}
