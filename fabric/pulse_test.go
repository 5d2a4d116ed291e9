package fabric_test

import (
	"testing"
	"time"

	"anyedge/fabric"
)

// A path of some round trip answers ten probes, 150 ms apart, then none. How
// long until which verdict?
func TestPulse(t *testing.T) {
	const every = 150 * time.Millisecond
	for _, tt := range []struct {
		name           string
		rtt            time.Duration
		acked          bool          // packets of other kinds still arrive
		stall          time.Duration // in which this node itself stood still
		dead, hopeless time.Duration // after the first probe that is not answered
	}{
		{"near", time.Millisecond, false, 0, 500 * time.Millisecond, time.Second},
		{"far", 300 * time.Millisecond, false, 0, 900 * time.Millisecond, 1200 * time.Millisecond},
		{"slow rather than gone", time.Millisecond, true, 0, 500 * time.Millisecond, 3 * time.Second},
		{"our own fault", time.Millisecond, false, 2 * time.Second, 2500 * time.Millisecond, 3 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var p fabric.Pulse
			now, packets := time.Unix(0, 0), uint64(0)
			for i := range 10 {
				packets++
				seq := p.Send(now, packets)
				if alive, _, _ := p.Judge(now, packets); alive != (i >= 2) {
					t.Fatalf("alive %v after %d answers", alive, i)
				}
				p.Answer(now.Add(tt.rtt), seq)
				p.Answer(now.Add(tt.rtt+time.Millisecond), seq) // a second answer counts for nothing
				now = now.Add(every)
			}
			if rtt, loss := p.Measured(now); rtt != tt.rtt || loss != 0 {
				t.Errorf("round trip %s, loss %v", rtt, loss)
			}
			begin, excused := now, false
			var dead, hopeless time.Duration
			for step := time.Duration(0); hopeless == 0 && step < 10*time.Second; step += 10 * time.Millisecond {
				at := begin.Add(step)
				if step%every == 0 {
					p.Send(at, packets)
				}
				if tt.acked {
					packets++
				}
				if tt.stall > 0 && !excused && step == every {
					p.Excuse(tt.stall)
					excused = true
				}
				_, d, h := p.Judge(at, packets)
				if d && dead == 0 {
					dead = step
				}
				if h {
					hopeless = step
				}
			}
			const step = 10 * time.Millisecond
			if dead != tt.dead+step || hopeless < tt.hopeless || hopeless > tt.hopeless+2*step {
				t.Errorf("dead after %s, hopeless after %s; want %s, %s", dead, hopeless, tt.dead, tt.hopeless)
			}
			if _, loss := p.Measured(begin.Add(hopeless)); loss <= 0 {
				t.Error("no loss was measured")
			}
		})
	}
}

// A machine that says that nobody is there is believed after 100 ms without an
// answer, unless it said so in the last 10 s of a node that answered.
func TestPulseRefused(t *testing.T) {
	const rtt = time.Millisecond
	start := func() (*fabric.Pulse, time.Time) {
		p, now := &fabric.Pulse{}, time.Unix(0, 0)
		for range 3 {
			seq := p.Send(now, 1)
			p.Answer(now.Add(rtt), seq)
			now = now.Add(150 * time.Millisecond)
		}
		return p, now
	}
	dead := func(p *fabric.Pulse, at time.Time) bool {
		_, dead, _ := p.Judge(at, 1)
		return dead
	}
	p, now := start()
	if !p.Refuse(now) || dead(p, now.Add(time.Second)) {
		t.Error("a refusal alone decides")
	}
	p, now = start()
	p.Send(now, 1)
	p.Refuse(now.Add(10 * time.Millisecond))
	if dead(p, now.Add(100*time.Millisecond)) || !dead(p, now.Add(101*time.Millisecond)) {
		t.Error("a refusal and 100 ms of silence do not")
	}
	if dead(p, now.Add(1011*time.Millisecond)) {
		t.Error("a refusal counts for ever") // and one probe without an answer is not enough
	}

	p, now = start()
	p.Refuse(now)
	p.Answer(now.Add(2*rtt), p.Send(now.Add(rtt), 1))
	now = now.Add(time.Second)
	p.Send(now, 1)
	if p.Refuse(now) || dead(p, now.Add(400*time.Millisecond)) {
		t.Error("a machine that refuses whatever lives is believed")
	}
	if now = now.Add(10 * time.Second); !p.Refuse(now) {
		t.Error("it is never believed again")
	}
}
