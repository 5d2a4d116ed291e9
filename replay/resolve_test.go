package replay_test

import (
	"errors"
	"testing"

	"anyedge/internal/message"
	"anyedge/internal/world"
	"anyedge/replay"

	"github.com/google/go-cmp/cmp"
)

// scene is fra's: iad near, nrt far, gru down.
func scene(change func(*replay.Scene)) replay.Scene {
	s := replay.Scene{
		Geos:    []replay.Candidate{{Geo: "fra"}, {Geo: "gru", Down: "not reachable"}, {Geo: "iad"}, {Geo: "nrt"}},
		Groups:  []world.GroupConfig{{Name: "asia", Geos: []string{"nrt"}}, {Name: "west", Geos: []string{"iad", "gru"}}},
		Visited: []string{"fra"},
	}
	if change != nil {
		change(&s)
	}
	return s
}

func allow(names ...string) func(*replay.Scene) {
	return func(s *replay.Scene) { s.Config.Allow = names }
}

func visited(hops int, geos ...string) func(*replay.Scene) {
	return func(s *replay.Scene) { s.Visited, s.Hops = geos, hops }
}

func TestResolve(t *testing.T) {
	for _, tt := range []struct {
		name        string
		instruction string
		scene       func(*replay.Scene)
		want        []string
		code        replay.Code
		text        string
	}{
		{name: "a geo", instruction: "nrt", want: []string{"nrt"}},
		{name: "in the order given", instruction: "nrt, iad", want: []string{"nrt", "iad"}},
		{name: "each once", instruction: "nrt, elsewhere, nrt", want: []string{"nrt", "iad"}},
		{name: "a group, nearest first", instruction: "west", want: []string{"iad"}},
		{name: "an inner list, nearest first", instruction: "(asia iad)", want: []string{"iad", "nrt"}},
		{name: "a geo that is down is passed over", instruction: "gru, nrt", want: []string{"nrt"}},
		{name: "next", instruction: "next", want: []string{"iad"}},
		{name: "next after a visit", instruction: "next", scene: visited(1, "fra", "iad"), want: []string{"nrt"}},
		{name: "next within the allowed", instruction: "next", scene: allow("nrt"), want: []string{"nrt"}},
		{name: "elsewhere", instruction: "elsewhere", want: []string{"iad", "nrt"}},
		{name: "elsewhere within the allowed", instruction: "elsewhere", scene: allow("asia"), want: []string{"nrt"}},
		{name: "any, before anybody saw it", instruction: "any", scene: visited(0), want: []string{"fra", "iad", "nrt"}},
		{name: "any, seen here", instruction: "any", want: []string{"iad", "nrt"}},
		{name: "a visited geo is passed over", instruction: "fra, nrt", want: []string{"nrt"}},
		{name: "allowed by name", instruction: "nrt", scene: allow("iad", "nrt"), want: []string{"nrt"}},
		{name: "all allowed", instruction: "nrt", scene: allow("all"), want: []string{"nrt"}},
		{name: "a group counts its allowed members", instruction: "(west asia)", scene: allow("iad", "nrt"), want: []string{"iad", "nrt"}},
		{name: "the second hop", instruction: "iad", scene: visited(1, "fra", "nrt"), want: []string{"iad"}},
		{name: "a shed before is no hop", instruction: "nrt;hops=1", scene: visited(0, "fra", "iad"), want: []string{"nrt"}},

		{name: "unknown", instruction: "nrt, xyz", code: replay.BadInstruction, text: `"xyz" is no configured geo or group`},
		{name: "not allowed", instruction: "nrt", scene: allow("iad"), code: replay.NotAllowed, text: `the service may not replay to geo "nrt"`},
		{name: "group not allowed", instruction: "asia", scene: allow("iad"), code: replay.NotAllowed, text: `the service may not replay to group "asia"`},
		{name: "too many hops asked", instruction: "nrt;hops=3", code: replay.NotAllowed, text: "hops=3 is over the service's limit of 2"},
		{name: "itself", instruction: "fra", code: replay.Loop, text: "fra handled this request before (fra)"},
		{
			name: "ping-pong", instruction: "fra", scene: visited(1, "fra", "nrt"), code: replay.Loop,
			text: "fra handled this request before (fra, nrt)",
		},
		{
			name: "hops used up", instruction: "iad", scene: visited(2, "fra", "nrt", "gru"), code: replay.Loop,
			text: "all hops are used, 2 of 2: fra, nrt, gru",
		},
		{
			name: "its own hops used up", instruction: "iad;hops=1", scene: visited(1, "fra", "nrt"), code: replay.Loop,
			text: "all hops are used, 1 of 1: fra, nrt",
		},
		{name: "down", instruction: "gru", code: replay.NoCandidate, text: "no geo can take it (gru: not reachable)"},
		{name: "down and visited", instruction: "fra, gru, west;hops=1", scene: visited(0, "fra", "iad"), code: replay.NoCandidate, text: "no geo can take it (gru: not reachable)"},
		{name: "alone", instruction: "elsewhere", scene: func(s *replay.Scene) { s.Geos = s.Geos[:1] }, code: replay.NoCandidate, text: "the instruction leads to no geo"},
		{name: "no geo at all", instruction: "next, any", scene: func(s *replay.Scene) { s.Geos = nil }, code: replay.NoCandidate, text: "the instruction leads to no geo"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in, err := replay.Parse(lines(tt.instruction))
			if err != nil {
				t.Fatal(err)
			}
			got, err := in.Resolve(scene(tt.scene))
			if tt.code == "" {
				if d := cmp.Diff(tt.want, got); d != "" || err != nil {
					t.Fatalf("%v\n%s", err, d)
				}
				return
			}
			e, ok := errors.AsType[*replay.Error](err)
			if !ok || got != nil {
				t.Fatalf("Resolve = %v, %v; want %s", got, err, tt.code)
			}
			if e.Code != tt.code || e.Text != tt.text || e.Status != tt.code.Status() {
				t.Errorf("got %d %v", e.Status, e)
			}
		})
	}
}

