package lb

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// What is pinned in a directory. The note is written last and removed first:
// without it nothing else there is believed.
const (
	pinLink   = "link"
	pinCounts = "counts"
	pinPeers  = "peers"
	pinTables = "tables"
	pinNote   = "note"
)

// noteSize is what a note may be long: every name that fits into the program,
// and more.
const noteSize = 1 << 18

// ErrElsewhere means that pins belong to an interface of another network
// namespace.
var ErrElsewhere = errors.New("pinned by an edged in another network namespace")

// A note is what a successor must know besides what is pinned.
type note struct {
	Object  string                `json:"object"` // digest of the program and its tables' form
	Mode    AttachMode            `json:"mode"`
	Netns   uint64                `json:"netns"` // inode of the interface's network namespace
	Servers map[string]uint16     `json:"servers"`
	VIPs    map[netip.Addr]uint16 `json:"vips"`
}

// object is the digest of this package's program. Tables are taken over by the
// very same program alone: nothing that it believes of them can be wrong then.
func object() string {
	sum := sha256.Sum256(_LbBytes)
	return hex.EncodeToString(sum[:8])
}

// Pin keeps the attachment and the program's tables in the kernel when the
// process ends, by names in dir, which must be on a BPF file system. Closing
// the attachment removes them.
func (p *Program) Pin(a *Attachment, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := a.link.Pin(filepath.Join(dir, pinLink)); err != nil {
		return fmt.Errorf("pin the link: %w", err)
	}
	a.pins = dir
	if err := p.pinTables(a.Mode, dir); err != nil {
		return errors.Join(err, Unpin(dir))
	}
	return nil
}

func (p *Program) pinTables(mode AttachMode, dir string) error {
	for name, m := range map[string]*ebpf.Map{pinCounts: p.objs.Counts, pinPeers: p.objs.Peers, pinTables: p.objs.Tables} {
		clone, err := m.Clone() // a map has one pin by this library's book
		if err != nil {
			return err
		}
		err = clone.Pin(filepath.Join(dir, name))
		if err := errors.Join(err, clone.Close()); err != nil {
			return fmt.Errorf("pin the %s: %w", name, err)
		}
	}
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "edged_note", Type: ebpf.Array, KeySize: 4, ValueSize: noteSize, MaxEntries: 1})
	if err != nil {
		return fmt.Errorf("make the note: %w", err)
	}
	netns, err := currentNetns()
	if err != nil {
		return errors.Join(err, m.Close())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.note, p.noted = m, note{Object: object(), Mode: mode, Netns: netns}
	if err := p.writeNote(); err != nil {
		return err
	}
	if err := m.Pin(filepath.Join(dir, pinNote)); err != nil {
		return fmt.Errorf("pin the note: %w", err)
	}
	return nil
}

// writeNote brings the note up to date; p.mu is held.
func (p *Program) writeNote() error {
	if p.note == nil {
		return nil
	}
	p.noted.Servers, p.noted.VIPs = p.servers.of, p.vips.of
	text, err := json.Marshal(p.noted)
	if err == nil && len(text) > noteSize {
		err = fmt.Errorf("%d bytes, at most %d fit", len(text), noteSize)
	}
	if err == nil {
		err = p.note.Put(uint32(0), append(text, make([]byte, noteSize-len(text))...))
	}
	if err != nil {
		return fmt.Errorf("write the note for a successor: %w", err)
	}
	return nil
}

// currentNetns is the inode of the calling thread's network namespace.
func currentNetns() (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return 0, fmt.Errorf("network namespace: %w", err)
	}
	return st.Ino, nil
}

// A Pinned is what a process that ended has left on an interface. It works on
// until it is adopted, replaced or removed.
type Pinned struct {
	Mode AttachMode
	Same bool // the very same program: it can be adopted
	dir  string
	note note
	link link.Link
}

// OpenPinned opens what is pinned in dir for the interface of that index in the
// calling thread's namespace. [fs.ErrNotExist]: nothing is. [ErrElsewhere]: it
// belongs to others. Any other error: it is of no use, see [Unpin].
func OpenPinned(dir string, index int) (*Pinned, error) {
	l, err := link.LoadPinnedLink(filepath.Join(dir, pinLink), nil)
	if err != nil {
		return nil, fmt.Errorf("pinned link: %w", err)
	}
	k := &Pinned{dir: dir, link: l}
	if err := k.read(index); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return k, nil
}

