package host

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// A Trace is one thing that an edged left behind, and what became of it.
type Trace struct {
	What string
	Err  error // it stays, and why; nil: it is gone, or would be
}

// ErrElsewhere means that a trace is in another network namespace.
var ErrElsewhere = errors.New("in another network namespace")

// Cleanup removes from lo what the ledger in a state directory says was added,
// or tells what that is when dry. [ErrInUse]: an edged works with it. A
// directory that is not there holds nothing.
func Cleanup(stateDir string, dry bool) ([]Trace, error) {
	lock, err := lockDir(stateDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = lock.Close() }() // nothing was written
	l, err := openLedger(stateDir)
	if err != nil {
		return nil, err
	}
	var out []Trace
	for _, a := range l.mine() {
		t := Trace{What: fmt.Sprintf("address %s on %s", hostPrefix(a), Loopback)}
		if !dry {
			if _, t.Err = unassign(a); t.Err == nil {
				t.Err = l.forget(a)
			} else if errors.Is(t.Err, unix.EPERM) {
				t.Err = fmt.Errorf("%w: run it as root", t.Err)
			}
		}
		out = append(out, t)
	}
	for _, e := range l.elsewhere() {
		out = append(out, Trace{
			fmt.Sprintf("address %s on %s", hostPrefix(e.Address), Loopback),
			fmt.Errorf("%w, net:[%d]: run edged cleanup there", ErrElsewhere, e.Netns),
		})
	}
	if len(l.entries) == 0 && !dry {
		return out, l.write() // one of an earlier boot says nothing
	}
	return out, nil
}
