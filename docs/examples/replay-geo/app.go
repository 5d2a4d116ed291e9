// Command replay-geo is an app by example: writes are served in nrt,
// everything else where it comes in.
package main

import (
	"cmp"
	"fmt"
	"net/http"
	"os"
	"time"
)

func serve(w http.ResponseWriter, r *http.Request) {
	here := r.Header.Get("Edge-Geo") // where this instance serves, says the edge
	if r.Method == http.MethodPost && here != "nrt" && r.Header.Get("Replay-Geo-Failed") == "" {
		w.Header().Set("Replay-Geo", `nrt;timeout=2;fallback=self;state="a write"`)
		w.WriteHeader(http.StatusConflict)
		return
	}
	why := cmp.Or(r.Header.Get("Replay-Geo-Src"), "it came in here")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintf(w, "%s served in %s: %s\n", r.Method, here, why) //nolint:gosec // plain text, no page
}

func main() {
	app := &http.Server{
		Addr:              "127.0.0.1:" + cmp.Or(os.Getenv("PORT"), "3000"),
		Handler:           http.HandlerFunc(serve),
		ReadHeaderTimeout: time.Minute,
	}
	fmt.Fprintln(os.Stderr, app.ListenAndServe())
}
