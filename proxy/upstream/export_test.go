package upstream

import (
	"time"

	"anyedge/internal/message"
)

// A Chooser is the choice among backends that all take requests, without a
// network.
type Chooser struct {
	pool *Pool
	set  *set
}

// NewChooser returns the choice among backends of these names and weights.
func NewChooser(balance string, names []string, weights []int, random func(int) int) *Chooser {
	way, err := parseBalance(balance)
	if err != nil {
		panic(err)
	}
	c := &Chooser{pool: &Pool{balance: way, cfg: Config{Random: random}}}
	var seats []seat
	for i, name := range names {
		b := &backend{name: name, cfg: BackendConfig{Name: name}}
		seats = append(seats, b.seat(int64(weights[i])*unit))
	}
	c.set = newSet(seats, way.way == balanceRound)
	return c
}

// Choose returns the name of the backend that r goes to, where it counts as
// under way from then on if keep is set.
func (c *Chooser) Choose(r *message.Request, keep bool) string {
	x := &c.set.seats[c.pool.choose(c.set, r, r.Peer.Addr())]
	if keep {
		x.active.Add(1)
	}
	return x.name
}

// Active returns the requests under way, by backend.
func (c *Chooser) Active() []int64 {
	var out []int64
	for i := range c.set.seats {
		out = append(out, c.set.seats[i].active.Load())
	}
	return out
}

// MaxTurns is the longest round of round robin.
const MaxTurns = maxTurns

// A Budget is the budget of repeated requests, by itself.
type Budget struct{ b budget }

// NewBudget returns a budget of that share.
func NewBudget(share float64, now time.Time) *Budget {
	b := &Budget{}
	b.b.begin(share, now)
	return b
}

// Take is what the pool asks.
func (b *Budget) Take(now time.Time, requests int64) bool { return b.b.take(now, requests) }

// Late returns the 95th percentile that a hedge believes in after these samples.
func Late(samples []time.Duration) time.Duration {
	h := hedge{p95: true}
	for _, s := range samples {
		h.observe(s)
	}
	return h.delay()
}
