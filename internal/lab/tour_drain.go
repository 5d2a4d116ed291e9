package lab

import (
	"context"
	"fmt"
	"time"

	"anyedge/internal/api"
)

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