func TestNext(t *testing.T) {
	for _, tt := range []struct {
		name  string
		scene func(*replay.Scene)
		tried []string
		want  string
	}{
		{"the nearest that is up", nil, nil, "iad"},
		{"one that was tried is passed over", nil, []string{"iad"}, "nrt"},
		{"one that was visited too", visited(1, "fra", "iad"), nil, "nrt"},
		{"none left", nil, []string{"iad", "nrt"}, ""},
		{"none allowed", allow("fra"), nil, ""},
		{"alone", func(s *replay.Scene) { s.Geos = nil }, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := scene(tt.scene).Next(tt.tried); got != tt.want {
				t.Errorf("Next = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestConfig(t *testing.T) {
	if (replay.Config{}).Ignored() || !(replay.Config{Allow: []string{}}).Ignored() {
		t.Error("an absent list allows all, an empty one ignores the field")
	}
	size := 4 * message.KiB
	if got := (replay.Config{}).Body(); got != message.MiB {
		t.Errorf("default body %s", got)
	}
	if got := (replay.Config{MaxBody: &size}).Body(); got != size {
		t.Errorf("body %s", got)
	}
	err := replay.Config{Allow: []string{"all", "Fra"}, MaxHops: 9}.Validate()
	want := "allow[1]: \"Fra\" is not a name: want a-z, then a-z, 0-9 or -\nmax_hops: 9 is not within 1 and 8"
	if err == nil || err.Error() != want {
		t.Errorf("Validate = %v", err)
	}
	if err := (replay.Config{Allow: []string{"fra", "asia"}, MaxHops: 8}).Validate(); err != nil {
		t.Error(err)
	}
}

func TestErrorFields(t *testing.T) {
	for code, want := range map[replay.Code]int{
		replay.BodyTooLarge: 413, replay.NoCandidate: 503, replay.Loop: 508,
		replay.NotAllowed: 502, replay.BadInstruction: 502, replay.Timeout: 504,
	} {
		e := replay.Errorf(code, "because of %s", "nrt")
		if e.Status != want || e.Error() != string(code)+": because of nrt" {
			t.Errorf("%s: %d %v", code, e.Status, e)
		}
		h := e.Fields()
		if h.Get("Replay-Geo-Error") != string(code) {
			t.Errorf("%s: %v", code, h)
		}
		if got, want := h.Get("Retry-After"), map[bool]string{true: "1"}[code == replay.NoCandidate]; got != want {
			t.Errorf("%s: Retry-After %q, want %q", code, got, want)
		}
	}
}

func TestMayGoOn(t *testing.T) {
	for _, tt := range []struct {
		method string
		sent   message.Sent
		want   bool
	}{
		{"POST", message.NothingSent, true},
		{"POST", message.MaybeExecuted, false},
		{"GET", message.MaybeExecuted, true},
		{"PUT", message.MaybeExecuted, true},
		{"get", message.MaybeExecuted, false}, // methods are case-sensitive
		{"GET", message.Answered, false},
	} {
		if got := replay.MayGoOn(&message.Request{Method: tt.method}, tt.sent); got != tt.want {
			t.Errorf("%s after %s: %v", tt.method, tt.sent, got)
		}
	}
}

func TestStrip(t *testing.T) {
	h := message.Header{
		{Name: "Accept", Value: "1"},
		{Name: "Replay-Geo", Value: "x"},
		{Name: "REPLAY-GEO-SRC", Value: "x"},
		{Name: "replay-geo-failed", Value: "x"},
		{Name: "Replay-Geo-Error", Value: "x"},
		{Name: "Replay-Geo-Trace", Value: "x"},
		{Name: "Replay_Geo_Src", Value: "x"},
		{Name: "replay-geo_src", Value: "x"},
		{Name: "Replay-Geo-Anything", Value: "x"},
		{Name: "Replay-Geometry", Value: "2"},
		{Name: "X-Replay-Geo", Value: "3"},
		{Name: "Replay-Ge", Value: "4"},
	}
	replay.Strip(&h)
	want := message.Header{
		{Name: "Accept", Value: "1"},
		{Name: "Replay-Geometry", Value: "2"},
		{Name: "X-Replay-Geo", Value: "3"},
		{Name: "Replay-Ge", Value: "4"},
	}
	if d := cmp.Diff(want, h); d != "" {
		t.Error(d)
	}
}
