package proxy

import "sync/atomic"

// A Rule names why something was refused, or given up.
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
	RuleMisdirected       Rule = "misdirected" // a request for a host that its connection is not for
)

// The rules of a service's limits per client.
const (
	RuleClientRate       Rule = "client_rate"       // more requests/s of one client
	RuleClientConcurrent Rule = "client_concurrent" // more requests of one client at once
)

// rules are all those of a listener, in the order that they are shown.
var rules = [...]Rule{
	RuleConnections, RuleClientConnections, RuleHandshakes, RuleProxyHeader, RuleArrival,
	RuleGone, RuleNotTLS, RuleVersion, RuleCipher, RuleALPN, RuleAlert, RuleServerName, RuleClientCert, RuleHandshake,
	RuleMisdirected,
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
