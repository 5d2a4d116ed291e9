package main_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"anyedge/internal/testpeer"
)

// A slowApp answers /slow when it is told to, and everything else at once.
type slowApp struct {
	*httptest.Server
	began   chan struct{} // closed when a /slow has come
	release func()
}

func startSlowApp(t *testing.T) *slowApp {
	t.Helper()
	held := make(chan struct{})
	s := &slowApp{began: make(chan struct{}), release: sync.OnceFunc(func() { close(held) })}
	begun := sync.OnceFunc(func() { close(s.began) })
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/slow" {
			_, _ = io.WriteString(w, "quick")
			return
		}
		_, _ = io.WriteString(w, "first half, ")
		_ = http.NewResponseController(w).Flush()
		begun()
		<-held
		_, _ = io.WriteString(w, "second half")
	}))
	t.Cleanup(func() { s.release(); s.Close() })
	return s
}

func (s *slowApp) addr() string { return strings.TrimPrefix(s.URL, "http://") }

// An announcing is a daemon that announces its VIP to BIRD and serves an app.
type announcing struct {
	*daemon
	bird *testpeer.BIRD
	app  *slowApp
	url  string
}

// startAnnouncing waits until BIRD has the route.
func startAnnouncing(t *testing.T, drainWait, more string) *announcing {
	t.Helper()
	bird, birdPort := startBIRD(t, edgeASN)
	app := startSlowApp(t)
	port := testpeer.FreePort(t, edgeIP)
	d := start(t, announced(int(birdPort), birdASN, int(port), drainWait, more, appService(app.addr())))
	waitPlain(t, bird)
	return &announcing{d, bird, app, fmt.Sprintf("http://%s:%d", edgeIP, port)}
}

// hold sends a request that stays in flight until the app is released, and
// returns where its answer comes.
func (a *announcing) hold(t *testing.T) <-chan string {
	t.Helper()
	client, answers := browser(t, ""), make(chan string, 1)
	go func() {
		got, err := ask(context.WithoutCancel(t.Context()), client, "GET", a.url+"/slow", nil)
		answers <- fmt.Sprintf("%s %v", got.body, err)
	}()
	select {
	case <-a.app.began:
	case <-time.After(testpeer.Patience):
		t.Fatal("the app never got the request")
	}
	return answers
}

// SIGTERM disfavors the routes, withdraws them after drain.wait, and serves all
// the while; what is in flight at the end is finished, and the exit code is 0.
func TestTermDrains(t *testing.T) {
	t.Parallel()
	a := startAnnouncing(t, "4s", "")
	answer, client := a.hold(t), browser(t, "")
	a.signal(t, syscall.SIGTERM)
	testpeer.WaitFor(t, "a disfavored route at BIRD", func() bool { r, ok := hears(t, a.bird); return ok && disfavored(r) })
	if v := waitVIP(t, a.daemon, "draining", true); v.Cause.Kind != "stop" || v.Cause.Reason != "edged is stopping" {
		t.Errorf("cause: %+v", v.Cause)
	}

	served := 0
	every := time.NewTicker(20 * time.Millisecond)
	defer every.Stop()
	for range every.C {
		got, err := ask(t.Context(), client, "GET", a.url+"/", nil)
		r, aliveErr := a.admin.Routes(t.Context())
		if aliveErr != nil || r.VIPs[0].State != "draining" {
			break // the request may have come too late
		}
		if err != nil || got.status != 200 {
			t.Fatalf("while draining: %d, %v", got.status, err)
		}
		served++
	}
	t.Logf("%d requests were served while draining", served)
	if served == 0 {
		t.Error("no request was served while draining")
	}
	waitGone(t, a.bird)
	testpeer.WaitFor(t, "the listener to close", func() bool {
		_, err := ask(t.Context(), client, "GET", a.url+"/", nil)
		return err != nil
	})
	if a.ended() {
		t.Error("edged ended while a request was in flight")
	}
	a.app.release()
	if got := <-answer; got != "first half, second half <nil>" {
		t.Errorf("the request in flight: %s", got)
	}
	a.wantEnd(t)
	wantTold(t, a.bird)
}

// wantTold checks that BIRD was told of the withdrawal before its session
// ended.
func wantTold(t *testing.T, b *testpeer.BIRD) {
	t.Helper()
	log := b.Log()
	withdrawn, closed := strings.Index(log, "edge.ipv4 > removed"), strings.Index(log, "BGP session closed")
	if withdrawn < 0 || closed >= 0 && closed < withdrawn {
		t.Errorf("BIRD was not told: withdrawn at %d, session closed at %d", withdrawn, closed)
	}
}

// What does not wait for drain.wait: SIGINT, and a second signal after SIGTERM.
// A request in flight is finished all the same.
func TestSignalsThatHurry(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		signals []syscall.Signal
	}{
		{"SIGINT", []syscall.Signal{syscall.SIGINT}},
		{"SIGTERM twice", []syscall.Signal{syscall.SIGTERM, syscall.SIGTERM}},
		{"SIGTERM and SIGINT", []syscall.Signal{syscall.SIGTERM, syscall.SIGINT}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := startAnnouncing(t, "4m", "")
			answer := a.hold(t)
			for i, sig := range tt.signals {
				if i > 0 {
					waitVIP(t, a.daemon, "draining", true)
				}
				a.signal(t, sig)
			}
			waitGone(t, a.bird)
			a.app.release()
			if got := <-answer; got != "first half, second half <nil>" {
				t.Errorf("the request in flight: %s", got)
			}
			a.wantEnd(t)
			wantTold(t, a.bird)
		})
	}
}

// Whoever signals once more does not want to wait for a request in flight.
func TestOneMoreSignalCutsOff(t *testing.T) {
	t.Parallel()
	a := startAnnouncing(t, "4m", "")
	answer := a.hold(t)
	a.signal(t, syscall.SIGINT)
	waitGone(t, a.bird)
	a.signal(t, syscall.SIGINT)
	a.wantEnd(t)
	if got := <-answer; strings.Contains(got, "second half") || strings.HasSuffix(got, "<nil>") {
		t.Errorf("the request in flight: %s", got)
	}
	wantTold(t, a.bird)
}

// shutdown.max bounds the drain and how long a request in flight is waited for.
func TestShutdownMax(t *testing.T) {
	t.Parallel()
	a := startAnnouncing(t, "4m", "shutdown: {max: 1s}")
	answer := a.hold(t)
	a.signal(t, syscall.SIGTERM)
	waitGone(t, a.bird)
	a.wantEnd(t)
	if got := <-answer; !strings.HasPrefix(got, "first half, ") || strings.Contains(got, "second half") || strings.HasSuffix(got, "<nil>") {
		t.Errorf("the request that took too long: %s", got)
	}
	for _, want := range []string{"shutdown.max is over", "requests were cut off"} {
		if !strings.Contains(a.log.String(), want) {
			t.Errorf("the log does not say %q", want)
		}
	}
}

// A daemon that announces nothing ends at once on SIGTERM.
func TestTermWithoutVIPs(t *testing.T) {
	t.Parallel()
	d := start(t, free(t))
	d.signal(t, syscall.SIGTERM)
	d.wantEnd(t)
	if !strings.Contains(d.log.String(), `"edged ended"`) {
		t.Error("the log does not say that it ended")
	}
}
