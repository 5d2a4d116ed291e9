package limits

import (
	"hash/maphash"
	"math"
	"sync"
	"time"
)

// The table of a Rate: when a set is full, the client that is owed the most time
// is forgotten, who would not have been refused soon.
const (
	ways = 8
	sets = 8192
)

// A Rate bounds how often each client may do something, as a bucket of tokens
// does: so many at once, and then so many each second. It keeps one time per
// client, for the 65,536 that used it most. Its methods are safe for concurrent
// use.
type Rate struct {
	step  int64 // nanoseconds between two tokens
	slack int64 // nanoseconds that a client may be ahead
	start time.Time
	seed  maphash.Seed
	locks [shards]sync.Mutex
	table [sets]set
}

// set is the clients with some hash.
type set [ways]debt

// debt is a client and when its bucket is full again, in nanoseconds since
// start. Until start it is full, as everybody's is who is not in the table.
type debt struct {
	client Client
	until  int64
}

// NewRate returns a rate of perSecond, and of burst at once, for each client.
func NewRate(perSecond float64, burst int) *Rate {
	step := int64(min(math.Ceil(float64(time.Second)/perSecond), float64(time.Hour)))
	return &Rate{
		step: step, slack: step * int64(max(burst, 1)-1),
		start: time.Now(), seed: maphash.MakeSeed(),
	}
}

// Allow counts one more for a client. When that is too much it counts nothing,
// and returns after which time the next one will be allowed; otherwise 0.
func (r *Rate) Allow(now time.Time, client Client) time.Duration {
	h := client.hash(r.seed)
	at := int64(now.Sub(r.start))
	mu := &r.locks[h%shards]
	mu.Lock()
	defer mu.Unlock()
	one := r.table[h%sets].find(client) // sets is a multiple of shards: a set has one lock
	if one.client != client {
		*one = debt{client: client}
	}
	until := max(one.until, at)
	if wait := until - at - r.slack; wait > 0 {
		return time.Duration(wait)
	}
	one.until = until + r.step
	return 0
}

// find returns the entry of client, or that which is the least loss.
func (s *set) find(client Client) *debt {
	least := &s[0]
	for i := range s {
		if s[i].client == client {
			return &s[i]
		}
		if s[i].until < least.until {
			least = &s[i]
		}
	}
	return least
}

// Wait returns after which time a client is allowed one more, without counting
// it; 0: now.
func (r *Rate) Wait(now time.Time, client Client) time.Duration {
	h := client.hash(r.seed)
	mu := &r.locks[h%shards]
	mu.Lock()
	defer mu.Unlock()
	one := r.table[h%sets].find(client)
	if one.client != client {
		return 0
	}
	return time.Duration(max(0, one.until-int64(now.Sub(r.start))-r.slack))
}
