/* What a packet is: where from, addresses, ports, and why it is none of ours. Included by lb.c. */

// Where a packet came from: a router, or a peer and what it wrote on it. The
// marks are for nodes that know other rings or other times than the sender:
// they make sure that no packet comes to the same question twice.
enum origin {
	ROUTER = 0,
	PEER = 1,
	CHAINED = 2, // the bucket's other owner does not have it
	STRAY = 4,   // the geo that it arrived in does not have it
	ABROAD = 8,  // comes from another geo: this node is director for it
};

// Bits of a source MAC's first byte that say what origin's marks of the same
// value say, by being flipped.
#define MAC_MARKS 6

// What the path needs to know of a packet.
struct flow {
	__u64 src[2]; // IPv4: in [1]
	__u64 dst[2];
	__u32 ports; // source in the low half, both in network byte order
	__u16 len;   // IP header included
	__u8 proto;
	__u8 tos;
	bool v6;
	bool syn;
};

INLINE enum reason parse_l4(void *l4, void *end, struct flow *f, __u16 have)
{
	if (f->proto == PROTO_TCP) {
		if (l4 + 20 > end || have < 20)
			return MALFORMED;
		f->syn = (*(__u8 *)(l4 + 13) & 0x12) == 0x02;
	} else if (f->proto == PROTO_UDP) {
		if (l4 + 8 > end || have < 8)
			return MALFORMED;
		f->syn = false;
	} else {
		return OTHER_PROTO;
	}
	f->ports = *(__u32 *)l4;
	return OK;
}

INLINE enum reason parse4(void *l3, void *end, struct flow *f)
{
	if (l3 + 20 > end)
		return MALFORMED;
	__u8 first = *(__u8 *)l3;
	f->len = __builtin_bswap16(*(__u16 *)(l3 + 2));
	if (first >> 4 != 4 || (first & 15) < 5 || f->len < 20 || f->len > end - l3)
		return MALFORMED;
	f->v6 = false;
	f->tos = *(__u8 *)(l3 + 1);
	f->proto = *(__u8 *)(l3 + 9);
	f->src[0] = 0;
	f->src[1] = *(__u32 *)(l3 + 12);
	f->dst[0] = 0;
	f->dst[1] = *(__u32 *)(l3 + 16);
	if (first != 0x45)
		return OPTIONS;
	if (*(__u16 *)(l3 + 6) & BE16(0x3fff))
		return FRAGMENT;
	return parse_l4(l3 + 20, end, f, f->len - 20);
}

INLINE enum reason parse6(void *l3, void *end, struct flow *f)
{
	if (l3 + 40 > end)
		return MALFORMED;
	__u32 len = __builtin_bswap16(*(__u16 *)(l3 + 4)) + 40;
	if (*(__u8 *)l3 >> 4 != 6 || len > 65535 || len > end - l3)
		return MALFORMED;
	f->len = len;
	f->v6 = true;
	f->tos = *(__u8 *)l3 << 4 | *(__u8 *)(l3 + 1) >> 4;
	f->proto = *(__u8 *)(l3 + 6);
	f->src[0] = *(__u64 *)(l3 + 8);
	f->src[1] = *(__u64 *)(l3 + 16);
	f->dst[0] = *(__u64 *)(l3 + 24);
	f->dst[1] = *(__u64 *)(l3 + 32);
	return parse_l4(l3 + 40, end, f, len - 40);
}
