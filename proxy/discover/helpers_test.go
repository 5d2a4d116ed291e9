package discover_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"anyedge/proxy/discover"
	"anyedge/proxy/upstream"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a condition may take on a busy machine.
const patience = 30 * time.Second

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("still waiting for: %s", what)
		}
	}
}

// A listener keeps the lists that it is told, in words.
type listener struct {
	refuse error

	mu    sync.Mutex
	lists []string
}

func (l *listener) tell(list []upstream.BackendConfig) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuse != nil {
		return l.refuse
	}
	l.lists = append(l.lists, words(list))
	return nil
}

func (l *listener) told() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lists)
}

func (l *listener) last() string {
	all := l.told()
	if len(all) == 0 {
		return "nothing"
	}
	return all[len(all)-1]
}

// words writes a list as "URL weight/priority" of each.
func words(list []upstream.BackendConfig) string {
	var out []string
	for _, b := range list {
		out = append(out, fmt.Sprintf("%s %d/%d", b.URL, b.Weight, b.Priority))
	}
	return strings.Join(out, ", ")
}

// run runs a source until the test ends.
func run(t *testing.T, c discover.Config, tell func([]upstream.BackendConfig) error) *discover.Source {
	t.Helper()
	s, err := discover.New("shop", c, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx, tell) }()
	t.Cleanup(func() { cancel(); <-done })
	return s
}
