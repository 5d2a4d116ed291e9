package lab

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	maxSlow = time.Minute
	maxBody = 128 << 20 // bytes of a request that the demo app reads
)

// An Answer is what the demo app says about a request.
type Answer struct {
	Geo     string `json:"geo"`     // that served it
	Backend string `json:"backend"` // that served it
	Method  string `json:"method"`
	Path    string `json:"path"`
	// Via holds the fields that tell how the request came here.
	Via    map[string]string `json:"via"`
	Body   int64             `json:"body"` // bytes
	SHA256 string            `json:"sha256"`
}

// App is the demo's application, one instance of it:
//
//	/healthz     200
//	/replay/GEO  asks the edge to serve the request in GEO, unless it is there
//	/slow/MS     answers after that many milliseconds
//	/status/N    answers with that status
//	/…           200
//
// All but /healthz answer with an [Answer].
func App(geo, backend string) http.Handler {
	a := &app{geo: geo, backend: backend}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("/replay/{geo}", a.replay)
	mux.HandleFunc("/slow/{ms}", a.slow)
	mux.HandleFunc("/status/{code}", a.status)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { a.answer(w, r, http.StatusOK) })
	return mux
}

type app struct{ geo, backend string }

func (a *app) replay(w http.ResponseWriter, r *http.Request) {
	// It is where it wants to be, or here because someone asked for it.
	if a.geo == r.PathValue("geo") || r.Header.Get("Replay-Geo-Src") != "" {
		a.answer(w, r, http.StatusOK)
		return
	}
	w.Header().Set("Replay-Geo", r.PathValue("geo"))
	http.Error(w, "this request belongs to "+r.PathValue("geo"), http.StatusConflict)
}

func (a *app) slow(w http.ResponseWriter, r *http.Request) {
	ms, err := strconv.Atoi(r.PathValue("ms"))
	d := time.Duration(ms) * time.Millisecond
	if err != nil || d < 0 || d > maxSlow {
		http.Error(w, "want /slow/MS, at most 60000", http.StatusBadRequest)
		return
	}
	select {
	case <-time.After(d):
		a.answer(w, r, http.StatusOK)
	case <-r.Context().Done():
	}
}

func (a *app) status(w http.ResponseWriter, r *http.Request) {
	code, err := strconv.Atoi(r.PathValue("code"))
	if err != nil || code < 200 || code > 599 {
		http.Error(w, "want /status/N, 200 to 599", http.StatusBadRequest)
		return
	}
	a.answer(w, r, code)
}

func (a *app) answer(w http.ResponseWriter, r *http.Request, status int) {
	sum := sha256.New()
	n, err := io.Copy(sum, http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, "the body broke off: "+err.Error(), http.StatusBadRequest)
		return
	}
	text, err := json.Marshal(Answer{
		Geo: a.geo, Backend: a.backend, Method: r.Method, Path: r.URL.RequestURI(),
		Via: via(r.Header), Body: n, SHA256: hex.EncodeToString(sum.Sum(nil)),
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n'))
}

// via picks the fields of h that the way here has left.
func via(h http.Header) map[string]string {
	out := make(map[string]string)
	for name, values := range h {
		for _, prefix := range []string{"Edge-", "Forwarded", "X-Forwarded-", "Via", "Replay-Geo"} {
			if strings.HasPrefix(name, prefix) {
				out[name] = strings.Join(values, ", ")
			}
		}
	}
	return out
}
