package limits

import (
	"hash/maphash"
	"sync"
)

// shards is how many locks a Counter has.
const shards = 64

// A Counter counts what each client has at this moment. Its methods are safe for
// concurrent use.
type Counter struct {
	most int
	seed maphash.Seed
	list [shards]shard
}

// shard counts for some of the clients.
type shard struct {
	mu  sync.Mutex
	has map[Client]int // above 0
}

// NewCounter returns a counter that lets each client have at most most.
func NewCounter(most int) *Counter {
	c := &Counter{most: most, seed: maphash.MakeSeed()}
	for i := range c.list {
		c.list[i].has = map[Client]int{}
	}
	return c
}

// Take counts one more for a client, and reports false when that is too much.
// What was taken is given back by [Counter.Give].
func (c *Counter) Take(client Client) bool {
	s := c.shard(client)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.has[client]
	if n >= c.most {
		return false
	}
	s.has[client] = n + 1
	return true
}

// Half reports whether a client has half of what it may have, or more.
func (c *Counter) Half(client Client) bool {
	s := c.shard(client)
	s.mu.Lock()
	defer s.mu.Unlock()
	return 2*s.has[client] >= c.most
}

// Give gives one back.
func (c *Counter) Give(client Client) {
	s := c.shard(client)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.has[client]; n > 1 {
		s.has[client] = n - 1
	} else {
		delete(s.has, client)
	}
}

// Clients returns how many clients have something.
func (c *Counter) Clients() int {
	n := 0
	for i := range c.list {
		s := &c.list[i]
		s.mu.Lock()
		n += len(s.has)
		s.mu.Unlock()
	}
	return n
}

func (c *Counter) shard(client Client) *shard { return &c.list[client.hash(c.seed)%shards] }

// Has returns what a client has at this moment.
func (c *Counter) Has(client Client) int {
	s := c.shard(client)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.has[client]
}
