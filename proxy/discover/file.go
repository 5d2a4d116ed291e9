package discover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/goccy/go-yaml"

	"anyedge/proxy/upstream"
)

// maxFile bounds the file, in bytes.
const maxFile = 4 << 20

// settle is how long after a change the file is read: an editor or a
// configuration tool makes several in a row.
const settle = 50 * time.Millisecond

// A file is a list of backends in a file.
type file struct {
	path    string
	refresh time.Duration
}

func (f file) String() string { return "file " + f.path }

// read reads the whole file. A file without a word is broken, for that is what one
// looks like that is being written; a list without entries is one.
func (f file) read(context.Context) ([]upstream.BackendConfig, time.Duration, error) {
	in, err := os.Open(f.path)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = in.Close() }()
	text, err := io.ReadAll(io.LimitReader(in, maxFile+1))
	switch {
	case err != nil:
		return nil, 0, err
	case len(text) > maxFile:
		return nil, 0, fmt.Errorf("%s has more than %d bytes", f.path, maxFile)
	case len(bytes.TrimSpace(text)) == 0:
		return nil, 0, fmt.Errorf("%s is empty; a list without backends is []", f.path)
	}
	list, err := parse(text)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", f.path, err)
	}
	return list, f.refresh, nil
}

// parse reads a list of backends.
func parse(text []byte) ([]upstream.BackendConfig, error) {
	var list []upstream.BackendConfig
	if err := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict()).Decode(&list); err != nil {
		return nil, errors.New(yaml.FormatError(err, false, false))
	}
	if list == nil {
		return nil, errors.New("want a list of backends")
	}
	var errs []error
	for i, b := range list {
		if b.Name == "" {
			errs = append(errs, fmt.Errorf("[%d]: name is required", i))
		}
		if err := b.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("[%d]: %w", i, err))
		}
	}
	return list, errors.Join(errs...)
}

// watch watches the folder of the file, and the one that it really is in where it
// is a symbolic link: files are replaced by renaming, and Kubernetes swaps a link
// beside them. Where the kernel cannot watch, the refresh has to do.
func (f file) watch(ctx context.Context, changed chan<- struct{}) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return
	}
	defer func() { _ = w.Close() }()
	var due <-chan time.Time
	again := time.NewTicker(f.refresh)
	defer again.Stop()
	f.follow(w)
	due = time.After(0) // what changed before is seen now
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-w.Errors: // events were lost
			if !ok {
				return
			}
			due = time.After(settle)
		case <-w.Events:
			due = time.After(settle)
		case <-again.C:
			f.follow(w)
		case <-due:
			due = nil
			f.follow(w)
			select {
			case changed <- struct{}{}:
			default:
			}
		}
	}
}

// follow adds the folders that matter now; those that are gone are forgotten by
// the kernel.
func (f file) follow(w *fsnotify.Watcher) {
	_ = w.Add(filepath.Dir(f.path)) // it may come later
	if at, err := filepath.EvalSymlinks(f.path); err == nil {
		_ = w.Add(filepath.Dir(at))
	}
}
