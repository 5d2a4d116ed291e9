package replay_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"anyedge/internal/message"
	"anyedge/replay"

	"github.com/google/go-cmp/cmp"
)

// lines returns a response header with the instruction on those field lines.
func lines(values ...string) message.Header {
	h := message.Header{{Name: "Content-Type", Value: "text/plain"}}
	for _, v := range values {
		h.Add("replay-geo", v)
	}
	return h
}

func items(sets ...string) []replay.Item {
	var out []replay.Item
	for _, s := range sets {
		out = append(out, replay.Item{Names: strings.Fields(s)})
	}
	return out
}

func TestParse(t *testing.T) {
	none := replay.FallbackNone
	for _, tt := range []struct {
		name  string
		lines []string
		want  replay.Instruction
	}{
		{"bare", []string{"nrt"}, replay.Instruction{Items: items("nrt"), Fallback: none}},
		{"spaces around", []string{"  nrt  "}, replay.Instruction{Items: items("nrt"), Fallback: none}},
		{"a list", []string{"nrt, fra-2"}, replay.Instruction{Items: items("nrt", "fra-2"), Fallback: none}},
		{"two field lines", []string{"nrt;hops=1", "fra"}, replay.Instruction{Items: items("nrt", "fra"), Fallback: none, Hops: 1}},
		{
			"parameters on the last item",
			[]string{"nrt, fra;timeout=0.8;fallback=self"},
			replay.Instruction{Items: items("nrt", "fra"), Timeout: 800 * time.Millisecond, Fallback: replay.FallbackSelf},
		},
		{
			"an inner list, a word and state",
			[]string{`(asia nrt), any;state="user-42";hops=2`},
			replay.Instruction{Items: items("asia nrt", "any"), State: "user-42", Fallback: none, Hops: 2},
		},
		{"parameters inside an inner list", []string{`(nrt;state="a" fra);hops=3`}, replay.Instruction{Items: items("nrt fra"), State: "a", Hops: 3, Fallback: none}},
		{"words", []string{"next, elsewhere"}, replay.Instruction{Items: items("next", "elsewhere"), Fallback: none}},
		{"whole seconds", []string{"nrt;timeout=2;fallback=next"}, replay.Instruction{Items: items("nrt"), Timeout: 2 * time.Second, Fallback: replay.FallbackNext}},
		{"fallback none", []string{"nrt;fallback=none"}, replay.Instruction{Items: items("nrt"), Fallback: none}},
		{"the longest state", []string{`nrt;state="` + strings.Repeat("s", 1024) + `"`}, replay.Instruction{Items: items("nrt"), State: strings.Repeat("s", 1024), Fallback: none}},
		{"state with quotes", []string{`nrt;state="a\"b\\c, sig="`}, replay.Instruction{Items: items("nrt"), State: `a"b\c, sig=`, Fallback: none}},
		{"the same parameter twice, alike", []string{"nrt;hops=1, fra;hops=1"}, replay.Instruction{Items: items("nrt", "fra"), Hops: 1, Fallback: none}},
		{"twice on one item: the last counts (RFC 9651 section 4.2.3.2)", []string{"nrt;hops=1;hops=2"}, replay.Instruction{Items: items("nrt"), Hops: 2, Fallback: none}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := replay.Parse(lines(tt.lines...))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(&tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestParseWithoutInstruction(t *testing.T) {
	got, err := replay.Parse(lines())
	if got != nil || err != nil {
		t.Fatalf("Parse = %v, %v", got, err)
	}
	if replay.Present(lines()) {
		t.Fatal("Present without an instruction")
	}
}

const malformed = "Replay-Geo is no structured field list (RFC 9651): "

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct {
		name  string
		lines []string
		want  string
	}{
		{"nothing", []string{""}, "Replay-Geo is empty: name a geo"},
		{"spaces", []string{"   "}, "Replay-Geo is empty: name a geo"},
		{"trailing comma", []string{"nrt,"}, malformed + "invalid list format: character 4"},
		{"an empty second line", []string{"nrt", ""}, malformed + "invalid list format: character 5"},
		{"no comma", []string{"nrt fra"}, malformed + "invalid list format: character 4"},
		{"a tab before", []string{"\tnrt"}, malformed + "unrecognized character: character 0"},
		{"no ASCII", []string{"nrt;state=\"é\""}, malformed + "invalid string format: character 12"},
		{"open string", []string{`nrt;state="abc`}, malformed + "invalid string format: character 14"},
		{"open list", []string{"(nrt fra"}, malformed + "invalid inner list format: character 8"},
		{"upper-case parameter", []string{"nrt;Hops=1"}, malformed + "invalid key format: character 4"},
		{"milliseconds as a token", []string{"nrt;timeout=800ms"}, malformed + "invalid list format: character 15"},
		{"four decimals", []string{"nrt;timeout=0.8001"}, malformed + "integer or decimal out of range: character 18"},

		{"empty list", []string{"()"}, "item 1: () is empty: name a geo"},
		{"a string", []string{`fra, "nrt"`}, `item 2: "nrt" is not a name: want a bare geo, group or word`},
		{"a number", []string{"4"}, "item 1: 4 is not a name: want a bare geo, group or word"},
		{"a boolean", []string{"?1"}, "item 1: ?1 is not a name: want a bare geo, group or word"},
		{"bytes", []string{":bnJ0:"}, "item 1: :bnJ0: is not a name: want a bare geo, group or word"},
		{"upper case", []string{"NRT"}, `item 1: "NRT" is not a name: want a-z, then a-z, 0-9 or -`},
		{"in an inner list", []string{"(nrt 4)"}, "item 1: 4 is not a name: want a bare geo, group or word"},
		{"owner", []string{"owner"}, "item 1: owner is known, not in this version"},
		{"a word for other places", []string{"self"}, `item 1: "self" is a reserved word and nobody's name`},
		{"all", []string{"all"}, `item 1: "all" is a reserved word and nobody's name`},

		{"state: token", []string{"nrt;state=abc"}, `item 1: state=abc: want a string, like state="user-42"`},
		{"state: no value", []string{"nrt;state"}, `item 1: state=?1: want a string, like state="user-42"`},
		{"state: display string", []string{`nrt;state=%"abc"`}, `item 1: state=%"abc": want a string, like state="user-42"`},
		{"state: too long", []string{`nrt;state="` + strings.Repeat("s", 1025) + `"`}, "item 1: state has 1025 bytes, at most 1024 are handed on"},
		{"timeout: string", []string{`nrt;timeout="800ms"`}, `item 1: timeout="800ms": want decimal seconds, like timeout=0.8`},
		{"timeout: zero", []string{"nrt;timeout=0"}, "item 1: timeout=0: want more than 0 and at most 3600 seconds"},
		{"timeout: below zero", []string{"nrt;timeout=-0.5"}, "item 1: timeout=-0.5: want more than 0 and at most 3600 seconds"},
		{"timeout: huge", []string{"nrt;timeout=999999999999999"}, "item 1: timeout=999999999999999: want more than 0 and at most 3600 seconds"},
		{"fallback: stale", []string{"nrt;fallback=stale"}, "item 1: fallback=stale needs the response cache, which is not in this version"},
		{"fallback: other", []string{"nrt;fallback=iad"}, "item 1: fallback=iad: want one of none, self, next"},
		{"fallback: string", []string{`nrt;fallback="self"`}, `item 1: fallback="self": want one of none, self, next`},
		{"hops: zero", []string{"nrt;hops=0"}, "item 1: hops=0: want a whole number from 1 to 8"},
		{"hops: nine", []string{"nrt;hops=9"}, "item 1: hops=9: want a whole number from 1 to 8"},
		{"hops: decimal", []string{"nrt;hops=1.0"}, "item 1: hops=1.0: want a whole number from 1 to 8"},
		{"differing", []string{"nrt;hops=1, fra;hops=2"}, "item 2: parameter hops is given twice: 1 and 2"},
		{"differing bytes", []string{"nrt;cache=:YQ==:"}, "item 1: parameter cache is known, not in this version"},
		{"unknown", []string{"fra, nrt;retries=3"}, `item 2: unknown parameter "retries"`},
	} {
		t.Run(tt.name, func(t *testing.T) { wantError(t, lines(tt.lines...), tt.want) })
	}
	for _, later := range []string{"service", "backend", "prefer-backend", "on", "unsafe", "key", "cache", "ttl", "share", "by"} {
		t.Run("later: "+later, func(t *testing.T) {
			wantError(t, lines("nrt;"+later+"=1"), fmt.Sprintf("item 1: parameter %s is known, not in this version", later))
		})
	}
	t.Run("JSON form", func(t *testing.T) {
		h := message.Header{{Name: "content-type", Value: "application/vnd.Replay-Geo+json; charset=utf-8"}}
		if !replay.Present(h) {
			t.Error("not seen as an instruction")
		}
		wantError(t, h, "the JSON form of Replay-Geo is known, not in this version")
	})
}

func wantError(t *testing.T, h message.Header, want string) {
	t.Helper()
	in, err := replay.Parse(h)
	e, ok := errors.AsType[*replay.Error](err)
	if !ok || in != nil {
		t.Fatalf("Parse = %+v, %v; want an error", in, err)
	}
	if e.Text != want {
		t.Errorf("text\n got %s\nwant %s", e.Text, want)
	}
	if e.Code != replay.BadInstruction || e.Status != 502 {
		t.Errorf("code %s, status %d", e.Code, e.Status)
	}
}

// FuzzParse holds Parse to its promises: an instruction within its limits, or
// an error with a code; never both, never a panic.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"nrt", "nrt, fra;timeout=0.8;fallback=self", `(asia nrt), any;state="user-42";hops=2`,
		"elsewhere", "next;share=20;by=client", "nrt;cache=\"/user/42/*\";ttl=60", "nrt,", "(", "nrt;hops=:YQ==:, fra;hops=:YQ==:",
	} {
		f.Add(s, "fra")
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		in, err := replay.Parse(lines(first, second))
		if err != nil {
			e, ok := errors.AsType[*replay.Error](err)
			if !ok || in != nil || e.Status != 502 || e.Text == "" {
				t.Fatalf("Parse = %+v, %#v", in, err)
			}
			return
		}
		if len(in.Items) == 0 || len(in.State) > replay.MaxState || in.Timeout < 0 || in.Timeout > replay.MaxTimeout || in.Hops < 0 || in.Hops > replay.MaxHops {
			t.Fatalf("out of its limits: %+v", in)
		}
		signer := replay.NewSigner([32]byte{1})
		src := replay.Source{Geo: "fra", Node: "fra-edge1", At: time.Unix(1764031200, 0), Hops: []string{"fra"}, State: in.State}
		value, err := signer.Sign(src)
		if err != nil {
			t.Fatalf("a state that was taken cannot be handed on: %v", err)
		}
		if back, err := replay.Verify(signer.Public(), value); err != nil || back.State != in.State {
			t.Fatalf("state %q came back as %q, %v", in.State, back.State, err)
		}
	})
}
