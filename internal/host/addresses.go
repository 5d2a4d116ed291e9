package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

const (
	lookEvery = 2 * time.Second  // though the kernel tells of changes
	againIn   = 15 * time.Second // what was refused, or is another host's
	fightFor  = time.Second      // an address that goes sooner after it was added is left for a while

	addPatience = time.Second // until the kernel delivers to an address that was added
	addLook     = 5 * time.Millisecond
)

// A State says what is the case with an address.
type State string

// States.
const (
	There   State = "there"   // this machine has it, by somebody else's hand or a local route
	Added   State = "added"   // this process, or one before it, added it
	Foreign State = "foreign" // another host on a connected segment has it
	Missing State = "missing" // it could not be added
)

// Here reports whether the kernel delivers packets for the address to this
// machine, and nobody else's does.
func (s State) Here() bool { return s == There || s == Added }

// An AddressStatus is an address and what is the case with it.
type AddressStatus struct {
	Address netip.Addr
	State   State
	Text    string // why it is not here, with what to do
}

// An AddressEvent tells that something has changed.
type AddressEvent struct {
	At      time.Time
	Address netip.Addr
	Text    string
}

// AddressSetup says which addresses belong on this machine.
type AddressSetup struct {
	Want     []netip.Addr
	StateDir string             // of the ledger; it is locked while Run runs
	OnEvent  func(AddressEvent) // may be nil; must not block
}

// Addresses keeps addresses on lo. It takes what is there as it is, whoever
// added it, and removes only what it added: a ledger in the state directory
// remembers that, whatever becomes of the process.
type Addresses struct {
	setup   AddressSetup
	log     *slog.Logger
	changed chan struct{} // holds a token when status may have changed

	mu     sync.Mutex // guards status
	status []AddressStatus

	// Owned by the goroutine in Run.
	ledger *ledger
	held   map[netip.Addr]hold
	added  map[netip.Addr]time.Time
}

// A hold keeps an address as it is until it is time to try again.
type hold struct {
	until  time.Time
	status AddressStatus
}

// NewAddresses returns Addresses that nothing is done for before Run.
func NewAddresses(s AddressSetup, log *slog.Logger) *Addresses {
	a := &Addresses{setup: s, log: log, changed: make(chan struct{}, 1), held: map[netip.Addr]hold{}, added: map[netip.Addr]time.Time{}}
	for _, x := range s.Want {
		a.status = append(a.status, AddressStatus{Address: x, State: Missing, Text: "not looked at yet"})
	}
	return a
}

// Status returns what is the case with each address.
func (a *Addresses) Status() []AddressStatus {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.status)
}

// Changed returns a channel that holds a token when Status may have changed
// since the last receive. It has one receiver.
func (a *Addresses) Changed() <-chan struct{} { return a.changed }

// Run adds what is missing, is ready once that was tried, puts back what is
// taken away, and when ctx ends removes what it added. It fails when another
// process has the state directory, or the ledger cannot be opened.
func (a *Addresses) Run(ctx context.Context, ready func()) error {
	lock, err := lockDir(a.setup.StateDir)
	if errors.Is(err, ErrInUse) {
		return fmt.Errorf("%w; give each its own state.dir", err)
	}
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }() // nothing was written
	if err := a.open(); err != nil {
		return err
	}
	changed, stop, err := watch()
	if err != nil {
		a.log.Warn("addresses are looked at from time to time only", "every", lookEvery.String(), "err", err)
	} else {
		defer stop()
	}
	a.remove(func(x netip.Addr) bool { return !slices.Contains(a.setup.Want, x) })
	a.settle(ctx)
	ready()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			a.remove(func(netip.Addr) bool { return true })
			return nil
		case <-changed:
		case <-tick.C:
		}
		a.settle(ctx)
	}
}

// open reads the ledger. One that makes no sense is put aside: what it knew is
// taken as it is, and stays.
func (a *Addresses) open() (err error) {
	a.ledger, err = openLedger(a.setup.StateDir)
	if !errors.Is(err, errUnreadable) {
		return err
	}
	path := filepath.Join(a.setup.StateDir, LedgerName)
	a.log.Error("the ledger of addresses is put aside; what edged added before stays when it ends", "as", path+".bad", "err", err)
	if err := os.Rename(path, path+".bad"); err != nil {
		return err
	}
	a.ledger, err = openLedger(a.setup.StateDir)
	return err
}

// remove takes addresses from lo that were added.
func (a *Addresses) remove(which func(netip.Addr) bool) {
	for _, x := range a.ledger.mine() {
		if !which(x) {
			continue
		}
		removed, err := unassign(x)
		if err != nil {
			a.log.Error("address not removed; edged cleanup tries again", "address", x, "err", err)
			continue
		}
		if removed {
			a.log.Info("address removed from lo", "address", x)
		}
		if err := a.ledger.forget(x); err != nil {
			a.log.Error("ledger of addresses not written", "err", err)
		}
	}
}

// tell publishes the new status and says what has changed.
func (a *Addresses) tell(next []AddressStatus) {
	a.mu.Lock()
	before := a.status
	a.status = next
	a.mu.Unlock()
	if slices.Equal(before, next) {
		return
	}
	for i := range next {
		if before[i] != next[i] {
			a.report(before[i], next[i])
		}
	}
	select {
	case a.changed <- struct{}{}:
	default:
	}
}

// report logs one change.
func (a *Addresses) report(before, now AddressStatus) {
	text := now.Text
	switch now.State {
	case There:
		text = "is on this machine"
		a.log.Info("VIP address is on this machine", "address", now.Address)
	case Added:
		if before.State.Here() {
			return // restored told
		}
		text = "added to lo"
		a.log.Info("VIP address added to lo", "address", now.Address)
	case Foreign:
		a.log.Error("VIP address is another host's; its VIP stays withdrawn", "address", now.Address, "reason", text)
	case Missing:
		a.log.Error("VIP address is not on this machine; its VIP stays withdrawn", "address", now.Address, "reason", text)
	}
	a.event(now.Address, text)
}

func (a *Addresses) event(x netip.Addr, text string) {
	if a.setup.OnEvent != nil {
		a.setup.OnEvent(AddressEvent{At: time.Now(), Address: x, Text: text})
	}
}
