package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// FileName is the file in the run directory that describes the demo.
const FileName = "demo.json"

const (
	lockName   = "demo.lock" // held while the demo lives; says its process
	tempPrefix = "edged-demo-"
)

// A File is DIR/demo.json: all that a script needs to drive the demo.
type File struct {
	Regions []FileRegion `json:"regions"`
	Geos    []FileGeo    `json:"geos"`
	CA      string       `json:"ca"`      // PEM file that verifies the entries
	Control string       `json:"control"` // URL
}

// A FileRegion is one client region.
type FileRegion struct {
	Name  string `json:"name"`
	Entry string `json:"entry"` // URL
}

// A FileGeo is one geo.
type FileGeo struct {
	Name    string `json:"name"`
	PID     int    `json:"pid"`    // 0: dead
	Socket  string `json:"socket"` // for edgectl --socket
	Config  string `json:"config"`
	DNS     string `json:"dns"`     // ADDRESS:PORT that knows SERVICE.internal, UDP and TCP
	Private string `json:"private"` // ADDRESS:PORT that takes apps' requests for GEO.SERVICE.internal, plain HTTP/1.1
}

// ReadFile reads the description of the demo in dir.
func ReadFile(dir string) (File, error) {
	var f File
	b, err := os.ReadFile(filepath.Join(dir, FileName))
	if err != nil {
		return f, err
	}
	if err := json.Unmarshal(b, &f); err != nil {
		return f, fmt.Errorf("%s: %w", filepath.Join(dir, FileName), err)
	}
	return f, nil
}

// FindDir returns the run directory of the one demo that runs here in a
// temporary directory.
func FindDir() (string, error) {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), tempPrefix+"*"))
	if err != nil {
		return "", err
	}
	var alive []string
	for _, d := range dirs {
		if held(filepath.Join(d, lockName)) {
			alive = append(alive, d)
		}
	}
	switch len(alive) {
	case 0:
		return "", errors.New("no demo runs here: start one with: edged demo; or name its directory with --dir")
	case 1:
		return alive[0], nil
	}
	return "", fmt.Errorf("several demos run here; choose one with --dir: %v", alive)
}

// A runDir is the directory that a demo owns while it lives.
type runDir struct {
	path string
	lock *os.File
	made bool // the directory itself is ours to remove
}

// openRunDir makes path, or a temporary directory when it is "". A directory
// with anything in it is refused and left as it is.
func openRunDir(path string) (*runDir, error) {
	d, err := makeRunDir(path)
	if err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(d.path, lockName), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	d.lock = lock
	_, err = fmt.Fprintln(lock, os.Getpid())
	return d, errors.Join(err, syscall.Flock(int(lock.Fd()), syscall.LOCK_EX))
}

// makeRunDir makes the directory, or sees that it is empty.
func makeRunDir(path string) (*runDir, error) {
	if path == "" {
		temp, err := os.MkdirTemp("", tempPrefix)
		return &runDir{path: temp, made: true}, err
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // parents of a directory that the user named
		return nil, err
	}
	err = os.Mkdir(path, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return &runDir{path: path}, checkEmpty(path)
	}
	return &runDir{path: path, made: true}, err
}

// checkEmpty says what is in a directory that should be empty.
func checkEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) == 0 {
		return err
	}
	lock := filepath.Join(dir, lockName)
	if held(lock) {
		pid, _ := os.ReadFile(lock)
		return fmt.Errorf("a demo runs in %s (process %s): stop it first, or choose another --dir", dir, string(trimLine(pid)))
	}
	if _, err := os.Stat(lock); err == nil {
		return fmt.Errorf("%s holds what an earlier demo left: remove it (rm -r %s) or choose another --dir", dir, dir)
	}
	return fmt.Errorf("%s is not empty: choose another --dir", dir)
}

func trimLine(b []byte) []byte {
	for len(b) > 0 && b[len(b)-1] == '\n' {
		b = b[:len(b)-1]
	}
	return b
}

// held reports whether a living process holds the lock.
func held(lock string) bool {
	f, err := os.Open(lock)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	return errors.Is(err, syscall.EWOULDBLOCK)
}

// describe writes demo.json, whole or not at all.
func (d *runDir) describe(f File) error {
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	temp := filepath.Join(d.path, "."+FileName)
	if err := os.WriteFile(temp, append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(temp, filepath.Join(d.path, FileName))
}

// remove takes away all that the demo put there.
func (d *runDir) remove() error {
	_ = d.lock.Close()
	if d.made {
		return os.RemoveAll(d.path)
	}
	entries, err := os.ReadDir(d.path)
	for _, e := range entries { // all ours: it was empty
		err = errors.Join(err, os.RemoveAll(filepath.Join(d.path, e.Name())))
	}
	return err
}

// release leaves the files and ends the claim on them.
func (d *runDir) release() { _ = d.lock.Close() }
