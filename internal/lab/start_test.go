package lab_test

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"anyedge/internal/lab"
)

// entryPorts returns the first of three ports that are free for TCP and UDP.
func entryPorts(t *testing.T) uint16 {
	t.Helper()
	var first uint16
	waitFor(t, "three free ports", func() bool {
		first = freePort(t, "127.0.0.1").Port()
		for p := first; p < first+3; p++ {
			e, err := lab.NewEntry(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), p), func() *lab.Site { return nil }, logger(t))
			if err != nil {
				return false
			}
			e.Close()
		}
		return true
	})
	return first
}

func TestStartLeavesNothingBehindWhenItFails(t *testing.T) {
	taken := freePort(t, "127.0.0.1")
	l, err := net.Listen("tcp4", taken.String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	empty := t.TempDir()
	tests := []struct {
		name string
		opts lab.Options
		want string // in the error
	}{
		{"a port in use", lab.Options{Port: taken.Port(), Dir: filepath.Join(empty, "port")}, taken.String() + " (the entry of eu) is in use"},
		{"a directory with something in it", lab.Options{Dir: full}, full + " is not empty: choose another --dir"},
		{"a directory that cannot be made", lab.Options{Dir: filepath.Join(full, "mine", "x")}, "not a directory"},
		{"a long directory", lab.Options{Dir: filepath.Join(empty, strings.Repeat("x", 100))}, "too long for a unix socket"},
		{"an app that is no URL", lab.Options{App: "127.0.0.1:3000", Dir: filepath.Join(empty, "app")}, "want http://HOST:PORT"},
		{"an app that is not there", lab.Options{App: "http://" + freePort(t, "127.0.47.1").String(), Dir: filepath.Join(empty, "app2")}, "start your app first"},
		{"a program that is not there", lab.Options{Edged: filepath.Join(empty, "none"), Dir: filepath.Join(empty, "none-run")}, "no such file"},
		{"a program that ends", lab.Options{Edged: "/bin/echo", Dir: filepath.Join(empty, "echo")}, "ended at once; the end of its log says:\n--config"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.opts.Log = logger(t)
			d, err := lab.Start(t.Context(), test.opts)
			if err == nil {
				d.Close()
				t.Fatal("it started")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %q, want %q in it", err, test.want)
			}
		})
	}
	for dir, want := range map[string]int{full: 1, empty: 0} {
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != want {
			t.Errorf("%s holds %v, %v", dir, entries, err)
		}
	}
}

func TestStartTakesAnEmptyDirectoryAndLeavesItEmpty(t *testing.T) {
	dir := t.TempDir()
	if _, err := lab.Start(t.Context(), lab.Options{Dir: dir, Edged: "/bin/false", Log: logger(t)}); err == nil {
		t.Fatal("it started")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 0 {
		t.Errorf("the directory holds %v, %v", entries, err)
	}
}

func TestStartEntriesTakeConsecutivePorts(t *testing.T) {
	first := entryPorts(t)
	l, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(first) + 2})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = lab.Start(t.Context(), lab.Options{Port: first, Dir: filepath.Join(t.TempDir(), "x"), Log: logger(t)})
	if err == nil || !strings.Contains(err.Error(), "(the entry of asia) is in use") {
		t.Errorf("got %v, want that asia's port is in use", err)
	}
}
