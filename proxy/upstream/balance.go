package upstream

import (
	"fmt"
	"net/netip"
	"strings"

	"anyedge/internal/message"
)

// Ways to choose a backend.
const (
	balanceP2C   = "p2c"
	balanceEWMA  = "ewma"
	balanceRound = "round_robin"
	balanceHash  = "hash"
)

// What a hash is made of.
const (
	keyClient = "client"
	keyPath   = "path"
	keyHeader = "header"
	keyCookie = "cookie"
)

// A balance is a configured way to choose.
type balance struct {
	way  string
	of   string // of a hash
	name string // of the header field or the cookie
}

// ParseBalance reports why s is no way to choose a backend; "" is the default.
func ParseBalance(s string) error {
	_, err := parseBalance(s)
	return err
}

func parseBalance(s string) (balance, error) {
	switch s {
	case "", balanceP2C:
		return balance{way: balanceP2C}, nil
	case balanceEWMA, balanceRound:
		return balance{way: s}, nil
	}
	inner, ok := strings.CutPrefix(s, balanceHash+"(")
	inner, closed := strings.CutSuffix(inner, ")")
	of, name, named := strings.Cut(inner, ":")
	b := balance{way: balanceHash, of: of, name: name}
	switch {
	case !ok || !closed:
	case (of == keyClient || of == keyPath) && !named:
		return b, nil
	case (of == keyHeader || of == keyCookie) && name != "" && message.IsToken(name):
		return b, nil
	}
	return b, fmt.Errorf("got %q, want p2c, ewma, round_robin, hash(header:NAME), hash(cookie:NAME), hash(client) or hash(path)", s)
}

// key returns the hash of what r has of b's kind; false: it has none.
func (b balance) key(r *message.Request, client netip.Addr) (uint64, bool) {
	var text string
	switch b.of {
	case keyClient:
		if !client.IsValid() {
			return 0, false
		}
		a := client.As16()
		return hashBytes(a[:]), true
	case keyPath:
		text = r.Path()
	case keyHeader:
		text = r.Header.Get(b.name)
	case keyCookie:
		text = cookie(r.Header, b.name)
	}
	return hashString(text), text != ""
}

// cookie returns the value of the first cookie of that name (RFC 6265 section
// 4.2.1), "" for none.
func cookie(h message.Header, name string) string {
	for i := range h {
		if !strings.EqualFold(h[i].Name, "Cookie") {
			continue
		}
		for rest := h[i].Value; rest != ""; {
			var pair string
			pair, rest, _ = strings.Cut(rest, ";")
			if n, v, ok := strings.Cut(strings.Trim(pair, " \t"), "="); ok && n == name {
				return v
			}
		}
	}
	return ""
}

// choose returns the seat that the way of p gives a request, without regard to
// limits: of two drawn by weight the one with fewer requests under way for its
// weight, unless another way is configured or the request lacks what that
// needs.
func (p *Pool) choose(s *set, r *message.Request, client netip.Addr) int {
	if len(s.seats) == 1 {
		return 0
	}
	switch p.balance.way {
	case balanceHash:
		if key, ok := p.balance.key(r, client); ok {
			return s.byHash(key)
		}
	case balanceRound:
		return int(s.turns[(p.turn.Add(1)-1)%uint64(len(s.turns))])
	case balanceEWMA:
		return p.faster(s)
	}
	i := s.draw(p.cfg.Random)
	j := s.another(p.cfg.Random, i)
	if s.seats[j].active.Load()*s.seats[i].weight < s.seats[i].active.Load()*s.seats[j].weight {
		return j
	}
	return i
}

// faster returns, of two seats drawn evenly, the one whose expected latency is
// lower for its weight.
func (p *Pool) faster(s *set) int {
	i := p.cfg.Random(len(s.seats))
	j := p.cfg.Random(len(s.seats) - 1)
	if j >= i {
		j++
	}
	now := p.now()
	if s.seats[j].cost(now) < s.seats[i].cost(now) {
		return j
	}
	return i
}

// cost is the time that the requests under way at x and one more may take, for
// its weight.
func (x *seat) cost(now int64) float64 {
	return x.latency.at(now) * float64(x.active.Load()+1) / float64(x.weight)
}

// Hashed returns the backend that r goes to by its hash, as long as that is below
// its soft limit; false: it goes to any, because backends are not chosen by hash or r
// has not what the hash is made of.
func (p *Pool) Hashed(r *message.Request, client netip.Addr) (string, bool) {
	s := p.set.Load()
	if key, ok := p.balance.key(r, client); ok && p.balance.way == balanceHash && len(s.seats) > 0 {
		return s.seats[s.byHash(key)].name, true
	}
	return "", false
}
