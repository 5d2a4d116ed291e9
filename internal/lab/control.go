package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Bounds of POST /load.
const (
	maxLoadRate = 2000 // requests/s
	maxLoadFor  = 10 * time.Minute
)

// A RequestError is the fault of who asked; Status is the HTTP status that
// says so.
type RequestError struct {
	Status int
	Text   string
}

func (e *RequestError) Error() string { return e.Text }

func requestError(status int, format string, args ...any) error {
	return &RequestError{Status: status, Text: fmt.Sprintf(format, args...)}
}

// control is the demo's remote control, HTTP on loopback.
type control struct {
	demo     *Demo
	listener net.Listener
}

func newControl(ctx context.Context, d *Demo) (*control, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	return &control{demo: d, listener: l}, nil
}

func (c *control) url() string { return "http://" + c.listener.Addr().String() }

// Run answers until ctx ends.
func (c *control) Run(ctx context.Context, ready func()) error {
	s := &http.Server{Handler: c.handler(), ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	ready()
	if err := s.Serve(c.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (c *control) handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, do func(*http.Request) (string, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Origin") != "" { // a web page must not steer the demo
				answer(w, "", requestError(http.StatusForbidden, "not for browsers"))
				return
			}
			text, err := do(r)
			answer(w, text, err)
		})
	}
	handle("POST /kill/{kind}/{name}", func(r *http.Request) (string, error) {
		return c.demo.Kill(r.PathValue("kind"), r.PathValue("name"))
	})
	handle("POST /revive/{kind}/{name}", func(r *http.Request) (string, error) {
		return c.demo.Revive(r.Context(), r.PathValue("kind"), r.PathValue("name"))
	})
	handle("POST /cut/{link}", func(r *http.Request) (string, error) { return c.demo.Cut(r.PathValue("link")) })
	handle("POST /join/{link}", func(r *http.Request) (string, error) { return c.demo.Join(r.PathValue("link")) })
	handle("POST /load", func(r *http.Request) (string, error) {
		q := r.URL.Query()
		rate, err := strconv.ParseFloat(q.Get("rate"), 64)
		if err != nil {
			return "", requestError(http.StatusBadRequest, "rate: want requests per second, like 600")
		}
		d, err := time.ParseDuration(q.Get("for"))
		if err != nil {
			return "", requestError(http.StatusBadRequest, "for: want a duration with its unit, like 30s")
		}
		return c.demo.Load(r.Context(), q.Get("region"), rate, d)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, "", requestError(http.StatusNotFound,
			"want POST /kill/KIND/NAME, /revive/KIND/NAME (KIND is backend or geo), /cut/A-B, /join/A-B or /load?region=R&rate=N&for=D"))
	})
	return mux
}

func answer(w http.ResponseWriter, text string, err error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if err != nil {
		status := http.StatusInternalServerError
		if e := (*RequestError)(nil); errors.As(err, &e) {
			status = e.Status
		}
		w.WriteHeader(status)
		text = err.Error()
	}
	_, _ = io.WriteString(w, text+"\n")
}

// Control sends one command to the demo that has this control URL, and returns
// its answer. The words are those of the URL: kill geo fra; cut fra-iad;
// load eu 600 30s.
func Control(ctx context.Context, url string, words []string) (string, error) {
	path := "/" + strings.Join(words, "/")
	if len(words) == 4 && words[0] == "load" {
		path = fmt.Sprintf("/load?region=%s&rate=%s&for=%s", words[1], words[2], words[3])
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+path, http.NoBody)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", fmt.Errorf("the demo does not answer: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	text := strings.TrimSpace(string(b))
	switch {
	case err != nil:
		return "", err
	case resp.StatusCode != http.StatusOK:
		return "", &RequestError{Status: resp.StatusCode, Text: text}
	}
	return text, nil
}
