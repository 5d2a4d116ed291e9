package main

import (
	"log/slog"
	"time"
)

// WatchFor pats a watchdog at socket, as a node whose request path was last
// alive when alive says.
func WatchFor(socket string, watchdog time.Duration, alive func() time.Time, log *slog.Logger) (stop func()) {
	m := &manager{socket: socket, watchdog: watchdog, log: log}
	return m.watch(alive, func() string { return "test" })
}
