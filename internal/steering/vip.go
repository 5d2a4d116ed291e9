package steering

import (
	"cmp"
	"time"

	"anyedge/internal/world"
)

// VIPMemory is what a VIP's next step must know beside its VIPPlan.
type VIPMemory struct {
	GateOK    bool      // what the gate last said
	GateSince time.Time // since when
	// HeldFrom is when a failing gate last took it off the wire: hold_down
	// counts from here. Zero: no hold_down, as after an operator's drain.
	HeldFrom time.Time
	// Drained is what an operator drained last: this geo or this node.
	Drained string

	Beat   time.Time     // the proxy's last sign of life
	Silent time.Duration // since then, as far as decisions were made
}

// listen counts how long the proxy has been silent; since is the decision
// before. Beat is only compared with the next one, and a new one is believed to
// be at most maxSilence old: a clock that is set ends no lease.
func (m *VIPMemory) listen(now, since, alive time.Time) {
	if alive.Equal(m.Beat) {
		m.Silent += silence(now.Sub(since))
		return
	}
	m.Beat, m.Silent = alive, silence(now.Sub(alive))
}

// silence is what an interval adds to one.
func silence(d time.Duration) time.Duration { return min(max(d, 0), maxSilence) }

// A vipStep is one VIP on its way from the plan before to the next.
type vipStep struct {
	v     *View
	vip   *VIPView
	rules rules
	gate  gate

	others []string // geos known to announce it too
	out    *Cause   // why it should leave now; nil: no reason
	plan   VIPPlan
	mem    VIPMemory
}

// startCause is why a VIP is idle when nothing else keeps it so.
var startCause = Cause{Kind: "start", Reason: "edged started"}

// stepVIP decides the next state of vip.
func stepVIP(prev *Plan, v *View, vip *VIPView) *vipStep {
	s := &vipStep{v: v, vip: vip, rules: vip.Config.rules(), mem: prev.Memory.VIPs[vip.Config.Name]}
	s.plan = VIPPlan{Name: vip.Config.Name, State: Idle, Since: v.Now, Cause: startCause}
	if before := prev.VIP(vip.Config.Name); before != nil {
		s.plan.State, s.plan.Since, s.plan.Cause = before.State, before.Since, before.Cause
	}
	s.mem.listen(v.Now, prev.At, vip.ProxyAlive)
	s.gate = readGate(v, vip, s.mem.Silent, s.rules.when)
	s.plan.Gate = s.gate.signals
	s.others = announcing(v, vip.Config.Name)
	s.remember()
	s.out = s.leave()
	for s.advance() { // timers of 0 may take it through several states at once
	}
	s.plan.Want = s.want()
	s.plan.Telling = s.telling(prev.VIP(vip.Config.Name))
	s.next()
	return s
}

// remember notes since when the gate says what it says. While a service is not
// judged, it says nothing new.
func (s *vipStep) remember() {
	first := s.mem.GateSince.IsZero()
	if s.waits() && !first {
		return
	}
	ok := s.gate.hard == "" && s.gate.soft && !s.waits()
	if first || ok != s.mem.GateOK {
		s.mem.GateOK, s.mem.GateSince = ok, s.v.Now
	}
}

// waits reports whether the gate has no verdict because a service has none.
func (s *vipStep) waits() bool { return s.gate.hard == "" && !s.gate.known }

// ordered returns why the VIP should not be announced whatever the gate says:
// the process stops or an operator drains the geo or the node. nil: nothing of that.
func (s *vipStep) ordered() *Cause {
	if s.v.Stopping {
		return &Cause{Kind: "stop", Reason: "edged is stopping"}
	}
	if o := s.drainedBy(); o != nil {
		s.mem.Drained = o.Target
		return &Cause{Kind: "operator", Who: o.Who, Reason: cmp.Or(o.Reason, "drain of "+o.Target)}
	}
	return nil
}

// drainedBy returns the order that drains this geo or this node, nil when there
// is none.
func (s *vipStep) drainedBy() *world.Order {
	if o := s.v.drainOrder(s.v.self()); o != nil {
		return o
	}
	return s.v.nodeOrder(s.v.node())
}

// leave returns why the VIP should leave now; nil when it need not.
func (s *vipStep) leave() *Cause {
	if c := s.ordered(); c != nil {
		return c
	}
	if !s.mem.GateOK && !s.waits() && s.since(s.mem.GateSince) >= s.rules.fall {
		return &Cause{Kind: "gate", Reason: s.gate.reason()}
	}
	return nil
}

// want returns the state that gate and orders ask for, without timers and
// guard.
func (s *vipStep) want() State {
	if s.vip.Here && s.mem.GateOK && s.ordered() == nil {
		return Announced
	}
	if s.plan.State == Idle {
		return Idle
	}
	return Withdrawn
}

// advance makes at most one transition and reports whether it made one.
func (s *vipStep) advance() bool {
	if !s.vip.Here {
		return s.to(Idle, Cause{Kind: "geo", Reason: s.v.self() + " is not among its geos"})
	}
	switch s.plan.State {
	case Announced, Draining:
		if s.gate.hard != "" {
			s.mem.HeldFrom = s.v.Now
			return s.to(Withdrawn, Cause{Kind: "gate", Reason: s.gate.hard})
		}
		if s.plan.State == Announced {
			return s.out != nil && s.to(Draining, *s.out)
		}
		return s.drain()
	case Idle, Withdrawn:
		return s.enter()
	}
	return s.to(Idle, startCause)
}

