package bgp

import (
	"fmt"
	"strconv"
	"strings"
)

// text says what a NOTIFICATION means and what to do about it.
func (m notification) text(n *neighbor) string {
	if m.sent && m.code == codeFSM && n.state != Established {
		// The answer to our OPEN was no OPEN: the neighbor's own NOTIFICATION.
		return refusalText("", n)
	}
	who := "it closed the session: "
	if m.sent {
		who = "we closed the session: "
	}
	text := who + notificationMeaning(m.code, m.subcode)
	if m.communication != "" {
		text += " (it says " + strconv.Quote(m.communication) + ")"
	}
	if hint := m.hint(n); hint != "" {
		text += "; " + hint
	}
	return text
}

// hint says what to look at, "" when the meaning says it all.
func (m notification) hint(n *neighbor) string {
	switch {
	case m.code == codeOpen && m.subcode == openBadPeerAS && m.sent:
		return fmt.Sprintf("%s is not AS %d; check this neighbor's asn", n.cfg.Address, n.cfg.ASN)
	case m.code == codeOpen && m.subcode == openBadPeerAS:
		return fmt.Sprintf("it expects another AS than our %d; check bgp.asn and its neighbor statement", n.local)
	case m.code == codeOpen && m.subcode == openBadID:
		return "two routers have one router id; check node.router_id"
	case m.code == codeHold && m.sent:
		return "nothing was heard from it for the hold time"
	case m.code == codeHold:
		return "it heard nothing from us for the hold time; is this machine overloaded?"
	case m.code == codeCease && m.subcode == ceaseMaxPrefix && !m.sent:
		return "we announce more prefixes than it takes"
	case m.code == codeCease && m.subcode == ceaseCollision:
		return "both sides dialed; the other connection stays"
	}
	return ""
}

// dialText says why no TCP connection comes about.
func dialText(err string, n *neighbor) string {
	to := fmt.Sprintf("%s port %d", n.cfg.Address, n.cfg.port())
	switch {
	case strings.Contains(err, "connection refused"):
		return fmt.Sprintf("TCP never connects (refused): nothing listens on %s for us; check its address and port, and that it runs", to)
	case strings.Contains(err, "timeout"), strings.Contains(err, "deadline exceeded"):
		return fmt.Sprintf("TCP never connects (unanswered): no answer from %s; check address, port, MD5 key, ACL and GTSM", to)
	case strings.Contains(err, "cannot assign requested address"):
		return fmt.Sprintf("TCP never connects: local_address %s is not on this machine", n.cfg.LocalAddress)
	case strings.Contains(err, "no route to host"), strings.Contains(err, "network is unreachable"), strings.Contains(err, "host is unreachable"):
		return fmt.Sprintf("TCP never connects (unreachable): no way to %s; check the link and the route", to)
	case strings.Contains(err, "operation not permitted"):
		return "TCP never connects: setting the MD5 key or TTL was not permitted; edged needs CAP_NET_ADMIN for it"
	}
	return fmt.Sprintf("TCP never connects to %s: %s", to, err)
}

// hangupText says why a neighbor may hang up without a word.
func hangupText(n *neighbor) string {
	return fmt.Sprintf("it closes the connection before it sends an OPEN; check that it has a neighbor statement for our address and AS %d, and is not in a pause after an error", n.local)
}

// refusalText says why a neighbor may have turned our OPEN down. The library
// does not hand out the code of a NOTIFICATION that comes before the session is
// established; the neighbor's own log has it.
func refusalText(reason string, n *neighbor) string {
	switch reason {
	case "read-failed":
		return fmt.Sprintf("it closed the connection after our OPEN, without a NOTIFICATION; check its log, and that it expects AS %d from us", n.local)
	case "hold-timer-expired":
		return "it answered our OPEN but sends nothing more: hold timer expired; check GTSM on both sides"
	}
	return fmt.Sprintf("it refused our OPEN with a NOTIFICATION; most often a bad peer AS: it expects another AS than our %d (bgp.asn); else a router id used twice, a hold time it does not accept, or no statement for us", n.local)
}

// endText says why an established session ended.
func endText(reason, heard string, n *neighbor) string {
	switch {
	case heard != "":
		return heard
	case reason == "read-failed":
		return "it closed the TCP connection without a NOTIFICATION: it restarted or was killed"
	case reason == "write-failed":
		return "the TCP connection broke while we were writing"
	case strings.HasPrefix(reason, "hold-timer"):
		return notification{sent: true, code: codeHold}.text(n)
	case reason == "":
		return "the session ended"
	}
	return "the session ended: " + reason
}

// Codes that have a hint (RFC 4271 section 4.5, RFC 4486).
const (
	codeOpen  = 2
	codeHold  = 4
	codeFSM   = 5
	codeCease = 6

	openBadPeerAS  = 2
	openBadID      = 3
	ceaseMaxPrefix = 1
	ceaseCollision = 7
)

// notificationMeaning names an error code and subcode (RFC 4271 section 4.5,
// RFC 4486, RFC 5492, RFC 6608, RFC 7313, RFC 8203, RFC 8538, RFC 9234, RFC 9384).
func notificationMeaning(code, subcode uint8) string {
	c, ok := notificationCodes[code]
	if !ok {
		return fmt.Sprintf("unknown error (code %d, subcode %d)", code, subcode)
	}
	name, ok := c.subcodes[subcode]
	switch {
	case ok:
		return fmt.Sprintf("%s: %s (%d/%d)", c.name, name, code, subcode)
	case subcode == 0:
		return fmt.Sprintf("%s (%d/0)", c.name, code)
	}
	return fmt.Sprintf("%s: unknown subcode (%d/%d)", c.name, code, subcode)
}

type notificationCode struct {
	name     string
	subcodes map[uint8]string
}

// notificationCodes is never written.
var notificationCodes = map[uint8]notificationCode{
	1: {"message header error", map[uint8]string{1: "connection not synchronized", 2: "bad message length", 3: "bad message type"}},
	2: {"OPEN error", map[uint8]string{
		1: "unsupported version", 2: "bad peer AS", 3: "bad BGP identifier", 4: "unsupported optional parameter",
		5: "authentication failure", 6: "unacceptable hold time", 7: "unsupported capability", 11: "role mismatch",
	}},
	3: {"UPDATE error", map[uint8]string{
		1: "malformed attribute list", 2: "unrecognized well-known attribute", 3: "missing well-known attribute",
		4: "attribute flags error", 5: "attribute length error", 6: "invalid ORIGIN", 7: "AS routing loop",
		8: "invalid NEXT_HOP", 9: "optional attribute error", 10: "invalid network field", 11: "malformed AS_PATH",
	}},
	4: {"hold timer expired", nil},
	5: {"unexpected message for the state", map[uint8]string{1: "in OpenSent", 2: "in OpenConfirm", 3: "in Established"}},
	6: {"cease", map[uint8]string{
		1: "maximum number of prefixes reached", 2: "administrative shutdown", 3: "peer removed from its configuration",
		4: "administrative reset", 5: "connection rejected", 6: "other configuration change",
		7: "connection collision resolved", 8: "out of resources", 9: "hard reset", 10: "BFD says the link is down",
	}},
	7: {"ROUTE-REFRESH error", map[uint8]string{1: "invalid message length"}},
}
