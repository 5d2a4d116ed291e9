package proxy

import (
	"cmp"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A Rule names why something was refused, or given up. The log, the metrics,
// traces and Proxy-Status use the same word.
type Rule string

// The rules of a listener.
const (
	RuleConnections       Rule = "connections"        // more of them than the listener takes
	RuleClientConnections Rule = "client_connections" // more of them than one client may have
	RuleHandshakes        Rule = "handshakes"         // the longest under way made room for a newer one
	RuleProxyHeader       Rule = "proxy_header"       // a PROXY header that is missing or wrong, or a peer that may send none
	RuleArrival           Rule = "arrival_timeout"    // no whole PROXY header or TLS handshake in time
	RuleGone              Rule = "handshake_gone"     // the client left within the handshake
	RuleNotTLS            Rule = "handshake_not_tls"  // it spoke something else, HTTP most likely
	RuleVersion           Rule = "handshake_version"  // no TLS version in common
	RuleCipher            Rule = "handshake_cipher"   // no cipher suite in common
	RuleALPN              Rule = "handshake_alpn"     // no protocol in common
	RuleAlert             Rule = "handshake_alert"    // the client did not like our certificate, most likely
	RuleServerName        Rule = "handshake_name"     // no certificate for the name that the client asked for
	RuleClientCert        Rule = "client_certificate" // none was shown, or one that does not count
	RuleHandshake         Rule = "handshake_other"
)

// The rules of requests that the edge answers with an error of its own. What a
// client sent that is no HTTP has a rule of its engine.
const (
	RuleRequest          Rule = "request"           // a method, host, target or path that no service may get
	RuleUnrouted         Rule = "unrouted"          // no service for it
	RuleMisdirected      Rule = "misdirected"       // for a host that its connection was not made for
	RulePrivate          Rule = "private"           // a stranger at a private listener
	RuleBodySize         Rule = "body_size"         // more content than the listener takes
	RuleBodyBroke        Rule = "body_broke"        // the client's content broke off
	RuleClientRate       Rule = "client_rate"       // more requests/s of one client
	RuleClientConcurrent Rule = "client_concurrent" // more requests of one client at once
	RuleFull             Rule = "full"              // every geo is
	RuleNoBackend        Rule = "no_backend"        // nobody took a byte of it
	RuleBackendsFull     Rule = "backends_full"     // every backend has as much as its limit allows
	RuleTimeout          Rule = "timeout"           // no answer in time
	RuleBroken           Rule = "broken"            // an answer that could not be read
	RuleReplay           Rule = "replay"            // an instruction that could not be carried out; Replay-Geo-Error says why
	RuleBusy             Rule = "busy"              // another geo's request, which goes back to it
)

// rules are all those of a listener, in the order that they are shown.
var rules = [...]Rule{
	RuleConnections, RuleClientConnections, RuleHandshakes, RuleProxyHeader, RuleArrival,
	RuleGone, RuleNotTLS, RuleVersion, RuleCipher, RuleALPN, RuleAlert, RuleServerName, RuleClientCert, RuleHandshake,
}

// proxyErrors are the error types of RFC 9209 section 2.3 for those rules that
// have one other than http_request_error.
var proxyErrors = map[Rule]string{
	RuleUnrouted: "destination_not_found", RulePrivate: "http_request_denied",
	RuleClientRate: "http_request_denied", RuleClientConcurrent: "http_request_denied",
	RuleFull: "destination_unavailable", RuleNoBackend: "destination_unavailable", RuleBackendsFull: "connection_limit_reached", RuleReplay: "destination_unavailable",
	RuleTimeout: "http_response_timeout", RuleBroken: "http_response_incomplete",
}

// status returns the value of Proxy-Status (RFC 9209) for an answer by this rule.
func (r Rule) status() string {
	return pseudonym + "; error=" + cmp.Or(proxyErrors[r], "http_request_error") + `; details="` + string(r) + `"`
}

// refusals counts by rule.
type refusals [len(rules)]atomic.Uint64

// add counts one.
func (r *refusals) add(rule Rule) {
	for i := range rules {
		if rules[i] == rule {
			r[i].Add(1)
			return
		}
	}
}

// A Refusal is how often something was refused by one rule since the start.
type Refusal struct {
	Rule  Rule
	Count uint64
}

// all returns every rule's count, those of 0 too.
func (r *refusals) all() []Refusal {
	out := make([]Refusal, len(rules))
	for i := range rules {
		out[i] = Refusal{rules[i], r[i].Load()}
	}
	return out
}

// FromFabric is the listener of what other geos send.
const FromFabric = "fabric"

// A RefusedRequest says which requests were refused by one rule.
type RefusedRequest struct {
	Listener string
	Protocol string // of the engine that refused it; "": it was a request
	Service  string // "": none was found for it
	Rule     Rule
}

// A tally counts refused requests. All that it counts by is configured or a
// constant, so that it stays small.
type tally struct {
	mu     sync.Mutex
	counts map[RefusedRequest]uint64
}

func (t *tally) add(r RefusedRequest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = map[RefusedRequest]uint64{}
	}
	t.counts[r]++
}

// A RefusedCount is how many requests were refused by one rule since the start.
type RefusedCount struct {
	RefusedRequest
	Count uint64
}

// Refused returns how many requests the edge answered with an error of its own,
// by listener, service and rule.
func (p *Proxy) Refused() []RefusedCount {
	p.refused.mu.Lock()
	out := make([]RefusedCount, 0, len(p.refused.counts))
	for r, n := range p.refused.counts {
		out = append(out, RefusedCount{r, n})
	}
	p.refused.mu.Unlock()
	slices.SortFunc(out, func(a, b RefusedCount) int {
		return cmp.Or(strings.Compare(a.Listener, b.Listener), strings.Compare(a.Protocol, b.Protocol),
			strings.Compare(a.Service, b.Service), strings.Compare(string(a.Rule), string(b.Rule)))
	})
	return out
}

// How many lines a listener logs of requests that its engines refuse: whoever
// sends garbage does not fill a disk.
const (
	refusalLines = 50 // at once
	refusalRate  = 5  // a second, after that
)

// A ration bounds how often something is done: so much at once, then so much a
// second.
type ration struct {
	burst, rate float64

	mu      sync.Mutex
	used    float64 // of burst
	at      time.Time
	leftOut uint64
}

// take asks for one more. When it may be, leftOut says how many might not since
// the last one that was.
func (r *ration) take(now time.Time) (leftOut uint64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.used > 0 {
		r.used = max(0, r.used-now.Sub(r.at).Seconds()*r.rate)
	}
	r.at = now
	if r.used > r.burst-1 {
		r.leftOut++
		return 0, false
	}
	r.used++
	leftOut, r.leftOut = r.leftOut, 0
	return leftOut, true
}

// refusedBy returns what an engine tells of requests that it refuses: they are
// counted, and logged as far as the listener's ration goes.
func (l *listener) refusedBy(protocol string) func(peer netip.AddrPort, status int, rule string) {
	return func(peer netip.AddrPort, status int, rule string) {
		l.proxy.refused.add(RefusedRequest{Listener: l.cfg.Name, Protocol: protocol, Rule: Rule(rule)})
		leftOut, ok := l.complaints.take(time.Now())
		if !ok {
			return
		}
		attrs := []any{
			slog.String("client", peer.String()), slog.String("version", protocol),
			slog.Int("status", status), slog.String("rule", rule),
		}
		if leftOut > 0 {
			attrs = append(attrs, slog.Uint64("left_out", leftOut))
		}
		l.log.Info("request not taken", attrs...)
	}
}
