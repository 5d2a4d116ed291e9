package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"anyedge/bpf/lb"
)

// follow brings the interface to what is wanted.
func (p *port) follow(now time.Time, want *State) {
	if p.missing != nil {
		p.fail(p.missing)
		return
	}
	spec, ways := p.describe(want)
	if p.attached == nil {
		if now.Before(p.next) {
			return
		}
		if err := p.begin(want, spec); err != nil {
			p.fail(err)
			p.next = now.Add(retryEvery)
			return
		}
		if p.attached != nil && !p.held { // it came with its state
			p.applied, p.spec, p.ways = want.Generation, spec, ways
		}
	}
	p.failure = ""
	if p.held && want.Generation == 0 { // what a predecessor left stays in force
		p.ways = ways
		return
	}
	if p.spec != nil && specEqual(p.spec, spec) && p.applied == want.Generation {
		return
	}
	if err := p.program().Apply(spec); err != nil {
		p.path.log.Error("packet path not changed, the last state stays", "interface", p.name, "err", err)
		return
	}
	p.held, p.applied, p.spec, p.ways = false, want.Generation, spec, ways
}

// begin gets the program onto the interface: in a predecessor's place where one
// left pins, else anew.
func (p *port) begin(want *State, spec *lb.Spec) error {
	left, err := p.leftover()
	switch {
	case err != nil:
		return err
	case left == nil:
		return p.attach(spec)
	case left.Same:
		return p.adopt(left)
	case want.Generation == 0:
		p.left = left // works on; its tables are not ours to read
		p.held = true
		return nil
	}
	return p.replace(left, spec)
}

// leftover opens what a predecessor left here, and clears away what is of no use.
func (p *port) leftover() (*lb.Pinned, error) {
	if p.path.shelf == nil {
		return nil, nil
	}
	if p.left != nil {
		return p.left, nil
	}
	dir := p.path.shelf.of(p.name)
	p.foreign = nil
	left, err := lb.OpenPinned(dir, p.index)
	mode := p.path.setup.Config.mode()
	switch {
	case errors.Is(err, lb.ErrElsewhere):
		p.foreign = fmt.Errorf("%s: %w; end that, or run edged cleanup", dir, err)
		return nil, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, lb.Unpin(dir)
	case err != nil:
		p.path.log.Warn("packet path of a predecessor is of no use", "interface", p.name, "err", err)
		return nil, lb.Unpin(dir)
	case mode != lb.Auto && mode != left.Mode:
		p.path.log.Info("packet path of a predecessor taken off: it ran in another mode", "interface", p.name, "mode", string(left.Mode))
		return nil, errors.Join(left.Close(), lb.Unpin(dir))
	}
	return left, nil
}

// adopt goes on with a predecessor's tables.
func (p *port) adopt(left *lb.Pinned) error {
	prog, a, err := left.Adopt()
	if err != nil {
		return errors.Join(err, left.Close())
	}
	p.have(prog, a)
	p.held, p.pinned = true, true
	p.path.log.Info("packet path adopted", "interface", p.name, "mode", string(a.Mode))
	return nil
}

// replace puts the program in the place of another one of a predecessor.
func (p *port) replace(left *lb.Pinned, spec *lb.Spec) error {
	prog, err := loadWith(spec)
	if err != nil {
		return err
	}
	a, err := left.Replace(prog)
	if a == nil {
		return errors.Join(err, prog.Close())
	}
	p.have(prog, a)
	p.pin(err)
	p.path.log.Info("packet path replaced", "interface", p.name, "mode", string(a.Mode))
	return nil
}

// attach puts the program on an interface that has none.
func (p *port) attach(spec *lb.Spec) error {
	prog, err := loadWith(spec)
	if err != nil {
		return err
	}
	a, err := prog.Attach(p.name, p.path.setup.Config.mode())
	if err != nil {
		return errors.Join(err, prog.Close())
	}
	p.have(prog, a)
	switch {
	case p.path.shelf == nil:
	case p.foreign != nil:
		p.pin(p.foreign)
	default:
		p.pin(prog.Pin(a, p.path.shelf.of(p.name)))
	}
	p.path.log.Info("packet path attached", "interface", p.name, "mode", string(a.Mode))
	return nil
}

// loadWith loads the program with its state.
func loadWith(spec *lb.Spec) (*lb.Program, error) {
	prog, err := lb.Load()
	if err != nil {
		return nil, err
	}
	if err := prog.Apply(spec); err != nil {
		return nil, errors.Join(err, prog.Close())
	}
	return prog, nil
}

func (p *port) have(prog *lb.Program, a *lb.Attachment) {
	p.left, p.attached, p.held = nil, a, false
	p.prog.Store(prog)
}

// pin takes note of how pinning went.
func (p *port) pin(err error) {
	if p.pinned = err == nil; !p.pinned {
		p.path.log.Warn("packet path not pinned: it ends with this process", "interface", p.name, "err", err)
	}
}

// up reports whether packets meet a program.
func (p *port) up() bool { return p.missing == nil && (p.attached != nil || p.left != nil) }

// fail says once why the interface has no program, or nobody can reach it.
func (p *port) fail(err error) {
	if text := oneLine(err); text != p.failure {
		p.failure = text
		p.path.log.Error("no packet path here; edged serves on without it", "interface", p.name, "err", text)
	}
	p.applied = 0
}

// lost notices that the program was taken off by others, or with the interface.
func (p *port) lost() {
	if p.attached == nil {
		return
	}
	if at, err := p.attached.Index(); err != nil || at == 0 || at != p.index {
		p.path.log.Warn("packet path lost: somebody took the program off, or the interface away", "interface", p.name)
		p.close()
	}
}

// close takes the program off.
func (p *port) close() {
	p.path.mu.Lock() // Status may be reading it
	defer p.path.mu.Unlock()
	if p.left != nil {
		_ = p.left.Close() // it is unpinned next
		_ = lb.Unpin(p.path.shelf.of(p.name))
		p.left = nil
	}
	if p.attached != nil {
		_ = p.attached.Close() // the interface may be gone
		p.attached = nil
	}
	if prog := p.prog.Swap(nil); prog != nil {
		_ = prog.Close()
	}
	p.spec, p.applied, p.held, p.pinned = nil, 0, false, false
}
