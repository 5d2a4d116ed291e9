package lab

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// nearest is step (a).
func (t *tour) nearest(ctx context.Context) error {
	if err := t.settled(ctx); err != nil {
		return err
	}
	start := t.meter.Mark()
	_, err := t.until(ctx, fmt.Sprintf("requests from %d addresses", minSources), func() (bool, string) {
		n := t.meter.Sources()
		return n >= minSources && time.Since(start.At) > 5*time.Second, fmt.Sprintf("%d of them", n)
	})
	if err != nil {
		return err
	}
	var errs []error
	all := t.meter.Since(start)
	seconds := time.Since(start.At).Seconds()
	t.saw("%.0f requests/s from %d addresses, over h1, h2 and h3", float64(all.Sent)/seconds, t.meter.Sources())
	for _, r := range t.demo.regions {
		tally := t.meter.RegionSince(r.name, start)
		t.saw("%s: entered at %s; served by %s", r.name, shares(tally.Entered), shares(tally.Served))
		if only(tally.Entered) != r.nearest[0] || only(tally.Served) != r.nearest[0] {
			errs = append(errs, fmt.Errorf("%s should be served by %s alone", r.name, r.nearest[0]))
		}
		for _, p := range []Protocol{H1, H2, H3} {
			if res := t.fresh(ctx, r.name, p); res.Err != nil || res.Served() != r.nearest[0] {
				errs = append(errs, fmt.Errorf("%s over %s: served by %q, %w", r.name, p, res.Served(), res.Err))
			}
		}
		if _, err := t.vipState(ctx, r.nearest[0], "announced"); err != nil {
			errs = append(errs, err)
		}
		errs = append(errs, t.heard(r))
	}
	return errors.Join(errs...)
}

// heard looks at what a region's router knows of both prefixes.
func (t *tour) heard(r *region) error {
	for _, p := range []string{prefix4, prefix6} {
		best, ok := r.router.Best(netip.MustParsePrefix(p))
		if !ok || best.Geo != r.nearest[0] {
			return fmt.Errorf("the router of %s reaches %s by %q, not by %s", r.name, p, best.Geo, r.nearest[0])
		}
		t.saw("the router of %s reaches %s by %s, AS path %v, next hop %s", r.name, p, best.Geo, best.ASPath, best.NextHop)
	}
	return nil
}

// only returns the one name that was counted, "" when there are more or none.
func only(counts map[string]int) string {
	if len(counts) == 1 {
		for name := range counts {
			return name
		}
	}
	return ""
}

// replay is step (b).
func (t *tour) replay(ctx context.Context) error {
	const target = farGeo
	body := make([]byte, 64<<10)
	_, _ = rand.Read(body)
	sum := sha256.Sum256(body)
	var errs []error
	for i, p := range []Protocol{H1, H2, H3} {
		c := NewClient(t.region(hotRegion).entry.Addr(), clientAddr(probeFirst-1-i), p, t.trust)
		r := c.Do(ctx, http.MethodPost, "/replay/"+target, bytes.NewReader(body))
		c.Close()
		t.saw("POST 64 KiB over %s: entered at %s, served by %s in %s, %d bytes, SHA-256 %.8s…", p, r.Entered(), r.Served(), short(r.Took), r.Answer.Body, r.Answer.SHA256)
		switch {
		case r.Err != nil:
			errs = append(errs, fmt.Errorf("over %s: %w", p, r.Err))
		case r.Status != http.StatusOK || r.Answer.Geo != target:
			errs = append(errs, fmt.Errorf("over %s: status %d from %q, want 200 from %s", p, r.Status, r.Answer.Geo, target))
		case r.Answer.SHA256 != hex.EncodeToString(sum[:]) || r.Answer.Method != http.MethodPost:
			errs = append(errs, fmt.Errorf("over %s: the app there got another request: %s, %d bytes, %s", p, r.Answer.Method, r.Answer.Body, r.Answer.SHA256))
		case r.Entered() != hotGeo:
			errs = append(errs, fmt.Errorf("over %s: entered at %q, want %s", p, r.Entered(), hotGeo))
		case r.Answer.Via["Replay-Geo-Src"] == "":
			errs = append(errs, fmt.Errorf("over %s: the app there saw no Replay-Geo-Src", p))
		}
		for name := range r.Header {
			if strings.HasPrefix(name, "Replay-Geo") {
				errs = append(errs, fmt.Errorf("over %s: the client sees %s", p, name))
			}
		}
	}
	return errors.Join(errs...)
}

// backendsDie is step (c).
func (t *tour) backendsDie(ctx context.Context) error {
	start := t.meter.Mark()
	for _, b := range t.demo.backends {
		if b.Geo == hotGeo {
			if err := b.Down(); err != nil {
				return err
			}
		}
	}
	if _, err := t.vipState(ctx, hotGeo, "withdrawn"); err != nil {
		return err
	}
	geo, err := t.entersAt(ctx, hotRegion, func(geo string) bool { return geo != hotGeo })
	if err != nil {
		return err
	}
	next := t.region(hotRegion).nearest[1]
	t.saw("%s after the death, new connections of %s enter at %s", short(time.Since(start.At)), hotRegion, geo)
	if geo != next {
		return fmt.Errorf("they should enter at %s, the next nearest", next)
	}
	t.pause(ctx, 2*time.Second)
	tally := t.meter.RegionSince(hotRegion, start)
	t.saw("%s meanwhile: entered at %s; served by %s", hotRegion, shares(tally.Entered), shares(tally.Served))
	if tally.Entered[hotGeo] == 0 || tally.Served[next] == 0 {
		return fmt.Errorf("connections to %s should live on and be served by %s", hotGeo, next)
	}
	return nil
}

// backendsRecover is step (d).
func (t *tour) backendsRecover(ctx context.Context) error {
	start := time.Now()
	for _, b := range t.demo.backends {
		if b.Geo == hotGeo {
			if err := b.Up(ctx); err != nil {
				return err
			}
		}
	}
	if _, err := t.vipState(ctx, hotGeo, "announced"); err != nil {
		return err
	}
	if err := t.home(ctx); err != nil {
		return err
	}
	t.saw("%s after the recovery, new connections of %s enter at %s and are served there", short(time.Since(start)), hotRegion, hotGeo)
	from := t.meter.Mark()
	t.pause(ctx, 2*time.Second)
	tally := t.meter.RegionSince(hotRegion, from)
	t.saw("%s then: entered at %s; served by %s", hotRegion, shares(tally.Entered), shares(tally.Served))
	if tally.Served[hotGeo] == 0 || tally.Served[hotGeo] < tally.Entered[hotGeo] {
		return fmt.Errorf("what enters at %s should be served there again", hotGeo)
	}
	return nil
}
