package fabric

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"anyedge/internal/world"
)

var (
	errWrongName = errors.New("another node answers")
	errDuplicate = errors.New("the name is held by another key")
	errSelf      = errors.New("this node calls itself, or its key is in use on a second machine")
	errNoAddress = errors.New("no address is known yet")
	errStopped   = errors.New("the fabric has stopped")
)

const (
	// holdKey is how long a name stays with its key after the last sign of
	// life: a node that is renewed comes back with a new key.
	holdKey = 10 * time.Second
	// maxAccepted bounds the connections that one peer may keep open to us.
	maxAccepted = 4
	// shortLife is the age below which the end of a connection counts as a
	// failed dial.
	shortLife = 2 * time.Second

	minDialPause = 200 * time.Millisecond
	maxDialPause = 5 * time.Second
)

// A remote is another node, as this one knows it. One goroutine (run) keeps a
// dialed connection open, a second one (sync) exchanges records with it.
type remote struct {
	f    *Fabric
	name string
	kick chan struct{} // holds one token when run should look again
	pull chan struct{} // holds one token when its records should be asked for
	push chan struct{} // holds one token when pending is not empty

	mu       sync.Mutex
	geo      string // from its certificate; until that was seen, from gossip
	verified bool   // geo is from its certificate
	number   uint16
	software string
	status   world.Status   // "" while it is no member
	since    time.Time      // of status
	addr     netip.AddrPort // as it advertises it
	seed     netip.AddrPort // a configured address at which it answered
	out      *link          // dialed by us; requests go here
	in       []*link        // dialed by it, oldest first
	arrived  chan struct{}  // closed when the next link is attached
	key      [32]byte       // who holds the name
	keySeen  time.Time
	pause    time.Duration // before the next dial
	lastErr  string
	pulse    pulse
	heard    time.Time // its last probe or echo
	hears    bool      // it says that it hears us
	pending  map[recordKey]struct{}
	asked    time.Time // when it was last asked for what its probes spoke of
	requests uint64    // sent to it
	served   uint64    // of its, answered here
}

func newRemote(f *Fabric, name string) *remote {
	return &remote{
		f: f, name: name,
		kick: make(chan struct{}, 1), pull: make(chan struct{}, 1), push: make(chan struct{}, 1),
		arrived: make(chan struct{}), pending: map[recordKey]struct{}{},
	}
}

// run keeps a dialed connection open for as long as the node is wanted.
func (r *remote) run(ctx context.Context) {
	for turn := 0; ; turn++ {
		addr, pause, ok := r.awaitWanted(ctx, turn)
		if !ok {
			return
		}
		if pause > 0 {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return
			}
		}
		l, err := r.f.dial(ctx, addr, r.name)
		if err != nil {
			r.dialFailed(addr, err)
			continue
		}
		r.attach(l)
	}
}

// awaitWanted blocks until the node needs to be dialed, and says where.
func (r *remote) awaitWanted(ctx context.Context, turn int) (netip.AddrPort, time.Duration, bool) {
	check := time.NewTicker(time.Second)
	defer check.Stop()
	for ctx.Err() == nil {
		if addr, pause, ok := r.wanted(turn); ok {
			return addr, pause, true
		}
		select {
		case <-r.kick:
		case <-check.C:
		case <-ctx.Done():
		}
	}
	return netip.AddrPort{}, 0, false
}

// wanted says whether and where to dial: where `via` says, or in turns where
// the node advertises and where it once answered.
func (r *remote) wanted(turn int) (netip.AddrPort, time.Duration, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.out != nil || r.status == world.Left {
		return netip.AddrPort{}, 0, false
	}
	if via, ok := r.f.via[r.name]; ok {
		return via, r.pause, true
	}
	ways := slices.DeleteFunc([]netip.AddrPort{r.addr, r.seed}, func(a netip.AddrPort) bool { return !a.IsValid() })
	if len(ways) == 0 {
		return netip.AddrPort{}, 0, false
	}
	return ways[turn%len(ways)], r.pause, true
}

func (r *remote) dialFailed(addr netip.AddrPort, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lastErr = err.Error()
	var silent interface{ Timeout() bool }
	if errors.As(err, &silent) && silent.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		r.pause = minDialPause // nothing came back: look again soon, the path may heal
		return
	}
	r.slower()
	if errors.Is(err, errWrongName) && addr == r.seed {
		r.seed = netip.AddrPort{}
		r.f.roster.forgetSeed(addr)
	}
}

// slower doubles the pause between dials; r.mu is held.
func (r *remote) slower() {
	r.pause = min(max(2*r.pause, minDialPause), maxDialPause)
}

