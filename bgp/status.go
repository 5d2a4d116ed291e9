package bgp

import (
	"net/netip"
	"time"
)

// A State is where a session stands (RFC 4271 section 8.2.2).
type State string

// States of a session.
const (
	Idle        State = "idle"
	Connect     State = "connect"
	Active      State = "active"
	OpenSent    State = "opensent"
	OpenConfirm State = "openconfirm"
	Established State = "established"
)

// Status is what the speaker is and what every neighbor was told.
type Status struct {
	Impl      string // the library that speaks: "gobgp"
	Version   string // of Impl, "4.8.0"; "" when the binary does not know
	ASN       uint32
	RouterID  netip.Addr
	Neighbors []NeighborStatus // in configuration order
	Mismatch  []Mismatch       // nothing when every established neighbor was told what is wanted
}

// NeighborStatus is one session.
type NeighborStatus struct {
	Name    string
	Address netip.Addr
	Port    uint16
	ASN     uint32

	State     State
	Since     time.Time     // of State
	Hold      time.Duration // negotiated; 0 unless established
	Keepalive time.Duration // negotiated; 0 unless established
	Families  []string      // negotiated: ipv4, ipv6

	Received uint32      // prefixes it announced to us; all are rejected
	Limit    uint32      // of Received
	Sent     []SentRoute // what was written to the session, by prefix
	Flaps    uint64      // ends of an established session since start

	LastError   string // why it is not established, or why the last session ended; "" when nothing ever failed
	LastErrorAt time.Time
}

// A Mismatch is a prefix about which an established neighbor was told
// something else than wanted.
type Mismatch struct {
	Neighbor string
	Prefix   netip.Prefix
	Text     string // one line: "not sent", "not withdrawn", "communities …, not …"
}

// An Event is a session that came up or went down.
type Event struct {
	At       time.Time
	Neighbor string
	Up       bool
	Text     string // why it went down; what was negotiated when it came up
}
