package lab

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"
)

const (
	overloadSettle = 10 * time.Second
	// overloadTries is how many windows may be taken because this machine was
	// too busy to send what it should.
	overloadTries = 4
	tolerance     = 0.05 // of capacity: the hot geo's served rate around its target
)

// overload is step (e).
func (t *tour) overload(ctx context.Context) error {
	loadCtx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	load := NewLoad(LoadConfig{
		Region: hotRegion, Entry: t.region(hotRegion).entry.Addr(), Rate: hotRate - steadyLoads()[0].Rate,
		Clients: loadClients, First: loadFirst, Mix: []Protocol{H1, H2, H1, H3}, Path: "/hot", TLS: t.trust,
	}, t.meter)
	wg.Go(func() { _ = load.Run(loadCtx, func() {}) })
	t.pause(ctx, overloadSettle)

	err := t.overloaded(ctx)
	cancel()
	wg.Wait()
	return errors.Join(err, t.calm(ctx))
}

// overloaded looks at one window in which the whole load was there.
func (t *tour) overloaded(ctx context.Context) error {
	var own, all Tally
	var seconds float64
	for range overloadTries {
		start := t.meter.Mark()
		t.pause(ctx, overloadWin)
		seconds = time.Since(start.At).Seconds()
		own, all = t.meter.RegionSince(hotRegion, start), t.meter.Since(start)
		if float64(own.Sent)/seconds > 0.95*hotRate {
			break
		}
		t.saw("this machine was too busy to send more than %.0f requests/s at %s: once more", float64(own.Sent)/seconds, hotRegion)
	}
	rate := func(n int) float64 { return float64(n) / seconds }
	t.saw("%.0f requests/s at %s for %.1f s: served by %s", rate(own.Sent), hotRegion, seconds, shares(own.Served))
	hot := rate(all.Served[hotGeo]) / Capacity
	t.saw("%s served %.0f requests/s, %.1f%% of its capacity; its target is %.0f%%", hotGeo, rate(all.Served[hotGeo]), hot*100, Target*100)
	for _, geo := range t.region(hotRegion).nearest[1:] {
		t.saw("%s served %.0f requests/s in all, %.1f%% of its capacity; %.0f/s of them for %s", geo,
			rate(all.Served[geo]), rate(all.Served[geo])/Capacity*100, rate(own.Served[geo]), hotRegion)
	}
	var errs []error
	if rate(own.Sent) < 0.95*hotRate {
		errs = append(errs, fmt.Errorf("%.0f requests/s were sent, not %.0f: this machine is too busy", rate(own.Sent), hotRate))
	}
	if math.Abs(hot-Target) > tolerance {
		errs = append(errs, fmt.Errorf("%s served %.1f%% of its capacity, not %.0f%% ± %.0f points", hotGeo, hot*100, Target*100, tolerance*100))
	}
	for _, geo := range t.region(hotRegion).nearest[1:] {
		if own.Served[geo] == 0 {
			errs = append(errs, fmt.Errorf("%s served nothing of the excess", geo))
		}
		if u := rate(all.Served[geo]) / Capacity; u > Target+2*tolerance {
			errs = append(errs, fmt.Errorf("%s was pushed to %.1f%% of its capacity by foreign work", geo, u*100))
		}
	}
	near, far := t.region(hotRegion).nearest[1], t.region(hotRegion).nearest[2]
	if u := rate(all.Served[near]) / Capacity; u < Target-3*tolerance {
		errs = append(errs, fmt.Errorf("%s was used while the nearer %s had room: %.1f%%", far, near, u*100))
	}
	return errors.Join(errs...)
}

// calm waits until nothing is served elsewhere any more.
func (t *tour) calm(ctx context.Context) error {
	start := time.Now()
	mark, looked := t.meter.Mark(), time.Now()
	_, err := t.until(ctx, "the shedding to end", func() (bool, string) {
		if time.Since(looked) < time.Second {
			return false, "too early to tell"
		}
		tally := t.meter.RegionSince(hotRegion, mark)
		mark, looked = t.meter.Mark(), time.Now()
		return tally.Sent > 0 && only(tally.Served) == hotGeo, hotRegion + " is served by " + shares(tally.Served)
	})
	if err != nil {
		return err
	}
	_, err = t.until(ctx, hotGeo+" to say that it sheds no more", func() (bool, string) {
		g, err := t.admin[hotGeo].Geos(ctx)
		if err != nil {
			return false, err.Error()
		}
		return len(g.Geos) > 0 && g.Geos[0].State == "up", fmt.Sprintf("%+v", g.Geos)
	})
	t.saw("%s after the load, all of %s was served by %s again", short(time.Since(start)), hotRegion, hotGeo)
	return err
}
