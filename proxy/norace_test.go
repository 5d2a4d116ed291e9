//go:build !race

package proxy_test

// raceEnabled: memory of exchanges is not used twice.
const raceEnabled = false
