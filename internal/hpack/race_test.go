//go:build race

package hpack_test

// raceEnabled: arenas are not used twice.
const raceEnabled = true
