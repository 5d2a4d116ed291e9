package certs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// watchEvery is how often files are looked at.
const watchEvery = 2 * time.Second

// Run reads files again when they have changed, until ctx ends. What cannot be
// loaded keeps its last good form, which is logged, and is tried again: a key may
// come after its chain.
func (s *Store) Run(ctx context.Context, ready func()) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	ready()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.look()
		}
	}
}

// look reads what has changed since it was read last.
func (s *Store) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, e := range s.entries {
		if e.cfg.Files == nil || !e.read.changed(e.cfg.Files.Cert, e.cfg.Files.Key) {
			continue
		}
		if e.read.news(s.read(name, e)) {
			s.tell("certificate", name, e.read.err)
		}
	}
	for _, ca := range s.clients {
		if ca.read.changed(ca.files...) && ca.read.news(ca.load()) {
			s.tell("client CAs", strings.Join(ca.files, " "), ca.read.err)
		}
	}
}

// tell logs what came of a change.
func (s *Store) tell(kind, name string, err error) {
	if err != nil {
		s.log.Error("changed files cannot be used, what was read before stays", "what", kind, "name", name, "err", err)
		return
	}
	s.log.Info("changed files were read", "what", kind, "name", name)
}

// Reload reads every file again and issues self-signed certificates anew. What
// cannot be loaded keeps its last good form, and the error says why.
func (s *Store) Reload() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for name, e := range s.entries {
		if e.read.news(s.read(name, e)); e.read.err != nil {
			errs = append(errs, fmt.Errorf("certificate %s: %w", name, e.read.err))
		}
	}
	for _, ca := range s.clients {
		ca.read.news(ca.load())
		errs = append(errs, ca.read.err)
	}
	return errors.Join(errs...)
}

// read loads one certificate. mu is held.
func (s *Store) read(name string, e *entry) error {
	if f := e.cfg.Files; f != nil {
		e.read.begin(f.Cert, f.Key)
	}
	c, err := s.load(e.cfg)
	if err != nil {
		return err
	}
	e.cert.Store(c)
	s.warn(name, c.leaf, time.Now())
	return nil
}

// A reading is how files were when they were read last, and what came of it.
type reading struct {
	files []os.FileInfo // nil entries: not there
	err   error
}

// begin notes how files are, before they are read: a change meanwhile is one.
func (r *reading) begin(files ...string) {
	r.files = make([]os.FileInfo, len(files))
	for i, f := range files {
		r.files[i], _ = os.Stat(f)
	}
}

// changed reports whether files are worth to be read again.
func (r *reading) changed(files ...string) bool {
	var now reading
	now.begin(files...)
	return r.err != nil || !slices.EqualFunc(r.files, now.files, same)
}

// same reports whether a file is as it was.
func same(was, now os.FileInfo) bool {
	if was == nil || now == nil {
		return was == nil && now == nil
	}
	return os.SameFile(was, now) && was.Size() == now.Size() && was.ModTime().Equal(now.ModTime())
}

// news notes what came of a reading, and reports whether it is not what came of
// the one before.
func (r *reading) news(err error) bool {
	again := err != nil && r.err != nil && err.Error() == r.err.Error()
	r.err = err
	return !again
}
