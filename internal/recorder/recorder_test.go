package recorder_test

import (
	"context"
	"testing"
	"time"

	"anyedge/internal/recorder"
)

func TestRecorderKeepsTheNewest(t *testing.T) {
	r := recorder.New()
	t0 := time.Unix(1_764_000_000, 0)
	for i := range recorder.Capacity + 10 {
		what := "vip/www"
		if i%2 == 1 {
			what = "vip/api"
		}
		r.Add(t0.Add(time.Duration(i)*time.Second), what, "changed")
	}
	all := r.Since(t.Context(), 0, time.Time{})
	if len(all) != recorder.Capacity || all[0].ID != 11 || all[len(all)-1].ID != recorder.Capacity+10 {
		t.Fatalf("kept %d events, %d to %d", len(all), all[0].ID, all[len(all)-1].ID)
	}
	if got := r.Since(t.Context(), recorder.Capacity+8, time.Time{}); len(got) != 2 {
		t.Fatalf("%d events after the last but two, want 2", len(got))
	}
	if got := r.Since(t.Context(), 0, t0.Add((recorder.Capacity+9)*time.Second)); len(got) != 1 {
		t.Fatalf("%d events since the last one's time, want 1", len(got))
	}
	last := r.Last("vip/api", 2)
	if len(last) != 2 || last[0].ID != recorder.Capacity+8 || last[1].ID != recorder.Capacity+10 {
		t.Fatalf("last two of vip/api: %+v", last)
	}
}

func TestSinceWaits(t *testing.T) {
	r := recorder.New()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if got := r.Since(ended, 0, time.Time{}); got != nil {
		t.Fatalf("got %v from an empty recorder", got)
	}
	got := make(chan []recorder.Event)
	go func() { got <- r.Since(t.Context(), 0, time.Time{}) }()
	r.Add(time.Now(), "vip/www", "announced")
	if e := <-got; len(e) != 1 || e[0].Text != "announced" {
		t.Fatalf("waiter got %v", e)
	}
}
