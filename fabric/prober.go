package fabric

import (
	"context"
	"time"
)

// probeTick is the resolution of the prober.
const probeTick = 50 * time.Millisecond

// hearing is how long a peer's last probe counts as being heard.
const hearing = time.Second

// probe sends probes until ctx ends. It is the one place that declares a path
// dead.
func (f *Fabric) probe(ctx context.Context) {
	tick := time.NewTicker(probeTick)
	defer tick.Stop()
	last := time.Now()
	for {
		urgent := false
		select {
		case <-tick.C:
		case <-f.probes:
			urgent = true
		case <-ctx.Done():
			return
		}
		now := time.Now()
		// Whoever stood still himself must not blame others for it.
		late := max(now.Sub(last)-2*probeTick, 0)
		last = now
		nodes := f.roster.all()
		first := f.nearest(nodes)
		for _, r := range nodes {
			r.beat(now, late, urgent, first[r])
		}
	}
}

// nearest returns the nodes to probe at full rate: all of this geo, and the
// nearest live one of each other geo.
func (f *Fabric) nearest(nodes []*remote) map[*remote]bool {
	type candidate struct {
		r   *remote
		rtt time.Duration
	}
	best := map[string]candidate{}
	first := map[*remote]bool{}
	for _, r := range nodes {
		r.mu.Lock()
		geo, alive, rtt := r.geo, r.pulse.alive, r.pulse.least
		r.mu.Unlock()
		if geo == f.setup.Geo {
			first[r] = true
			continue
		}
		if b, ok := best[geo]; alive && (!ok || rtt < b.rtt) {
			best[geo] = candidate{r, rtt}
		}
	}
	for _, c := range best {
		first[c.r] = true
	}
	return first
}

// beat probes the node when that is due, and judges its path.
func (r *remote) beat(now time.Time, late time.Duration, urgent, first bool) {
	r.mu.Lock()
	l, p := r.out, &r.pulse
	if l == nil || !l.alive() {
		r.mu.Unlock()
		return
	}
	p.excuse(late)
	p.note(now, l.conn.ConnectionStats().PacketsReceived)
	hopeless := p.hopeless(now)
	died := p.dead(now) && p.fail(now)
	if died {
		r.lastErr = "probes are not answered"
		if now.Sub(r.heard) < deadAfter/2 {
			r.lastErr = "probes are not answered, but its own arrive: the path to it is cut one way"
		}
	}
	why := r.lastErr
	every := probeSlow
	if first || !p.alive || p.waiting > 0 || l.requests.Load() > 0 {
		every = probeFast
	}
	seq := uint32(0)
	if due := !now.Before(p.due); (due || urgent) && !hopeless {
		seq = p.send(now)
		p.due = now.Add(every)
	}
	hears := now.Sub(r.heard) < hearing
	r.mu.Unlock()
	if died {
		r.f.event(PathDown, l.peer, why)
		signal(r.f.rebuild)
	}
	if hopeless {
		l.close(codeDead, "probes are not answered")
		return
	}
	if seq != 0 {
		l.send(r.f.greeting(datagramProbe, seq, l.peer, hears, now))
	}
}

// greeting returns a probe or echo for a peer.
func (f *Fabric) greeting(kind byte, seq uint32, to Peer, hears bool, now time.Time) []byte {
	p := probe{kind: kind, seq: seq, hears: hears, record: f.records.own(), geo: f.setup.Geo, load: f.load.say(now, to)}
	return p.encode()
}

// probe takes a probe or an echo of the peer.
func (l *link) probe(b []byte) {
	f, now := l.f, time.Now()
	p, err := decodeProbe(b)
	if err != nil {
		f.refuse.add(LoadRefused, "malformed", l.peer, err.Error())
		return
	}
	if p.geo != l.peer.Geo {
		f.refuse.add(LoadRefused, "foreign geo", l.peer, "it speaks for "+p.geo)
		return
	}
	r := f.roster.get(l.peer.Node)
	if r == nil {
		return
	}
	p.load.At = now
	f.load.hear(l.peer, p.load)
	woke, again := false, false
	r.mu.Lock()
	r.hears, r.keySeen = p.hears, now
	switch {
	case p.kind == datagramProbe:
		r.heard = now
	case r.out == l:
		streak := r.pulse.streak
		woke = r.pulse.answer(now, p.seq)
		again = !r.pulse.alive && r.pulse.streak > streak // one more decides
	}
	if woke {
		r.lastErr = ""
	}
	rtt := r.pulse.least
	r.mu.Unlock()
	if p.kind == datagramProbe {
		l.send(f.greeting(datagramEcho, p.seq, l.peer, true, now))
	}
	if f.records.confirm(l.peer.Node, p.record, now) && r.mayPull(now) {
		signal(r.pull)
	}
	if woke {
		signal(r.pull)
		f.event(PathUp, l.peer, "round trip "+rtt.Round(10*time.Microsecond).String())
		signal(f.members.look)
		signal(f.rebuild)
	}
	if again {
		signal(f.probes)
	}
}
