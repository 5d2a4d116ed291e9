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
