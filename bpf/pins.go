package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"anyedge/bpf/lb"
)

// DefaultPins is where programs are pinned.
const DefaultPins = "/sys/fs/bpf/edged"

// A shelf is the directory of a BPF file system that holds what this node's
// programs are pinned by: DIR/NODE/INTERFACE. While the process lives it holds
// a lock there.
type shelf struct {
	root string // DIR
	dir  string // DIR/NODE
	lock *os.File
}

// openShelf makes the directory and takes the lock.
func openShelf(root, node string) (*shelf, error) {
	if err := onBPF(root); err != nil {
		return nil, err
	}
	s := &shelf{root: root, dir: filepath.Join(root, pinName(node))}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	if s.lock, err = lockDir(s.dir); err != nil {
		return nil, err
	}
	return s, nil
}

// errHeld means that a living process works with pins.
var errHeld = errors.New("an edged that runs holds it")

// lockDir takes the lock of a node's directory; the kernel gives it back when
// the process ends, however it does.
func lockDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errHeld
		}
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return f, nil
}

// onBPF reports whether dir is, or would be, on a BPF file system.
func onBPF(dir string) error {
	for at := dir; ; at = filepath.Dir(at) {
		var st unix.Statfs_t
		err := unix.Statfs(at, &st)
		if errors.Is(err, unix.ENOENT) && at != filepath.Dir(at) {
			continue
		}
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", at, err)
		case st.Type != unix.BPF_FS_MAGIC:
			return fmt.Errorf("%s is on no BPF file system; mount one: mount -t bpf bpf /sys/fs/bpf", at)
		}
		return nil
	}
}

// of returns the directory of an interface.
func (s *shelf) of(iface string) string { return filepath.Join(s.dir, pinName(iface)) }

// strays removes what a predecessor left on interfaces that are not ours now.
func (s *shelf) strays(interfaces []string) error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if slices.ContainsFunc(interfaces, func(i string) bool { return pinName(i) == e.Name() }) {
			continue
		}
		dir := filepath.Join(s.dir, e.Name())
		left, err := lb.OpenPinned(dir, 0)
		if errors.Is(err, lb.ErrElsewhere) {
			continue
		}
		if left != nil {
			_ = left.Close() // it goes next
		}
		errs = append(errs, lb.Unpin(dir))
	}
	return errors.Join(errs...)
}

// close gives the directory back; it stays when something is in it.
func (s *shelf) close() {
	_ = os.Remove(s.dir)
	_ = os.Remove(s.root)
	_ = s.lock.Close() // nothing was written
}

// pinName is a name as a BPF file system takes it: those with a dot are the
// kernel's own.
func pinName(name string) string {
	var b strings.Builder
	for _, c := range []byte(name) {
		if c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c == '-' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	return b.String()
}

// Cleanup takes off the programs that nodes without a process have left pinned
// below dir, or only tells of them when dry. It returns the paths of the
// programs' directories. A dir that is not there holds nothing.
func Cleanup(dir string, dry bool) ([]string, error) {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err := onBPF(dir); err != nil {
		return nil, err
	}
	nodes, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []string
	var errs []error
	for _, n := range nodes {
		s := &shelf{root: dir, dir: filepath.Join(dir, n.Name())}
		if s.lock, err = lockDir(s.dir); err != nil {
			errs = append(errs, err)
			continue
		}
		paths, err := s.empty(dry)
		out, errs = append(out, paths...), append(errs, err)
		if !dry {
			s.close()
		} else {
			_ = s.lock.Close() // nothing was written
		}
	}
	return out, errors.Join(errs...)
}

// empty removes everything of the node.
func (s *shelf) empty(dry bool) ([]string, error) {
	interfaces, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	var out []string
	var errs []error
	for _, i := range interfaces {
		path := filepath.Join(s.dir, i.Name())
		if !dry {
			if err := lb.Unpin(path); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		out = append(out, path)
	}
	return out, errors.Join(errs...)
}