// attach takes a new connection to the node into use and runs it. One that
// brings another key than the name's holder is refused.
func (r *remote) attach(l *link) {
	old, err := r.admit(l)
	if err != nil {
		reason := "other key"
		if errors.Is(err, errSelf) {
			reason = "same key"
		}
		r.f.refuse.add(DuplicateName, reason, l.peer, err.Error())
		l.close(codeDuplicate, err.Error())
		r.mu.Lock()
		r.lastErr = err.Error()
		r.slower()
		r.mu.Unlock()
		return
	}
	if old != nil {
		old.close(codeReplaced, "there is another connection")
	}
	if old == l {
		return
	}
	r.f.crew.Go(func(ctx context.Context) {
		l.run(ctx)
		r.detach(l) //nolint:contextcheck // it asks the connection's own context why
	})
	signal(r.pull)
	signal(r.f.members.look)
	signal(r.f.probes)
}

// admit enters l, and returns the link that has to give way: l itself, when two
// dials crossed.
func (r *remote) admit(l *link) (old *link, err error) {
	if r.name == r.f.setup.NodeName && l.key == r.f.keyID {
		return nil, fmt.Errorf("%w: it calls from %s", errSelf, l.conn.RemoteAddr())
	}
	if r.name == r.f.setup.NodeName {
		return nil, fmt.Errorf("%w: %s is the name of this node", errDuplicate, r.name)
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.key != l.key {
		held := r.out != nil || len(r.in) > 0 || now.Sub(r.keySeen) < holdKey
		if r.key != [32]byte{} && held {
			return nil, fmt.Errorf("%w: %s came with the key %x, its holder has %x", errDuplicate, l.peer, l.key[:4], r.key[:4])
		}
		r.key = l.key
	}
	r.keySeen, r.geo, r.verified = now, l.peer.Geo, true
	switch {
	case l.dialed && r.out != nil && r.out.alive():
		return l, nil
	case l.dialed:
		r.out = l
		r.pulse.restart()
	default:
		r.in = append(r.in, l)
		if len(r.in) > maxAccepted {
			old, r.in = r.in[0], r.in[1:]
		}
	}
	close(r.arrived)
	r.arrived = make(chan struct{})
	return old, nil
}

// detach forgets a connection that has ended.
func (r *remote) detach(l *link) {
	now := time.Now()
	cause := l.cause()
	app, ok := errors.AsType[*quic.ApplicationError](cause)
	left := ok && app.ErrorCode == codeLeaving
	r.mu.Lock()
	r.in = slices.DeleteFunc(r.in, func(other *link) bool { return other == l })
	r.keySeen = now
	if left {
		r.keySeen = time.Time{}
	}
	wentDown := false
	if r.out == l {
		r.out = nil
		wentDown = r.pulse.fail(now)
		r.pause = 0
		if now.Sub(l.opened) < shortLife {
			r.slower()
		}
		if cause != nil && !left {
			r.lastErr = cause.Error()
		}
	}
	r.mu.Unlock()
	if wentDown && !left {
		r.f.event(PathDown, l.peer, "the connection ended: "+cause.Error())
	}
	signal(r.kick)
	signal(r.f.rebuild)
}

// best returns the connection for everything but requests, nil without one.
func (r *remote) best() *link {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.out != nil && r.out.alive():
		return r.out
	case len(r.in) > 0:
		return r.in[len(r.in)-1]
	}
	return nil
}

// live is best, but nil unless there is a sign of life: a probe that was
// answered or heard lately, or a connection so new that none could be.
func (r *remote) live() *link {
	l, now := r.best(), time.Now()
	if l == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pulse.alive || now.Sub(r.heard) < hearing || now.Sub(l.opened) < shortLife {
		return l
	}
	return nil
}

// dialed returns the connection for requests, nil without one.
func (r *remote) dialed() *link {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.out == nil || !r.out.alive() {
		return nil
	}
	return r.out
}

// await returns what pick returns as soon as that is a connection.
func (r *remote) await(ctx context.Context, pick func() *link) (*link, error) {
	for {
		r.mu.Lock()
		arrived, lastErr := r.arrived, r.lastErr
		r.mu.Unlock()
		if l := pick(); l != nil {
			return l, nil
		}
		signal(r.kick)
		select {
		case <-arrived:
		case <-r.f.crew.done:
			return nil, errStopped
		case <-ctx.Done():
			if lastErr == "" {
				lastErr = errNoAddress.Error()
			}
			return nil, fmt.Errorf("no connection to %s: %w; last: %s", r.name, ctx.Err(), lastErr)
		}
	}
}

// links returns every open connection.
func (r *remote) links() []*link {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := slices.Clone(r.in)
	if r.out != nil {
		list = append(list, r.out)
	}
	return list
}
