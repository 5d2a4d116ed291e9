/* The tables of the packet path: what Go fills in and reads back. Included by lb.c. */

#define VIP_BITS 12
#define RING_BITS 16
#define GROUP_BITS 3
#define SERVER_BITS 10
#define PEER_BITS 13
#define VIP_COUNTERS 512

#define ETH_IP BE16(0x0800)
#define ETH_IPV6 BE16(0x86dd)
#define PROTO_IPIP 4
#define PROTO_TCP 6
#define PROTO_UDP 17
#define PROTO_IPV6 41

// Why a packet was not simply kept or forwarded. Order is shared with Go.
enum reason {
	OK,
	MALFORMED,    // lengths that contradict each other: passed
	OPTIONS,      // IPv4 options: passed
	FRAGMENT,     // passed
	OTHER_PROTO,  // ICMP, extension headers and the rest: passed
	STRANGER,     // encapsulated and not from a peer: dropped
	INNER,        // a peer's, but not TCP or UDP to a VIP inside: dropped
	TOO_BIG,      // does not fit the path with its outer header: dropped, or passed if that leads abroad
	TTL_EXPIRED,  // dropped
	NO_SERVER,    // the ring names nobody: passed
	NOT_MINE,     // a peer sent it here and the ring says otherwise: passed
	DECAPSULATED, // from a peer
	CHAIN,        // sent on to the bucket's other owner
	NO_HEADROOM,  // the driver left no room: dropped
	TO_ABROAD,    // sent to another geo, which may have the connection
	FROM_ABROAD,  // another geo sent it here
	REASONS = 16,
};

enum mode { MODE_NONE, MODE_L2, MODE_IPIP };

// One complete set of settings; there are two, and one is active.
struct generation {
	__u64 key[2];
	__u64 peer_macs[8]; // one bit for each peer, see macBit in tables.go
	__u8 addr[4];    // where encapsulated packets for this node arrive
	__u16 self;      // this node's server number
	__u8 unused[42];
};

struct vip {
	__u8 addr[16]; // IPv4 in bytes 8 to 11
	__u16 number;  // from 1; 0 is an empty cell
	__u16 group;
	__u16 abroad;  // server: a node of another geo; 0: connections are nowhere else
	__u8 family;   // 4 or 6
	__u8 unused[9];
};

// Server numbers; 0 is nobody.
struct slot {
	__u16 hop1;
	__u16 hop2;
};

// The kernel rounds the entries of an array up to 8 bytes.
struct slots {
	struct slot pair[2];
};

// One cache line: what is written before a packet, ready to store.
struct server {
	__u8 eth[14];   // MACs and ETH_IP
	__u8 outer[20]; // IPv4, with TOS, length and checksum zero
	__u16 sum;      // over outer, not folded into a checksum
	__u16 mtu;      // of the path, outer header included
	__u8 mode;
	__u8 unused[25];
};

#define NEAR 1
#define FAR 2

// key: {4, 0, 0, 0, IPv4 address} or {6, 0, MAC without the bits of MAC_MARKS}.
struct peer {
	__u8 key[8];
	__u8 used; // FAR for a machine of another geo
	__u8 bits; // of MAC_MARKS that the MAC has
	__u8 unused[6];
};

struct count {
	__u64 packets;
	__u64 bytes; // IP lengths
};

struct counters {
	struct count reason[REASONS];
	struct count server[1 << SERVER_BITS];
	struct count vip[VIP_COUNTERS];
};

struct vip vips[2 << VIP_BITS];

struct slot ring[2 << (RING_BITS + GROUP_BITS)];

struct server servers[2 << SERVER_BITS];

struct {
	__uint(type, MAP_ARRAY);
	__uint(max_entries, 2 << PEER_BITS);
	__type(key, __u32);
	__type(value, struct peer);
} peers SEC(".maps");

struct {
	__uint(type, MAP_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counters);
} counts SEC(".maps");

volatile struct generation generations[2];
volatile __u32 active;

INLINE void add(struct count *c, __u16 len)
{
	c->packets++;
	c->bytes += len;
}

INLINE void note(enum reason why, __u16 len)
{
	__u32 zero = 0;
	struct counters *c = bpf_map_lookup_elem(&counts, &zero);
	if (c)
		add(&c->reason[why & (REASONS - 1)], len);
}

INLINE void tally(__u32 server, __u32 vip, __u16 len)
{
	__u32 zero = 0;
	struct counters *c = bpf_map_lookup_elem(&counts, &zero);
	if (!c)
		return;
	__u64 s = server, v = vip;
	MASK(s, (1 << SERVER_BITS) - 1);
	MASK(v, VIP_COUNTERS - 1);
	add(&c->server[s], len);
	add(&c->vip[v], len);
}
