// Package lb is the packet path of an edge node: an XDP program that brings
// every TCP and UDP packet for a VIP to the one node of the geo that owns its
// connection, whichever node the routers gave it to.
//
// A [Spec] says in plain values what should be true; [Load] puts the program
// into the kernel, [Program.Apply] makes a Spec its state in one step, and
// [Program.Attach] puts it on an interface. Every node is director and server
// at once. There is no state per flow: a keyed hash of the flow picks one of
// 65,536 buckets of a [Ring], and the truth about a connection is the owner's
// own socket. [Model] states the same verdicts in Go; tests hold the program
// to it.
//
// # A packet's way
//
//   - Not TCP or UDP over IPv4 or IPv6 (up to two VLAN tags), or not for a
//     VIP: to the kernel, untouched.
//   - The bucket's owner is this node: to the kernel. Otherwise the frame goes
//     to the owner, either with new MACs ([L2]: TTL less one) or behind an IPv4
//     header ([IPIP], also around IPv6; source is the node's own address, so
//     that receivers can tell peers from strangers).
//   - Encapsulated and addressed to this node: taken if a peer sent it and TCP
//     or UDP to a VIP is inside, dropped and counted otherwise.
//   - While a bucket changes hands ([Group].Other), an owner keeps a SYN and
//     whatever it has a socket for, and passes the rest on to the bucket's
//     other owner, once. A UDP socket that is not connected counts for every
//     flow to its port.
//   - While routes move between geos ([VIP].Abroad), a TCP segment that is no
//     SYN and has no socket here goes to a node of the geo that may have the
//     connection, once, behind an IPv4 header. That node brings it to the
//     bucket's owner of its own geo, which answers the client itself. What is
//     too big for the way stays, and the kernel resets the connection.
//
// A packet that was sent on says so, and is not asked about again: an
// outer header by its ID, a rewritten frame by flipped bits of its source MAC's
// first byte. ID 1 or bit 2: one owner of the bucket does not have it. ID 2 or
// bit 4: another geo does not have it. ID 4: it comes from there.
//
// # What it leaves to the kernel or to others
//
// ICMP (echo and packet-too-big), fragments, IPv4 options and IPv6 extension
// headers pass to the kernel of whichever node received them, and are counted. A
// VIP is one address with all its ports. QUIC connection IDs, rate limits, block
// lists, SYN cookies and redirection between interfaces are not part of it.
//
// # The end of the process
//
// The program goes with its process, unless it is pinned ([Program.Pin]): then
// it works on with its last state, and the next process goes on with it
// ([OpenPinned], [Pinned.Adopt]).
package lb

import (
	"fmt"
	"net/netip"
)

// Sizes that the program is built with.
const (
	MaxVIPs    = 511
	MaxServers = 1023 // the node itself included
	MaxPeers   = 1024
	MaxGroups  = 8
	DefaultMTU = 1500
	MinMTU     = 1300 // of a way with IPIP: IPv6 needs 1280 inside
	OuterSize  = 20   // bytes that IPIP adds

	maxServers = MaxServers
)

// A MAC is an Ethernet address.
type MAC [6]byte

// String writes m in the usual form.
func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// A Mode is a way to bring a packet to a server.
type Mode uint8

// The modes. L2 needs a common Ethernet segment; IPIP needs 20 bytes of room in
// its MTU. What is for a server of no known way stays where it arrives.
const (
	Away Mode = 0
	L2   Mode = 1
	IPIP Mode = 2
)

// A Spec is the wanted state of the packet path. The zero Spec is not valid.
type Spec struct {
	Key     [2]uint64 // of the hashes; the same on all nodes of a geo, and secret
	Node    Node
	Servers []Server // the other nodes that packets may go to
	Peers   []Peer   // who may send us packets for a VIP
	Groups  []Group  // at most MaxGroups
	VIPs    []VIP
}

// A Node is this machine.
type Node struct {
	Name string     // as in the rings
	MAC  MAC        // of the interface that the program is on
	Addr netip.Addr // IPv4; encapsulated packets come to it and leave from it
}

// A Server is another node.
type Server struct {
	Name string // as in the rings
	Mode Mode
	MAC  MAC        // next hop: of the server, or with IPIP of a router
	Addr netip.Addr // IPv4 address of the node, for IPIP
	MTU  int        // of the path with the outer header, for IPIP; 0 means DefaultMTU
}

// A Peer is who may send packets for a VIP on to us.
type Peer struct {
	Addr netip.Addr // source of encapsulated packets; the zero Addr: none
	MAC  MAC        // source of rewritten frames; zero: none
	Far  bool       // a machine of another geo: it may send strays, and nothing else
}

// A Group is a ring that VIPs share.
//
// A planned change takes two steps, each on all nodes before the next: Other
// becomes the new ring; then both swap places; after the drain time Other is
// nil again.
type Group struct {
	Ring  *Ring // nil: nobody serves; packets stay where they arrive
	Other *Ring // during a change: the ring before, or the one to come
	// Gone are members of Other that are dead: nothing is sent on to them.
	Gone []string
}

// A VIP is an address that clients connect to, with all its ports.
type VIP struct {
	Addr  netip.Addr
	Group int // index into Spec.Groups
	// Abroad is the server, a node of another geo, that established connections
	// may belong to which nobody has here; "": there is none. Its mode is IPIP.
	Abroad string
}