// drain moves a draining VIP on or back, and keeps its cause up to date.
func (s *vipStep) drain() bool {
	if s.out == nil {
		return s.enter()
	}
	s.blame()
	if s.since(s.plan.Since) < s.wait() || s.guarded() {
		return false
	}
	s.mem.HeldFrom = time.Time{}
	if s.out.Kind == "gate" {
		s.mem.HeldFrom = s.v.Now
	}
	return s.to(Withdrawn, *s.out)
}

// wait is how long the VIP stays on the wire while it drains.
func (s *vipStep) wait() time.Duration { return max(s.rules.wait, s.tell()) }

// telling reports whether the drain is not yet said to routers. Once said, it
// stays said.
func (s *vipStep) telling(before *VIPPlan) bool {
	if s.plan.State != Draining || before != nil && before.State == Draining && !before.Telling {
		return false
	}
	return s.since(s.plan.Since) < s.tell()
}

// tell is how long the other geos are told before routers are: not at all when
// only this node leaves, and its geo stays.
func (s *vipStep) tell() time.Duration {
	if s.onlyNode() && s.siblings() > 0 {
		return 0
	}
	return s.v.tellTime()
}

// onlyNode reports whether an operator drains this node, and not its geo.
func (s *vipStep) onlyNode() bool {
	return s.v.drainOrder(s.v.self()) == nil && s.v.nodeOrder(s.v.node()) != nil
}

// guarded reports whether too few others announce the VIP for this geo to
// leave of its own will. A process that stops leaves anyway.
func (s *vipStep) guarded() bool {
	if s.v.Stopping {
		return false
	}
	others := len(s.others)
	if s.onlyNode() {
		others += s.siblings() // the geo as a whole stays
	}
	return others < s.rules.minOthers
}

// siblings counts the other nodes of this geo that announce the VIP and are not
// drained.
func (s *vipStep) siblings() int {
	if s.v.World == nil {
		return 0
	}
	count := 0
	g := s.v.World.Self()
	for i := range g.Nodes {
		n := &g.Nodes[i]
		if n.Name != s.v.node() && n.Alive && n.Announcing(s.plan.Name) && Believed(g, n, s.v.Now) && s.v.nodeOrder(n.Name) == nil {
			count++
		}
	}
	return count
}

// enter announces the VIP once everything that delays it is over.
func (s *vipStep) enter() bool {
	if s.plan.State != Draining {
		s.blame()
	}
	if s.want() != Announced {
		return false
	}
	if due, _ := s.due(); s.v.Now.Before(due) {
		return false
	}
	cause := Cause{Kind: "gate", Reason: s.gate.text}
	if s.plan.Cause.Kind == "operator" {
		cause = Cause{Kind: "operator", Reason: "the drain of " + cmp.Or(s.mem.Drained, s.v.self()) + " is over"}
	}
	return s.to(Announced, cause)
}

// blame keeps the cause of a VIP that is leaving, or off the wire, up to date:
// what keeps it there may be something else than what took it.
func (s *vipStep) blame() {
	switch {
	case s.out == nil && s.plan.State == Idle:
		s.plan.Cause = startCause
	case s.out != nil && s.out.Kind != s.plan.Cause.Kind && (s.v.Stopping || !s.holds(s.plan.Cause.Kind)):
		s.plan.Cause = *s.out
	}
}

// holds reports whether a cause of that kind still applies.
func (s *vipStep) holds(kind string) bool {
	switch kind {
	case "operator":
		return s.drainedBy() != nil
	case "gate":
		return !s.mem.GateOK
	}
	return false
}

// pathWait is how long a new process waits for its packet path to follow the
// ring: before that it would reset what routers hand it of others' connections.
const pathWait = 5 * time.Second

// due returns when a VIP whose gate is true may be announced, and the timer
// that ends last.
func (s *vipStep) due() (at time.Time, timer string) {
	at, timer = s.mem.GateSince.Add(s.rules.rise), "rise"
	if s.plan.State == Draining { // it is still on the wire: no hold applies
		return at, timer
	}
	if t := s.v.Started.Add(s.rules.holdUp); t.After(at) {
		at, timer = t, "hold-up"
	}
	if t := s.v.Started.Add(pathWait); s.v.L4Pending && t.After(at) {
		at, timer = t, "l4"
	}
	if !s.mem.HeldFrom.IsZero() {
		if t := s.mem.HeldFrom.Add(s.rules.holdDown); t.After(at) {
			at, timer = t, "hold-down"
		}
	}
	return at, timer
}

// to enters state and reports whether that changed anything.
func (s *vipStep) to(state State, cause Cause) bool {
	changed := s.plan.State != state
	if changed {
		s.plan.Since = s.v.Now
	}
	s.plan.State, s.plan.Cause = state, cause
	return changed
}

// next fills in what is due and what stands in the way.
func (s *vipStep) next() {
	if s.plan.State == s.plan.Want {
		if s.plan.State == Idle && s.vip.Here && s.waits() {
			s.plan.Blocked = "reports"
		}
		return
	}
	switch {
	case s.plan.Want == Announced:
		at, timer := s.due()
		s.plan.Blocked, s.plan.Next = timer, &Next{Announced, at}
	case s.plan.State == Announced:
		s.plan.Blocked, s.plan.Next = "fall", &Next{Draining, s.mem.GateSince.Add(s.rules.fall)}
	case s.guarded():
		s.plan.Blocked = "guard"
	default: // draining
		at := s.plan.Since.Add(s.wait())
		if t := s.mem.GateSince.Add(s.rules.fall); s.out == nil && t.After(at) {
			at = t
		}
		s.plan.Blocked, s.plan.Next = "drain-wait", &Next{Withdrawn, at}
	}
}

// since returns how long ago t was.
func (s *vipStep) since(t time.Time) time.Duration { return s.v.Now.Sub(t) }
