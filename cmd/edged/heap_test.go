package main

import "testing"

func TestGCPercent(t *testing.T) {
	for live, want := range map[uint64]int{
		0: 100, 1: 3200, 1 << 20: 3200, 4 << 20: 1600, 64 << 20: 100, 1 << 30: 100, 32 << 20: 200,
	} {
		if got := gcPercent(live); got != want {
			t.Errorf("%d bytes live: %d %%, want %d", live, got, want)
		}
	}
}
