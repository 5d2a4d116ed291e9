package message_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anyedge/internal/message"
)

func TestHeaderKeepsOrderAndSpelling(t *testing.T) {
	h := message.Header{{Name: "B", Value: "1"}, {Name: "a", Value: "2"}, {Name: "b", Value: "3"}}
	h.Set("A", "4")
	h.Add("C", "x, y ,,z")
	want := message.Header{{Name: "B", Value: "1"}, {Name: "a", Value: "4"}, {Name: "b", Value: "3"}, {Name: "C", Value: "x, y ,,z"}}
	if d := cmp.Diff(want, h); d != "" {
		t.Fatal(d)
	}
	if got := h.Joined("b"); got != "1, 3" {
		t.Fatalf("Joined = %q", got)
	}
	if got := slices.Collect(h.Tokens("c")); !slices.Equal(got, []string{"x", "y", "z"}) {
		t.Fatalf("Tokens = %q", got)
	}
	h.Del("b")
	if d := cmp.Diff(message.Header{{Name: "a", Value: "4"}, {Name: "C", Value: "x, y ,,z"}}, h); d != "" {
		t.Fatal(d)
	}
}

func TestSize(t *testing.T) {
	for _, tt := range []struct {
		text string
		want message.Size
		ok   bool
	}{
		{"64KiB", 64 << 10, true},
		{"1MiB", 1 << 20, true},
		{"2GiB", 2 << 30, true},
		{"0B", 0, true},
		{"17B", 17, true},
		{"64", 0, false},
		{"64KB", 0, false},
		{"-1KiB", 0, false},
		{"1.5MiB", 0, false},
		{"99999999999GiB", 0, false},
	} {
		var s message.Size
		err := s.UnmarshalText([]byte(tt.text))
		if (err == nil) != tt.ok || s != tt.want {
			t.Errorf("%q: %d, %v", tt.text, s, err)
			continue
		}
		if tt.ok && s.String() != tt.text {
			t.Errorf("%q prints as %q", tt.text, s)
		}
	}
}
