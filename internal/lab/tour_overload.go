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
	overloadRamp   = 3 * time.Second // a crowd does not come in one instant
	overloadSettle = 10 * time.Second
	overloadWindow = 8 // seconds that are looked at
	// overloadTries is how many windows may be looked at when this machine was
	// too busy to send what it should.
	overloadTries = 5
	tolerance     = 0.05 // of capacity: the hot geo's served rate around its target
)

// overload is step (e).
func (t *tour) overload(ctx context.Context) error {
	loadCtx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	load := NewLoad(LoadConfig{
		Region: hotRegion, Entry: t.region(hotRegion).entry.Addr(), Rate: hotRate - steadyLoads()[0].Rate, Ramp: overloadRamp,
		Clients: loadClients, First: loadFirst, Mix: []Protocol{H1, H2, H1, H3}, Path: "/hot", TLS: t.trust,
	}, t.meter)
	wg.Go(func() { _ = load.Run(loadCtx, func() {}) })
	t.pause(ctx, overloadRamp+overloadSettle)

	err := t.overloaded(ctx)
	cancel()
	wg.Wait()
	return errors.Join(err, t.calm(ctx))
}

// A window is some seconds of the hot region's and of all requests.
type window struct {
	own, all Tally
	seconds  float64
	spoilt   string // why it says nothing about the geos; "" when it does
}

// window counts for some seconds. It is spoilt when in one of them this
// machine did not send what it should.
func (t *tour) window(ctx context.Context) window {
	start := t.meter.Mark()
	var w window
	for range overloadWindow {
		second := t.meter.Mark()
		t.pause(ctx, time.Second)
		tally := t.meter.RegionSince(hotRegion, second)
		rate := float64(tally.Sent) / time.Since(second.At).Seconds()
		if tally.Late > 0 || math.Abs(rate-hotRate) > 0.15*hotRate {
			w.spoilt = fmt.Sprintf("%.0f requests/s in one second, %d not sent in time", rate, tally.Late)
		}
	}
	w.seconds = time.Since(start.At).Seconds()
	w.own, w.all = t.meter.RegionSince(hotRegion, start), t.meter.Since(start)
	return w
}

// overloaded looks at one window in which the whole load was there. What is
// wrong in a spoilt window may be this machine's fault: another one tells.
func (t *tour) overloaded(ctx context.Context) error {
	var errs []error
	for range overloadTries {
		w := t.window(ctx)
		errs = t.judge(w)
		enough := float64(w.own.Sent)/w.seconds > 0.95*hotRate
		if w.spoilt == "" || enough && len(errs) == 0 {
			return errors.Join(errs...)
		}
		t.saw("but this machine was too busy to send the load evenly (%s): once more", w.spoilt)
	}
	return errors.Join(append(errs, errors.New("this machine is too busy for the load"))...)
}

// judge says what was seen in a window, and what of it should not be.
func (t *tour) judge(w window) (errs []error) {
	own, all, seconds := w.own, w.all, w.seconds
	rate := func(n int) float64 { return float64(n) / seconds }
	t.saw("%.0f requests/s at %s for %.1f s: served by %s", rate(own.Sent), hotRegion, seconds, shares(own.Served))
	hot := rate(all.Served[hotGeo]) / Capacity
	t.saw("%s served %.0f requests/s, %.1f%% of its capacity; its target is %.0f%%", hotGeo, rate(all.Served[hotGeo]), hot*100, Target*100)
	for _, geo := range t.region(hotRegion).nearest[1:] {
		t.saw("%s served %.0f requests/s in all, %.1f%% of its capacity; %.0f/s of them for %s", geo,
			rate(all.Served[geo]), rate(all.Served[geo])/Capacity*100, rate(own.Served[geo]), hotRegion)
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
	return errs
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
