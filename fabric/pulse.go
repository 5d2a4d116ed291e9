package fabric

import "time"

const (
	probeFast = 150 * time.Millisecond
	probeSlow = time.Second

	deadAfter    = 500 * time.Millisecond // without an answer; at least 3 RTT
	deadRefused  = 100 * time.Millisecond // the same when its machine has refused a knock
	refusalHolds = time.Second            // how long such a refusal counts
	denialHolds  = 10 * time.Second       // how long none counts after one that was wrong

	cutAfter   = time.Second     // then the connection is given up; at least 4 RTT
	stuckAfter = 3 * time.Second // the same while packets still arrive

	backAfter = 2 // answers that make a dead path alive

	pulseWindow = 64
)

// A pulse is the history of the probes to one node. It has no clock of its own.
type pulse struct {
	alive   bool
	turned  time.Time     // when alive last changed; zero: never
	rtt     time.Duration // smoothed (RFC 6298); 0: never measured
	least   time.Duration // of the last window
	seq     uint32        // of the last probe
	due     time.Time     // of the next one
	sent    [pulseWindow]beat
	waiting int       // probes since the last one that was answered
	since   time.Time // when the first of them was sent
	streak  int       // answers in a row while not alive
	packets uint64    // received on the connection so far
	arrived time.Time // when that number last grew
	refused time.Time // when its machine last said that nobody is there; zero: never
	denied  time.Time // when it last said so of a node that answered: such a word counts for nothing; zero: never
}

// A beat is one probe.
type beat struct {
	seq uint32
	at  time.Time
	rtt time.Duration // 0: not answered
}

// restart begins anew on a fresh connection; what was measured is kept.
func (p *pulse) restart() {
	p.waiting, p.streak, p.due = 0, 0, time.Time{}
	p.refused, p.denied = time.Time{}, time.Time{}
}

// fail makes the path dead, and reports whether it was alive.
func (p *pulse) fail(now time.Time) bool {
	was := p.alive
	if was {
		p.turned = now
	}
	p.alive, p.streak = false, 0
	return was
}

// note takes how many packets the connection has received so far, of any kind.
func (p *pulse) note(now time.Time, packets uint64) {
	if packets != p.packets {
		p.packets, p.arrived = packets, now
	}
}

// send enters the next probe and returns its number.
func (p *pulse) send(now time.Time) uint32 {
	p.seq++
	p.sent[p.seq%pulseWindow] = beat{seq: p.seq, at: now}
	if p.waiting == 0 {
		p.since = now
	}
	p.waiting++
	return p.seq
}

// refuse enters that the node's machine says that nobody is there, and reports
// whether that is worth a question.
func (p *pulse) refuse(now time.Time) bool {
	if now.Sub(p.denied) < denialHolds {
		return false
	}
	p.refused = now
	return true
}

// answer enters an echo, and reports whether it made the path alive.
func (p *pulse) answer(now time.Time, seq uint32) (woke bool) {
	b := &p.sent[seq%pulseWindow]
	if b.seq != seq || b.at.IsZero() || b.rtt != 0 {
		return false
	}
	b.rtt = max(now.Sub(b.at), time.Microsecond)
	if !p.refused.IsZero() && b.at.After(p.refused) { // a firewall, for example, that refuses other ports than the fabric's
		p.refused, p.denied = time.Time{}, now
	}
	if p.rtt == 0 {
		p.rtt = b.rtt
	}
	p.rtt += (b.rtt - p.rtt) / 8
	if later := int(p.seq - seq); later < p.waiting {
		p.waiting = later
		if later > 0 {
			p.since = p.sent[(seq+1)%pulseWindow].at
		}
	}
	p.least = p.minimum()
	if p.alive {
		return false
	}
	p.streak++
	p.due = now // the next answer decides: ask at once
	if p.streak < backAfter {
		return false
	}
	p.alive, p.turned, p.streak = true, now, 0
	return true
}

func (p *pulse) minimum() time.Duration {
	least := time.Duration(0)
	for i := range p.sent {
		if rtt := p.sent[i].rtt; rtt > 0 && (least == 0 || rtt < least) {
			least = rtt
		}
	}
	return least
}

// loss returns the share of the window's probes that were due an answer and
// got none.
func (p *pulse) loss(now time.Time) float64 {
	due, lost := 0, 0
	for i := range p.sent {
		b := &p.sent[i]
		if b.at.IsZero() || b.rtt == 0 && now.Sub(b.at) < max(deadAfter, 3*p.rtt) {
			continue
		}
		due++
		if b.rtt == 0 {
			lost++
		}
	}
	if due == 0 {
		return 0
	}
	return float64(lost) / float64(due)
}

// excuse moves the wait by a time in which this node itself stood still.
func (p *pulse) excuse(d time.Duration) {
	p.since, p.arrived = p.since.Add(d), p.arrived.Add(d)
}

// silent returns how long the node has owed an answer to two probes or more.
func (p *pulse) silent(now time.Time) time.Duration {
	if p.waiting < 2 {
		return 0
	}
	return now.Sub(p.since)
}

// dead reports whether the silence means that the path is dead.
func (p *pulse) dead(now time.Time) bool {
	if p.waiting > 0 && now.Sub(p.refused) < refusalHolds && now.Sub(p.since) > max(deadRefused, 3*p.rtt) {
		return true
	}
	return p.silent(now) > max(deadAfter, 3*p.rtt)
}

// hopeless reports whether the connection should be given up. While packets
// still arrive on it, the node is slow rather than gone, and gets more time.
func (p *pulse) hopeless(now time.Time) bool {
	limit := max(cutAfter, 4*p.rtt)
	silent := p.silent(now)
	return silent > limit && now.Sub(p.arrived) > limit || silent > max(stuckAfter, limit)
}
