package crew_test

import (
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"anyedge/internal/crew"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// All work is done, side by side, and End waits for it.
func TestCrew(t *testing.T) {
	var done atomic.Int64
	together := make(chan struct{})
	c := crew.New(func(n int64) {
		if n == 1 {
			<-together
		}
		done.Add(n)
	})
	c.Do(1)
	for range 1000 {
		c.Do(10)
	}
	close(together)
	c.End()
	if got := done.Load(); got != 10001 {
		t.Error(got)
	}
	c.Do(5) // behind the end, as a connection that is late may
	c.End()
	if got := done.Load(); got != 10006 {
		t.Error(got)
	}
}
