package admin

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"anyedge/internal/api"
)

// lineTimeout is how long a reader of a live trace may take for one line.
const lineTimeout = 30 * time.Second

// traces answers with the requests that are kept.
func (s *Server) traces(w http.ResponseWriter, r *http.Request) {
	t, err := s.source.Traces(r.URL.Query())
	s.reply(w, t, err)
}

// traceLive shows requests as they end, until the caller goes away or takes
// nothing for a while.
func (s *Server) traceLive(w http.ResponseWriter, r *http.Request) {
	out := http.NewResponseController(w)
	enc := json.NewEncoder(w)
	begun := false
	err := s.source.WatchTraces(r.Context(), r.URL.Query(), func(e api.TraceEvent) error {
		if !begun {
			begun = true
			w.Header().Set("Content-Type", "application/jsonl")
			w.WriteHeader(http.StatusOK)
		}
		if err := out.SetWriteDeadline(time.Now().Add(lineTimeout)); err != nil {
			return err
		}
		return errors.Join(enc.Encode(e), out.Flush())
	})
	switch {
	case begun:
		s.log.Debug("live trace ended", "err", err)
	case err != nil:
		s.reply(w, nil, err)
	}
}
