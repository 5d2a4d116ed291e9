package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// An outcome says how one operation ended.
type outcome struct {
	kind  string // "" if it ended as it should
	wrong string // what bytes were wrong, if they were
}

// A window is the time of a fault, with what follows from it.
type window struct{ begin, end time.Time }

// A tally counts operations by their way and how they ended.
type tally struct {
	start time.Time

	mu          sync.Mutex                // guards what follows
	good        map[string]map[string]int // by operation and way
	explained   map[string]int            // failures in the time of a fault, by kind
	unexplained map[string]int
	wrongs      []string
	bytes       int64
	windows     []window
	happened    map[string]int // faults
}

func newTally() *tally {
	return &tally{
		start: time.Now(), good: map[string]map[string]int{}, explained: map[string]int{}, unexplained: map[string]int{}, happened: map[string]int{},
	}
}

// fault notes that one begins, and that it is over, when that is called.
func (t *tally) fault(name string) (over func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.happened[name]++
	at := len(t.windows)
	t.windows = append(t.windows, window{begin: time.Now()})
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.windows[at].end = time.Now()
	}
}

// add counts an operation that began then and ends now.
func (t *tally) add(operation, way string, began time.Time, bytes int64, o outcome) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bytes += bytes
	what := operation + ", " + way
	switch {
	case o.wrong != "":
		t.wrongs = append(t.wrongs, fmt.Sprintf("%s %s: %s", time.Now().Format(time.TimeOnly), what, o.wrong))
	case o.kind == "":
		if t.good[operation] == nil {
			t.good[operation] = map[string]int{}
		}
		t.good[operation][way]++
	case t.inFault(began):
		t.explained[what+": "+o.kind]++
	default:
		t.unexplained[what+": "+o.kind]++
	}
}

// inFault reports whether a fault was on at some time since began. The caller
// holds mu.
func (t *tally) inFault(began time.Time) bool {
	for _, w := range slices.Backward(t.windows) {
		if w.end.IsZero() || w.end.After(began) {
			return true
		}
	}
	return false
}

// failed is how many operations ended otherwise than they should, outside of
// faults.
func (t *tally) failed() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return sumOf(t.unexplained) + len(t.wrongs)
}

// counts returns how many operations ended well, failed in a fault, failed
// otherwise, and had wrong bytes.
func (t *tally) counts() (good, explained, unexplained, wrong int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, ways := range t.good {
		good += sumOf(ways)
	}
	return good, sumOf(t.explained), sumOf(t.unexplained), len(t.wrongs)
}

func sumOf(m map[string]int) (sum int) {
	for _, n := range m {
		sum += n
	}
	return sum
}

// print writes all of it.
func (t *tally) print(w io.Writer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	ways := map[string]int{}
	for _, of := range t.good {
		for way, n := range of {
			ways[way] += n
		}
	}
	columns := slices.Sorted(maps.Keys(ways))
	fmt.Fprintf(table, "ended as they should\t%s\n", strings.Join(columns, "\t"))
	for _, operation := range slices.Sorted(maps.Keys(t.good)) {
		fmt.Fprint(table, operation)
		for _, way := range columns {
			fmt.Fprintf(table, "\t%d", t.good[operation][way])
		}
		fmt.Fprintln(table)
	}
	for _, part := range []struct {
		title string
		of    map[string]int
	}{
		{"faults", t.happened},
		{"failed while a fault was on", t.explained},
		{"failed otherwise", t.unexplained},
	} {
		fmt.Fprintf(table, "\n%s\t%d\n", part.title, sumOf(part.of))
		for _, k := range slices.Sorted(maps.Keys(part.of)) {
			fmt.Fprintf(table, "  %s\t%d\n", k, part.of[k])
		}
	}
	_ = table.Flush()
	fmt.Fprintf(w, "\n%d MB of contents checked, %d wrong\n", t.bytes/1e6, len(t.wrongs))
	for _, s := range t.wrongs[:min(20, len(t.wrongs))] {
		fmt.Fprintln(w, "  "+s)
	}
}
