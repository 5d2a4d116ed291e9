package admission

import (
	"math"
	"time"

	"anyedge/internal/steering"
)

// runningSmoothing is the time constant of the executed rate.
const runningSmoothing = time.Second

// measured is what the last Measure saw.
type measured struct {
	at       time.Time
	offered  int64
	executed int64
	foreign  int64
	peers    map[string]peerMeasured
}

type peerMeasured struct{ relayed, busy int64 }

// Executed counts a request that was given to a local backend. foreign: it was
// sent here by another geo, which was overloaded or had no backend.
func (d *Door) Executed(foreign bool) {
	d.executed.Add(1)
	if foreign {
		d.foreign.Add(1)
	}
}

// Heard notes what geo said in its answer to a relayed request: the grant it
// gives this geo, and whether it refused a shed request as busy.
func (d *Door) Heard(geo string, grant float64, busy bool, now time.Time) {
	p := d.peers.get(geo)
	if busy {
		p.busy.Add(1)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.grant, p.grantAt = grant, now
}

// Measure returns what was counted since the last call, and what peers said
// last.
func (d *Door) Measure(now time.Time) steering.Measured {
	d.mu.Lock()
	defer d.mu.Unlock()
	last := d.measured
	next := measured{
		at:       now,
		executed: d.executed.Load(), foreign: d.foreign.Load(),
		peers: map[string]peerMeasured{},
	}
	for c := range d.offered {
		next.offered += d.offered[c].Load()
	}
	m := steering.Measured{
		Offered:  int(next.offered - last.offered),
		Executed: int(next.executed - last.executed),
		Foreign:  int(next.foreign - last.foreign),
		Peers:    map[string]steering.PeerMeasured{},
	}
	if !last.at.IsZero() {
		m.Interval = now.Sub(last.at)
	}
	for geo, p := range d.peers.all() {
		n := peerMeasured{p.relayed.Load(), p.busy.Load()}
		next.peers[geo] = n
		was := last.peers[geo]
		m.Peers[geo] = p.measured(int(n.relayed-was.relayed), int(n.busy-was.busy))
	}
	d.measured = next
	return m
}

func (p *peer) measured(relayed, busy int) steering.PeerMeasured {
	p.mu.Lock()
	defer p.mu.Unlock()
	return steering.PeerMeasured{
		Relayed: relayed, Busy: busy,
		Grant: p.grant, GrantAt: p.grantAt,
		Want: p.want, Urgent: p.urgent, WantAt: p.wantAt,
	}
}

// learn updates the smoothed rates and the widths. The caller holds mu.
func (d *Door) learn(now time.Time) {
	if d.at.IsZero() {
		d.at = now
		return
	}
	dt := now.Sub(d.at).Seconds()
	if dt <= 0 {
		return
	}
	d.at = now
	ran := d.executed.Load()
	rate := math.Float64frombits(d.running.Load())
	rate += -math.Expm1(-dt/runningSmoothing.Seconds()) * (float64(ran-d.seenRun)/dt - rate)
	d.running.Store(math.Float64bits(rate))
	d.seenRun = ran

	var fresh [classes]float64
	for c := range d.offered {
		n := d.offered[c].Load()
		fresh[c] = float64(n - d.seen[c])
		d.seen[c] = n
	}
	if sum := fresh[interactive] + fresh[background]; sum > 0 {
		a := -math.Expm1(-dt / smoothing.Seconds())
		d.share += a * (fresh[background]/sum - d.share)
	}
	for _, p := range d.peers.all() {
		p.correct(dt)
	}
}
