package fabric

import (
	"context"
	"sync"
)

// A crew runs goroutines on behalf of callbacks that have no context of their
// own. All of them end with the Run that owns the crew.
type crew struct {
	jobs chan func(context.Context)
	done chan struct{} // closed when no more jobs are taken
}

func newCrew() *crew {
	return &crew{jobs: make(chan func(context.Context)), done: make(chan struct{})}
}

// Go runs job in a goroutine; after the end it does nothing.
func (c *crew) Go(job func(ctx context.Context)) {
	select {
	case c.jobs <- job:
	case <-c.done:
	}
}

// run takes jobs until ctx ends, then waits for all of them.
func (c *crew) run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	defer close(c.done)
	for {
		select {
		case job := <-c.jobs:
			running.Go(func() { job(ctx) })
		case <-ctx.Done():
			return
		}
	}
}
