package proxy

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync/atomic"
	"time"

	"anyedge/internal/message"
	"anyedge/proxy/limits"
)

// ServiceLimits bound what one client can ask of a service: an IPv4 address or
// an IPv6 /64, after trusted proxies.
type ServiceLimits struct {
	RPSPerIP        float64 `json:"rps_per_ip,omitempty" yaml:"rps_per_ip" jsonschema:"minimum=0"`               // requests/s of one client at this node; more are answered with 429; default 0 = no limit
	Burst           int     `json:"burst,omitempty" yaml:"burst" jsonschema:"minimum=0"`                         // requests of one client at once before rps_per_ip holds; default: those of one second
	ConcurrentPerIP int     `json:"concurrent_per_ip,omitempty" yaml:"concurrent_per_ip" jsonschema:"minimum=0"` // requests of one client under way at this node, streams and WebSockets too; more are answered with 429; default 0 = no limit
}

// Validate reports every problem in l.
func (l ServiceLimits) Validate() error {
	var errs []error
	if l.RPSPerIP < 0 || l.Burst < 0 || l.ConcurrentPerIP < 0 {
		errs = append(errs, errors.New("rps_per_ip, burst and concurrent_per_ip: must be 0 or more"))
	}
	if l.Burst > 0 && l.RPSPerIP == 0 {
		errs = append(errs, errors.New("burst: means nothing without rps_per_ip"))
	}
	return errors.Join(errs...)
}

// clientLimits are a service's limits at work.
type clientLimits struct {
	rate       *limits.Rate    // nil: any
	concurrent *limits.Counter // nil: any
	tooOften   atomic.Uint64
	tooMany    atomic.Uint64
}

// newClientLimits returns the limits that l asks for; nil: none.
func newClientLimits(l ServiceLimits) *clientLimits {
	if l.RPSPerIP == 0 && l.ConcurrentPerIP == 0 {
		return nil
	}
	c := &clientLimits{}
	if l.RPSPerIP > 0 {
		burst := l.Burst
		if burst == 0 {
			burst = int(math.Ceil(l.RPSPerIP))
		}
		c.rate = limits.NewRate(l.RPSPerIP, burst)
	}
	if l.ConcurrentPerIP > 0 {
		c.concurrent = limits.NewCounter(l.ConcurrentPerIP)
	}
	return c
}

// ofClient refuses a request of a client that asks too much. What it counts is
// this node's: a client is at one node, most of the time.
func (e *Exchange) ofClient() *message.Response {
	c := e.service.limits
	if c == nil || e.call != nil {
		return nil
	}
	client := limits.ClientOf(e.client)
	if c.concurrent != nil {
		if !c.concurrent.Take(client) {
			c.tooMany.Add(1)
			return e.tooMuch(RuleClientConcurrent, fmt.Sprintf("more than %d requests of one client at once", e.service.cfg.Limits.ConcurrentPerIP), time.Second)
		}
		e.record.atEnd(func() { c.concurrent.Give(client) })
	}
	if c.rate != nil {
		if wait := c.rate.Allow(time.Now(), client); wait > 0 {
			c.tooOften.Add(1)
			return e.tooMuch(RuleClientRate, fmt.Sprintf("more than %g requests/s of one client", e.service.cfg.Limits.RPSPerIP), wait)
		}
	}
	return nil
}

// tooMuch asks a client to come again later (RFC 6585 section 4).
func (e *Exchange) tooMuch(rule Rule, why string, wait time.Duration) *message.Response {
	seconds := int(math.Ceil(wait.Seconds()))
	return e.refuse(429, rule, why, message.Field{Name: "Retry-After", Value: strconv.Itoa(seconds)})
}

// refused returns what the limits refused, by rule.
func (c *clientLimits) refused() []Refusal {
	if c == nil {
		return nil
	}
	return []Refusal{{RuleClientRate, c.tooOften.Load()}, {RuleClientConcurrent, c.tooMany.Load()}}
}
