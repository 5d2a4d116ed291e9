package lab

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"anyedge/internal/api"
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
// at which each of them loses its connection.
func (t *tour) watchH3(ctx context.Context) (<-chan time.Time, error) {
	lost := make(chan time.Time, h3Watchers)
	first := make(chan error, h3Watchers)
	for i := range h3Watchers {
		c := NewClient(t.region(hotRegion).entry.Addr(), clientAddr(probeFirst-100-i), H3, t.trust)
		go func() {
			defer c.Close()
			r := c.Get(ctx, "/watch")
			first <- r.Err
			for r.Err == nil && ctx.Err() == nil {
				t.pause(ctx, h3Every)
				r = c.Get(ctx, "/watch")
			}
			lost <- time.Now()
		}()
	}
	for range h3Watchers {
		if err := <-first; err != nil {
			return nil, fmt.Errorf("an h3 client cannot connect: %w", err)
		}
	}
	return lost, nil
}

// partition is step (g).
func (t *tour) partition(ctx context.Context) error {
	if err := t.split(ctx); err != nil {
		return err
	}
	if err := t.diverge(ctx); err != nil {
		return err
	}
	start := t.meter.Mark()
	t.pause(ctx, 3*time.Second)
	for _, r := range t.demo.regions {
		tally := t.meter.RegionSince(r.name, start)
		t.saw("%s is served by %s", r.name, shares(tally.Served))
		if only(tally.Served) != r.nearest[0] {
			return fmt.Errorf("%s should be served by %s", r.name, r.nearest[0])
		}
	}
	for _, o := range otherGeos() {
		if _, err := t.demo.Join(hotGeo + "-" + o); err != nil {
			return err
		}
	}
	took, err := t.until(ctx, "the same record versions everywhere", t.sameVersions(ctx))
	if err != nil {
		return err
	}
	t.saw("%s after the repair, all geos hold the same records: %s", short(took), t.versions(ctx, hotGeo))
	for _, geo := range []string{hotGeo, farGeo} {
		if _, err := t.demo.Revive(ctx, "backend", backendName(geo, 0)); err != nil {
			return err
		}
	}
	return t.home(ctx)
}

// otherGeos are those that the hot one is cut off from.
func otherGeos() []string { return []string{"iad", farGeo} }

// split cuts the hot geo off and waits until all have noticed.
func (t *tour) split(ctx context.Context) error {
	for _, o := range otherGeos() {
		if _, err := t.demo.Cut(hotGeo + "-" + o); err != nil {
			return err
		}
	}
	took, err := t.until(ctx, "both sides to notice the partition", func() (bool, string) {
		for _, o := range otherGeos() {
			if seen, why := t.unseen(ctx, hotGeo, o); !seen {
				return false, why
			}
			if seen, why := t.unseen(ctx, o, hotGeo); !seen {
				return false, why
			}
		}
		return true, ""
	})
	if err == nil {
		t.saw("%s and the others lost sight of each other after %s", hotGeo, short(took))
	}
	return err
}

// diverge changes something on both sides of the partition and waits until
// their records differ.
func (t *tour) diverge(ctx context.Context) error {
	for _, geo := range []string{hotGeo, farGeo} {
		if _, err := t.demo.Kill("backend", backendName(geo, 0)); err != nil {
			return err
		}
	}
	_, err := t.until(ctx, "the records to differ", func() (bool, string) {
		here, there := t.records(ctx, hotGeo), t.records(ctx, farGeo)
		return here[hotGeo] != there[hotGeo] && here[farGeo] != there[farGeo], fmt.Sprintf("%v and %v", here, there)
	})
	if err != nil {
		return err
	}
	t.saw("a backend died on each side: %s holds %s; %s holds %s", hotGeo, t.versions(ctx, hotGeo), farGeo, t.versions(ctx, farGeo))
	return nil
}

// unseen reports whether one geo says that it does not see another.
func (t *tour) unseen(ctx context.Context, who, whom string) (bool, string) {
	g, err := t.admin[who].Geos(ctx)
	if err != nil {
		return false, err.Error()
	}
	for _, other := range g.Geos {
		if other.Name == whom {
			return other.State == "unseen", fmt.Sprintf("%s says %s is %s", who, whom, other.State)
		}
	}
	return false, fmt.Sprintf("%s does not know %s", who, whom)
}

// records returns the versions that a geo holds, by the writer's geo.
func (t *tour) records(ctx context.Context, geo string) map[string]api.RecordVersion {
	out := make(map[string]api.RecordVersion)
	g, err := t.admin[geo].Geos(ctx)
	if err != nil {
		return out
	}
	for _, other := range g.Geos {
		for _, n := range other.Nodes {
			if n.Record != nil {
				out[other.Name] = *n.Record
			}
		}
	}
	return out
}

// versions writes what a geo holds for people.
func (t *tour) versions(ctx context.Context, geo string) string {
	r := t.records(ctx, geo)
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(r)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, r[name].Counter))
	}
	return strings.Join(parts, ", ")
}

// sameVersions is the condition that every geo holds the same version of every
// geo's record.
func (t *tour) sameVersions(ctx context.Context) func() (bool, string) {
	return func() (bool, string) {
		want := t.records(ctx, hotGeo)
		for name := range t.admin {
			if got := t.records(ctx, name); len(got) != len(t.admin) || !maps.Equal(got, want) {
				return false, fmt.Sprintf("%s holds %v, %s holds %v", name, got, hotGeo, want)
			}
		}
		return true, ""
	}
}

// drain is step (h).
func (t *tour) drain(ctx context.Context) error {
	start := t.meter.Mark()
	order := api.DrainRequest{Kind: "geo", Name: hotGeo, Reason: "the tour"}
	if _, err := t.admin[hotGeo].Drain(ctx, order); err != nil {
		return fmt.Errorf("edgectl drain geo %s: %w", hotGeo, err)
	}
	if _, err := t.vipState(ctx, hotGeo, "withdrawn"); err != nil {
		return err
	}
	geo, err := t.entersAt(ctx, hotRegion, func(geo string) bool { return geo != hotGeo })
	if err != nil {
		return err
	}
	t.saw("%s after the order, new connections of %s enter at %s", short(time.Since(start.At)), hotRegion, geo)
	t.pause(ctx, 2*time.Second)
	tally := t.meter.RegionSince(hotRegion, start)
	t.saw("%s meanwhile: entered at %s; served by %s", hotRegion, shares(tally.Entered), shares(tally.Served))
	back := time.Now()
	if _, err := t.admin[hotGeo].Undrain(ctx, order); err != nil {
		return fmt.Errorf("edgectl undrain geo %s: %w", hotGeo, err)
	}
	if _, err := t.vipState(ctx, hotGeo, "announced"); err != nil {
		return err
	}
	if err := t.home(ctx); err != nil {
		return err
	}
	t.saw("%s after it was taken back, %s serves %s again", short(time.Since(back)), hotGeo, hotRegion)
	return nil
}
