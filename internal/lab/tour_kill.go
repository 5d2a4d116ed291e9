package lab

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

const (
	h3Watchers    = 10
	h3Every       = 100 * time.Millisecond // between two requests of a watcher
	h3NoticeLimit = time.Second
)

// geoDies is step (f).
func (t *tour) geoDies(ctx context.Context) error {
	watchers, err := t.watchH3(ctx)
	if err != nil {
		return err
	}
	start := t.meter.Mark()
	if _, err := t.demo.Kill("geo", hotGeo); err != nil {
		return err
	}
	geo, err := t.entersAt(ctx, hotRegion, func(geo string) bool { return geo != hotGeo })
	gap := time.Since(start.At)
	if err != nil {
		return err
	}
	t.saw("new connections of %s enter at %s; the gap was %s", hotRegion, geo, short(gap))
	slowest, noticed := time.Duration(0), 0
	for range h3Watchers {
		select {
		case at := <-watchers:
			slowest, noticed = max(slowest, at.Sub(start.At)), noticed+1
		case <-time.After(requestTimeout):
		}
	}
	t.saw("%d of %d h3 clients noticed, the slowest after %s", noticed, h3Watchers, short(slowest))
	// An idle h3 client learns it from its next request: until all have asked.
	t.pause(ctx, time.Until(start.At.Add(steadyRound)))
	tally := t.meter.Since(start)
	t.saw("%d of %d requests broke; %s was served by %s", tally.Failed, tally.Sent, hotRegion, shares(t.meter.RegionSince(hotRegion, start).Served))

	back := time.Now()
	if _, err := t.demo.Revive(ctx, "geo", hotGeo); err != nil {
		return err
	}
	if err := t.home(ctx); err != nil {
		return err
	}
	t.saw("%s after its start, %s serves %s again", short(time.Since(back)), hotGeo, hotRegion)
	t.renew()
	if noticed < h3Watchers || slowest >= h3NoticeLimit {
		return fmt.Errorf("h3 clients should notice within %s", h3NoticeLimit)
	}
	return nil
}

// watchH3 starts h3 clients that ask all the time; the channel gets the moment
// at which each of them learns that its connection is lost.
func (t *tour) watchH3(ctx context.Context) (<-chan time.Time, error) {
	lost := make(chan time.Time, h3Watchers)
	first := make(chan error, h3Watchers)
	for i := range h3Watchers {
		c := NewClient(t.region(hotRegion).entry.Addr(), clientAddr(probeFirst-100-i), H3, t.trust)
		go func() {
			defer c.Close()
			r := c.Get(ctx, "/watch")
			first <- r.Err
			if conn, ok := c.conn.(*h3Conn); ok && r.Err == nil {
				watch(ctx, conn, "https://"+c.entry.String()+"/watch")
				lost <- time.Now()
			}
		}()
	}
	for range h3Watchers {
		if err := <-first; err != nil {
			return nil, fmt.Errorf("an h3 client cannot connect: %w", err)
		}
	}
	return lost, nil
}

// watch sends requests, whether or not the last one was answered, until the
// connection or ctx ends.
func watch(ctx context.Context, conn *h3Conn, url string) {
	tick := time.NewTicker(h3Every)
	defer tick.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for {
		select {
		case <-conn.conn.Context().Done():
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		wg.Go(func() {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
			if err != nil {
				return
			}
			resp, err := conn.RoundTrip(r)
			if err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		})
	}
}