func (k *Pinned) read(index int) error {
	m, err := ebpf.LoadPinnedMap(filepath.Join(k.dir, pinNote), nil)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return errors.New("pins without a note: their writer was interrupted")
		}
		return fmt.Errorf("pinned note: %w", err)
	}
	defer func() { _ = m.Close() }() // it was read
	text := make([]byte, m.ValueSize())
	if err := m.Lookup(uint32(0), &text); err != nil {
		return fmt.Errorf("pinned note: %w", err)
	}
	text, _, _ = bytes.Cut(text, []byte{0})
	if err := json.Unmarshal(text, &k.note); err != nil {
		return fmt.Errorf("pinned note: %w", err)
	}
	at, err := linkIndex(k.link)
	if err != nil {
		return err
	}
	netns, err := currentNetns()
	if err != nil {
		return err
	}
	switch {
	case at != 0 && k.note.Netns != netns:
		return ErrElsewhere
	case at != index:
		return errors.New("the interface of the pinned link is gone")
	}
	k.Mode, k.Same = k.note.Mode, k.note.Object == object()
	return nil
}

// linkIndex is the interface that a link is on, 0 once it has been taken off.
func linkIndex(l link.Link) (int, error) {
	info, err := l.Info()
	if err != nil {
		return 0, fmt.Errorf("link: %w", err)
	}
	x := info.XDP()
	if x == nil {
		return 0, errors.New("link: it is not of an XDP program")
	}
	return int(x.Ifindex), nil
}

// Adopt goes on with the pinned tables: what they say stays in force and the
// counters go on. It needs Same.
func (k *Pinned) Adopt() (*Program, *Attachment, error) {
	if !k.Same {
		return nil, nil, errors.New("adopt: the pinned program is another one")
	}
	tables := map[string]*ebpf.Map{}
	defer func() {
		for _, m := range tables {
			_ = m.Close() // the program has its own
		}
	}()
	for name, pin := range map[string]string{lbMapCounts: pinCounts, lbMapPeers: pinPeers, ".bss": pinTables} {
		m, err := ebpf.LoadPinnedMap(filepath.Join(k.dir, pin), nil)
		if err != nil {
			return nil, nil, fmt.Errorf("pinned %s: %w", pin, err)
		}
		tables[name] = m
	}
	p, err := load(tables)
	if err != nil {
		return nil, nil, err
	}
	if err := p.resume(k); err != nil {
		return nil, nil, errors.Join(err, p.Close())
	}
	if err := k.link.Update(p.objs.Lb); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("put the program in its predecessor's place: %w", err), p.Close())
	}
	return p, &Attachment{Mode: k.Mode, link: k.link, pins: k.dir}, nil
}

// resume takes over what the tables and the note say.
func (p *Program) resume(k *Pinned) error {
	if err := p.objs.Active.Get(&p.active); err != nil {
		return fmt.Errorf("the active generation: %w", err)
	}
	p.active &= 1
	p.servers.of, p.vips.of = maps.Clone(k.note.Servers), maps.Clone(k.note.VIPs)
	m, err := ebpf.LoadPinnedMap(filepath.Join(k.dir, pinNote), nil)
	if err != nil {
		return fmt.Errorf("pinned note: %w", err)
	}
	p.note, p.noted = m, k.note
	return nil
}

// Replace puts p, with its own tables, in the place of the pinned program; no
// packet meets an interface without one. Counters begin anew.
func (k *Pinned) Replace(p *Program) (*Attachment, error) {
	if err := removeAll(k.dir, pinNote, pinCounts, pinPeers, pinTables); err != nil {
		return nil, err
	}
	if err := k.link.Update(p.objs.Lb); err != nil {
		return nil, fmt.Errorf("put the program in its predecessor's place: %w", err)
	}
	a := &Attachment{Mode: k.Mode, link: k.link, pins: k.dir}
	return a, p.pinTables(k.Mode, k.dir)
}

// Close forgets what was opened; it works on.
func (k *Pinned) Close() error { return k.link.Close() }

// Unpin takes off the program that is pinned in dir, and removes dir.
func Unpin(dir string) error {
	if l, err := link.LoadPinnedLink(filepath.Join(dir, pinLink), nil); err == nil {
		if err := errors.Join(detach(l), l.Close()); err != nil {
			return err
		}
	}
	if err := removeAll(dir, pinNote, pinLink, pinCounts, pinPeers, pinTables); err != nil {
		return err
	}
	return removeAll(dir, "")
}

func removeAll(dir string, names ...string) error {
	var errs []error
	for _, name := range names {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
