package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
)

// The group of the package that may read the configuration and ask the daemon.
const edgedGroup = "edged"

// mayWrite reports what is there already, before anybody is asked.
func mayWrite(path string, force bool) error {
	_, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && force:
		return nil
	case err == nil:
		return fmt.Errorf("%s is there already: --force overwrites it, --file writes elsewhere", path)
	}
	return err
}

// writeConfig puts text at path, whole or not at all, for its owner and the
// group of edged. Only with force it takes another file's place.
func writeConfig(path string, text []byte, force bool) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".edged.yaml.")
	if err != nil {
		return err
	}
	defer func() {
		_ = f.Close()
		_ = os.Remove(f.Name()) // gone where it was renamed
	}()
	if _, err := f.Write(text); err != nil {
		return err
	}
	if err := f.Chmod(0o640); err != nil {
		return err
	}
	if gid, ok := groupID(); ok && os.Geteuid() == 0 {
		if err := f.Chown(0, gid); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if force {
		return os.Rename(f.Name(), path)
	}
	return os.Link(f.Name(), path) // fails where something is
}

// groupID returns the number of edged's group, when there is one.
func groupID() (int, bool) {
	g, err := user.LookupGroup(edgedGroup)
	if err != nil {
		return 0, false
	}
	n, err := strconv.Atoi(g.Gid)
	return n, err == nil
}
