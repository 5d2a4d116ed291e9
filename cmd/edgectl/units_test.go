package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"anyedge/internal/admin/client"
)

func TestCount(t *testing.T) {
	for in, want := range map[float64]string{
		0: "0", 4.26: "4.3", 9.96: "10", 7: "7", 310.4: "310", 999.4: "999", 999.6: "1.0k", 58_234: "58.2k", 999_949: "999.9k", 999_951: "1.00M", 1_412_345: "1.41M",
	} {
		if got := count(in); got != want {
			t.Errorf("count(%v) = %q, want %q", in, got, want)
		}
	}
}

func TestAge(t *testing.T) {
	for in, want := range map[time.Duration]string{
		-time.Second: "0.0s", 0: "0.0s", 400 * time.Millisecond: "0.4s", 9940 * time.Millisecond: "9.9s", 41 * time.Second: "41s",
		4*time.Minute + 12*time.Second: "4m12s", 192 * time.Minute: "3h12m", 292 * time.Hour: "12d4h",
	} {
		if got := age(in); got != want {
			t.Errorf("age(%v) = %q, want %q", in, got, want)
		}
	}
}

func TestSize(t *testing.T) {
	for in, want := range map[uint64]string{0: "0 B", 900: "900 B", 1024: "1.0 KiB", 43_001_234: "41.0 MiB", 200 << 30: "200 GiB", 5 << 50: "5120 TiB"} {
		if got := size(in); got != want {
			t.Errorf("size(%d) = %q, want %q", in, got, want)
		}
	}
}

func TestPlural(t *testing.T) {
	for n, want := range map[int]string{0: "0 geos", 1: "1 geo", 2: "2 geos"} {
		if got := plural(n, "geo"); got != want {
			t.Errorf("plural(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestASPath(t *testing.T) {
	for _, tt := range []struct {
		path []uint32
		want string
	}{
		{nil, "(empty path)"},
		{[]uint32{65010}, "65010"},
		{[]uint32{65010, 65010, 65010}, "65010 x3"},
		{[]uint32{65010, 65010, 65001, 65010}, "65010 x2 65001 65010"},
	} {
		if got := asPath(tt.path); got != tt.want {
			t.Errorf("asPath(%v) = %q, want %q", tt.path, got, tt.want)
		}
	}
}

func TestExitCode(t *testing.T) {
	for _, tt := range []struct {
		err    error
		code   int
		silent bool
	}{
		{nil, exitOK, true},
		{errUnhealthy, exitUnhealthy, true},
		{errors.New("other"), exitUnhealthy, false},
		{usagef("no"), exitUsage, false},
		{errConfig, exitConfig, true},
		{fmt.Errorf("%w at x", client.ErrUnreachable), exitUnreachable, false},
		{fmt.Errorf("%w at x: %w", client.ErrUnreachable, fs.ErrPermission), exitNotAllowed, false},
		{fmt.Errorf("%w: x", client.ErrNotAllowed), exitNotAllowed, false},
		{fmt.Errorf("x: %w", fs.ErrPermission), exitNotAllowed, false},
		{fmt.Errorf("%w after 1s", errTimeout), exitTimeout, false},
		{context.Canceled, exitUnhealthy, false},
	} {
		if code, silent := exitCode(tt.err); code != tt.code || silent != tt.silent {
			t.Errorf("exitCode(%v) = %d, %v; want %d, %v", tt.err, code, silent, tt.code, tt.silent)
		}
	}
}

func TestTable(t *testing.T) {
	tab := newTable("NAME", "CITY", "WHY")
	tab.row("fra", "東京", cell{"all is well", good})
	tab.row("a-long-one", "", "")
	for _, tt := range []struct {
		name string
		page page
		want string
	}{
		{"off a terminal", page{headers: true}, "NAME        CITY  WHY\nfra         東京  all is well\na-long-one  -     -\n"},
		{"no headers", page{}, "fra         東京  all is well\na-long-one  -     -\n"},
		{"narrow", page{width: 24}, "fra         東京  all i…\na-long-one  -     -\n"},
		{"narrower than its columns", page{width: 9}, "fra         東京  all is well\na-long-one  -     -\n"},
		{"color", page{color: true}, "fra         東京  \x1b[32mall is well\x1b[0m\na-long-one  -     -\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := &tt.page
			p.table(tab)
			if got := p.b.String(); got != tt.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, tt.want)
			}
		})
	}
}

func TestJoinWatch(t *testing.T) {
	for in, want := range map[string]string{
		"geos -w":          "geos -w",
		"geos -w 5s":       "geos -w=5s",
		"geos --watch 1m":  "geos --watch=1m",
		"backends -w shop": "backends -w shop",
	} {
		if got := strings.Join(joinWatch(strings.Fields(in)), " "); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}
