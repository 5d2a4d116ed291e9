package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"
)

// LedgerName is the file in the state directory that remembers what was added
// to this machine.
const LedgerName = "addresses.json"

// ErrInUse means that another process works with the state directory.
var ErrInUse = errors.New("in use by another edged")

// errUnreadable means that the ledger's file makes no sense.
var errUnreadable = errors.New("not readable; it says which addresses edged added to lo: look at `ip address show dev lo`, then remove the file")

// A place is where an address was added: a boot of a machine, and a network
// namespace in it.
type place struct {
	Boot  string `json:"boot"`
	Netns uint64 `json:"netns"` // inode of /proc/self/ns/net
}

// an entry is one address that was added to lo.
type entry struct {
	Address netip.Addr `json:"address"`
	place
}

// A ledger remembers what was added. It is written before the machine is
// changed, so that a process that is killed leaves nothing that nobody knows.
type ledger struct {
	path    string
	here    place
	entries []entry // those of this boot; of other namespaces too
}

// openLedger reads the ledger in dir. What an earlier boot added is gone with
// it; what a namespace had that is no more, too.
func openLedger(dir string) (*ledger, error) {
	l := &ledger{path: filepath.Join(dir, LedgerName)}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("boot id: %w", err)
	}
	l.here.Boot = strings.TrimSpace(string(boot))
	// Not /proc/self: that is the main thread's, which may be elsewhere.
	if l.here.Netns, err = inode("/proc/thread-self/ns/net"); err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	b, err := os.ReadFile(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &l.entries); err != nil {
		return nil, fmt.Errorf("%s: %w (%w)", l.path, errUnreadable, err)
	}
	l.entries = slices.DeleteFunc(l.entries, func(e entry) bool {
		return e.Boot != l.here.Boot || e.Netns != l.here.Netns && !namespaceLives(e.Netns)
	})
	return l, nil
}

// has reports whether a was added here.
func (l *ledger) has(a netip.Addr) bool { return slices.Contains(l.entries, entry{a, l.here}) }

// mine returns the addresses that were added here.
func (l *ledger) mine() []netip.Addr {
	var out []netip.Addr
	for _, e := range l.entries {
		if e.place == l.here {
			out = append(out, e.Address)
		}
	}
	return out
}

// elsewhere returns what was added in other network namespaces.
func (l *ledger) elsewhere() []entry {
	return slices.DeleteFunc(slices.Clone(l.entries), func(e entry) bool { return e.place == l.here })
}

// add remembers an address that is about to be added.
func (l *ledger) add(a netip.Addr) error {
	if l.has(a) {
		return nil
	}
	before := l.entries
	l.entries = append(slices.Clone(l.entries), entry{a, l.here})
	err := l.write()
	if err != nil {
		l.entries = before
	}
	return err
}

// forget drops an address that is gone or somebody else's.
func (l *ledger) forget(a netip.Addr) error {
	kept := slices.DeleteFunc(slices.Clone(l.entries), func(e entry) bool { return e == entry{a, l.here} })
	if len(kept) == len(l.entries) {
		return nil
	}
	l.entries = kept
	return l.write()
}

// write replaces the file, and leaves none when there is nothing to remember.
func (l *ledger) write() error {
	if len(l.entries) == 0 {
		if err := os.Remove(l.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	b, err := json.MarshalIndent(l.entries, "", "  ")
	if err != nil {
		return err
	}
	return renameio.WriteFile(l.path, append(b, '\n'), 0o600)
}

// inode returns the number of a file.
func inode(path string) (uint64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, fmt.Errorf("%s: no inode", path)
	}
	return s.Ino, nil
}

// namespaceLives reports whether a process or a name holds the network
// namespace. Who may not look at every process cannot know: then it lives.
func namespaceLives(netns uint64) bool {
	if _, err := inode("/proc/1/ns/net"); err != nil {
		return true
	}
	for _, pattern := range []string{"/proc/[0-9]*/ns/net", "/run/netns/*"} {
		files, _ := filepath.Glob(pattern) // the patterns are well formed
		for _, f := range files {
			if n, err := inode(f); err == nil && n == netns {
				return true
			}
		}
	}
	return false
}

// lockDir makes the state directory this process's own until the file is
// closed or the process ends, however it does.
func lockDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("%w: run it as root, or as edged's user", err)
	}
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("state directory %s: %w", dir, ErrInUse)
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return f, nil
}
