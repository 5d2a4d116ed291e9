package proxy

import (
	"strconv"
	"time"

	"anyedge/internal/message"
)

// fieldTiming tells a browser's tools where the time went (W3C Server Timing).
const fieldTiming = "Server-Timing"

// addTiming tells, where the service is configured to: how long this edge took, how
// long the backend or the geo that answered, and which geo that was. What the app
// says of itself stays.
func (e *Exchange) addTiming(h *message.Header) {
	if e.service == nil || !e.service.cfg.ServerTiming {
		return
	}
	r := &e.record
	own := time.Since(r.start)
	b := make([]byte, 0, 96)
	if r.answered && !r.asked.IsZero() {
		took := r.heard.Sub(r.asked)
		own -= took
		if e.served == e.proxy.setup.Geo {
			b = append(b, "backend"...)
		} else {
			b = append(append(append(b, `geo;desc="`...), e.served...), '"')
		}
		b = append(appendDuration(b, took), ", "...)
	}
	h.Add(fieldTiming, string(appendDuration(append(b, "edge"...), own)))
}

// appendDuration adds the parameter dur, in milliseconds.
func appendDuration(b []byte, d time.Duration) []byte {
	return strconv.AppendFloat(append(b, ";dur="...), float64(max(0, d).Microseconds())/1000, 'f', 3, 64)
}
