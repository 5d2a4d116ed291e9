package bgp

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fake is a backend that does not do what it is told unless it is asked twice,
// and that takes its time to close. It writes down its calls.
type fake struct {
	emit   func(netip.Addr, any)
	peer   netip.Addr
	calls  []string
	routes []Route
	lossy  bool // announce is not heard
	state  session
	hangs  bool // close does not return before the test ends
	stuck  bool // nor does withdraw
	end    chan struct{}
	mu     sync.Mutex // guards calls, which a stopping speaker makes from goroutines
}

func (f *fake) note(call string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, call)
}

func (f *fake) start() error { f.note("start"); return nil }

func (f *fake) announce(routes []Route) error {
	f.note("announce")
	f.routes = routes
	if !f.lossy {
		f.write()
	}
	return nil
}

func (f *fake) write() {
	var u update
	for _, r := range f.routes {
		u.reach = append(u.reach, SentRoute{Prefix: r.Prefix, ASPath: []uint32{65010}})
	}
	f.emit(f.peer, u)
}

func (f *fake) withdraw(prefixes []netip.Prefix) error {
	f.note("withdraw")
	if f.stuck {
		<-f.end
		return nil
	}
	f.emit(f.peer, update{gone: prefixes})
	return nil
}

func (f *fake) connect() error { f.note("connect"); return nil }

func (f *fake) sessions() (map[netip.Addr]session, error) {
	return map[netip.Addr]session{f.peer: f.state}, nil
}

func (f *fake) resend(netip.Addr) error { f.note("resend"); f.write(); return nil }
func (f *fake) redial(netip.Addr) error { f.note("redial"); return nil }
func (f *fake) enable(netip.Addr) error { f.note("enable"); return nil }

func (f *fake) close() {
	f.note("close")
	if f.hangs {
		<-f.end
	}
}

// up and down change the session's state for both of its observers.
func (f *fake) up() {
	f.state = session{state: Established, families: []string{familyIPv4}}
	f.emit(f.peer, stateChange{to: Established})
}

func (f *fake) down(overLimit bool) {
	f.state = session{state: Idle, overLimit: overLimit}
	f.emit(f.peer, stateChange{to: Idle, reason: "read-failed"})
}

// loop runs a speaker with a fake backend in a bubble of virtual time, and
// returns how long it took to stop.
func loop(t *testing.T, f *fake, story func(s *Speaker)) (stopping time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f.peer = netip.MustParseAddr("192.0.2.2")
		s, err := New(Setup{
			Config: Config{ASN: 65010}, RouterID: netip.MustParseAddr("192.0.2.1"),
			Node: NodeConfig{Neighbors: []NeighborConfig{{Name: "tor-a", Address: f.peer, ASN: 64501}}},
		}, slog.New(slog.NewTextHandler(t.Output(), nil)))
		if err != nil {
			t.Fatal(err)
		}
		s.backend, f.emit, f.end = f, s.emit, make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx, func() {}) }()
		synctest.Wait()
		story(s)
		begin := time.Now()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		stopping = time.Since(begin)
		close(f.end)
	})
	return stopping
}

func route(s string) []Route { return []Route{{Prefix: netip.MustParsePrefix(s)}} }

// after lets virtual time pass.
func after(d time.Duration) { <-time.After(d); synctest.Wait() }

func TestLoopRepeatsWhatWasLost(t *testing.T) {
	f := &fake{lossy: true}
	loop(t, f, func(s *Speaker) {
		f.up()
		s.Announce(route("192.0.2.0/24"))
		after(time.Second)
		if m := s.Mismatch(); len(m) != 1 || m[0].Text != "not sent" {
			t.Errorf("mismatch: %v", m)
		}
		after(3 * checkEvery)
		if !slices.Contains(f.calls, "resend") || len(s.Mismatch()) > 0 {
			t.Errorf("calls %v, mismatch %v", f.calls, s.Mismatch())
		}
	})
	if last := f.calls[len(f.calls)-2:]; !slices.Equal(last, []string{"withdraw", "close"}) {
		t.Errorf("last calls: %v", last)
	}
}

// TestLoopRedials: a settled session is dialed again at once, a young one is
// left to the backend's pause.
func TestLoopRedials(t *testing.T) {
	for _, tt := range []struct {
		lived time.Duration
		want  bool
	}{{settled, true}, {settled - time.Second, false}} {
		f := &fake{}
		loop(t, f, func(*Speaker) {
			f.up()
			after(tt.lived)
			f.down(false)
			after(time.Second)
			if got := slices.Contains(f.calls, "redial"); got != tt.want {
				t.Errorf("after %s: redialed %v, want %v", tt.lived, got, tt.want)
			}
		})
	}
}

func TestLoopRestsAfterTooManyPrefixes(t *testing.T) {
	f := &fake{}
	loop(t, f, func(s *Speaker) {
		f.up()
		after(time.Minute)
		f.down(true)
		after(DefaultMaxAfter - time.Minute)
		if slices.Contains(f.calls, "enable") || slices.Contains(f.calls, "redial") {
			t.Errorf("calls during the rest: %v", f.calls)
		}
		if e := s.Status().Neighbors[0].LastError; !strings.Contains(e, "more prefixes than max_prefix 1000") {
			t.Errorf("last error: %q", e)
		}
		after(2 * time.Minute)
		if !slices.Contains(f.calls, "enable") {
			t.Errorf("calls after the rest: %v", f.calls)
		}
	})
}

// TestLoopLeavesAStuckBackend: nor does withdrawing hold up the stop.
func TestLoopLeavesAStuckBackend(t *testing.T) {
	f := &fake{hangs: true, stuck: true}
	stopping := loop(t, f, func(s *Speaker) {
		f.up()
		s.Announce(route("192.0.2.0/24"))
		after(time.Second)
	})
	if want := drainWithin + closeWithin; stopping != want {
		t.Errorf("stopping took %s, want %s", stopping, want)
	}
	if last := f.calls[len(f.calls)-2:]; !slices.Equal(last, []string{"withdraw", "close"}) {
		t.Errorf("last calls: %v", last)
	}
}

// TestLoopLeavesAHangingBackend: stopping takes no longer than promised, and
// what is announced meanwhile is not.
func TestLoopLeavesAHangingBackend(t *testing.T) {
	f := &fake{hangs: true}
	var speaker *Speaker
	stopping := loop(t, f, func(s *Speaker) {
		speaker = s
		f.up()
		s.Announce(route("192.0.2.0/24"))
		after(time.Second)
	})
	if stopping != closeWithin {
		t.Errorf("stopping took %s, want %s", stopping, closeWithin)
	}
	speaker.Announce(route("198.51.100.0/24"))
	if st := speaker.Status(); st.Neighbors[0].State != Idle || len(st.Mismatch) > 0 || len(speaker.want) > 0 {
		t.Errorf("status after the stop: %+v", st)
	}
}
