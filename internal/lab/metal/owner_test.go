package metal_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"anyedge/internal/lab/metal"
	"anyedge/internal/lab/netns"
)

// TestOwner leads a lab through its life as edgectl lab does.
func TestOwner(t *testing.T) {
	opts := metal.Options{Prefix: prefix(t), Edged: edged(t), L4: "native"}
	if _, err := metal.Find(opts.Prefix); !errors.Is(err, metal.ErrNoLab) {
		t.Fatalf("a lab before the first: %v", err)
	}
	if _, err := metal.Down(t.Context(), opts.Prefix); !errors.Is(err, metal.ErrNoLab) {
		t.Errorf("down without a lab: %v", err)
	}
	ready, ended := make(chan metal.Status, 1), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { ended <- metal.Own(ctx, opts, func(s metal.Status) { ready <- s }) }()
	select {
	case s := <-ready:
		for _, c := range s.Clients {
			if want := map[string]string{"eu": "fra", "asia": "nrt"}[c.Region]; c.Geo != want {
				t.Errorf("%s enters %q at %s (%s), want %s", c.Region, c.Geo, c.VIP, c.Error, want)
			}
		}
		for _, e := range s.Edges {
			if !strings.HasPrefix(e.BGP, "1/1 established") || !strings.HasPrefix(e.Fabric, "2/2 geos") {
				t.Errorf("%s is said to be up: BGP %s, fabric %s", e.Name, e.BGP, e.Fabric)
			}
		}
	case err := <-ended:
		t.Fatal(err)
	}
	if _, err := metal.Up(t.Context(), opts); err == nil || !strings.Contains(err.Error(), "another one runs") {
		t.Errorf("a second lab of that name: %v", err)
	}
	r, err := metal.Find(opts.Prefix)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		words []string
		says  string // of the fault, or of the error
		ok    bool
	}{
		{[]string{"link", "iad-nrt", "loss=2.5%"}, "link iad-nrt loses 2.5%", true},
		{[]string{"process", "fra-edge2", "stop"}, "process fra-edge2 hangs", true},
		{[]string{"router", "iad"}, "router iad is dead", true},
		{[]string{"router", "nrt"}, "router nrt is dead", true},
		{[]string{"session", "fra-edge1"}, "session fra-edge1 is disabled", true},
		{[]string{"session", "iad-edge1"}, "", false}, // its router is dead
		{[]string{"backend", "nrt-a"}, "backend nrt-a is dead", true},
		{[]string{"backend", "nrt-a"}, "nrt-a is dead", false},
		{[]string{"link", "fra-fra"}, "there are links between", false},
		{[]string{"link", "fra-iad", "loss=0%"}, "above 0%", false},
		{[]string{"node", "lhr-edge1"}, "there is no edge", false},
		{[]string{"node", "fra-edge1", "gently"}, "takes nothing more", false},
		{[]string{"moon", "fra"}, "cannot be broken", false},
		{[]string{"node"}, "want: break link", false},
	} {
		var faults []string
		err := r.Ask(t.Context(), "POST /break", tt.words, &faults)
		switch {
		case tt.ok && (err != nil || !slices.Contains(faults, tt.says)):
			t.Errorf("%v: %v, %v, want %q", tt.words, faults, err, tt.says)
		case !tt.ok && (err == nil || !strings.Contains(err.Error(), tt.says)):
			t.Errorf("%v: error %v, want %q in it", tt.words, err, tt.says)
		}
	}
	var faults []string
	if err := r.Ask(t.Context(), "POST /heal", nil, &faults); err != nil || len(faults) > 0 {
		t.Errorf("heal: %v, left %v", err, faults)
	}
	within(t, 30*time.Second, "all is well again", func() bool {
		var s metal.Status
		if r.Ask(t.Context(), "GET /status", nil, &s) != nil {
			return false
		}
		return s.Well()
	})
	if removed, err := metal.Down(t.Context(), opts.Prefix); err != nil || len(removed) > 0 {
		t.Errorf("down: %v, and removed %v itself", err, removed)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if left := netns.List(opts.Prefix + "-"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
