//go:build ignore

// The packet path of package lb; lb.go and model.go say what it does and why.
// Fast path: parse, VIP, flow hash, ring slot, server line, one block of
// counters. Every lookup is of an array map and is inlined by the verifier.
#include "kernel.h"

#include "tables.h"
#include "parse.h"
#include "forward.h"

// The key, read once a packet.
struct key {
	__u64 a, b;
};

INLINE struct key key_of(volatile struct generation *g)
{
	return (struct key){g->key[0], g->key[1]};
}

// Two keyed hashes; hash.go has their twins.
INLINE __u64 cell_hash(struct key k, __u64 a, __u64 b)
{
	__u64 h = ((a ^ k.a) * 0x9e3779b97f4a7c15ULL) ^ ((b ^ k.b) * 0xd6e8feb86659fd93ULL);
	h ^= h >> 29;
	return h * 0xbf58476d1ce4e5b9ULL;
}

INLINE __u32 flow_hash(struct key k, struct flow *f)
{
	__u64 h = (f->src[1] ^ k.a) * 0x9e3779b97f4a7c15ULL;
	h ^= h >> 32;
	h ^= (f->dst[1] ^ k.b ^ ((__u64)f->ports << 32 | f->ports)) * 0xc2b2ae3d27d4eb4fULL;
	if (f->v6)
		h ^= f->src[0] * 0x9fb21c651e98df25ULL;
	h ^= f->proto;
	h ^= h >> 32;
	return h * 0xd6e8feb86659fd93ULL >> (64 - RING_BITS);
}

INLINE bool vip_is(struct vip *v, struct flow *f)
{
	__u64 *a = (__u64 *)v->addr;
	return a[1] == f->dst[1] && a[0] == f->dst[0] && v->family == (f->v6 ? 6 : 4);
}

// find_vip looks into at most two cells; an empty first one ends the search.
INLINE struct vip *find_vip(struct key k, __u64 gen, struct flow *f)
{
	__u64 h = cell_hash(k, f->dst[0], f->dst[1]);
	__u64 i = h >> (64 - VIP_BITS) | gen << VIP_BITS;
	MASK(i, (2 << VIP_BITS) - 1);
	struct vip *v = &vips[i];
	if (vip_is(v, f))
		return v;
	if (!v->number)
		return 0;
	i = (h >> 32 & ((1 << VIP_BITS) - 1)) | gen << VIP_BITS;
	MASK(i, (2 << VIP_BITS) - 1);
	v = &vips[i];
	return vip_is(v, f) ? v : 0;
}

INLINE struct peer *find_peer(struct key k, __u64 gen, __u64 key)
{
	__u64 h = cell_hash(k, key, 0);
	__u32 i = h >> (64 - PEER_BITS) | (__u32)gen << PEER_BITS;
	struct peer *p = bpf_map_lookup_elem(&peers, &i);
	if (!p || !p->used)
		return 0;
	if (*(__u64 *)p->key == key)
		return p;
	__u32 j = (h >> 32 & ((1 << PEER_BITS) - 1)) | (__u32)gen << PEER_BITS;
	struct peer *q = bpf_map_lookup_elem(&peers, &j);
	if (!q || !q->used || *(__u64 *)q->key != key)
		return 0;
	return q;
}

// sender tells by the source MAC whether a peer rewrote this frame; the
// bit mask answers for the router's MAC without a lookup.
INLINE bool maybe_peer(volatile struct generation *g, void *eth)
{
	__u64 bit = *(__u16 *)(eth + 10);
	bit ^= bit >> 7;
	__u64 word = bit >> 6;
	MASK(word, 7);
	return g->peer_macs[word] >> (bit & 63) & 1;
}

INLINE enum origin sender(volatile struct generation *g, __u64 gen, void *eth)
{
	if (!maybe_peer(g, eth))
		return ROUTER;
	__u64 first = *(__u16 *)(eth + 6);
	__u64 key = 6 | (first & ~MAC_MARKS & 0xffff) << 16 | (__u64)*(__u32 *)(eth + 8) << 32;
	struct peer *p = find_peer(key_of(g), gen, key);
	if (!p)
		return ROUTER;
	return PEER | ((first & MAC_MARKS) ^ p->bits);
}

// has_socket asks the kernel whether this node already serves the flow. A
// listening socket is no answer.
INLINE bool has_socket(struct xdp_md *ctx, struct flow *f)
{
	struct bpf_sock_tuple t = {};
	__u32 size;
	if (f->v6) {
		__u64 *a = (void *)t.ipv6.saddr;
		a[0] = f->src[0];
		a[1] = f->src[1];
		a[2] = f->dst[0];
		a[3] = f->dst[1];
		t.ipv6.sport = f->ports;
		t.ipv6.dport = f->ports >> 16;
		size = sizeof(t.ipv6);
	} else {
		t.ipv4.saddr = f->src[1];
		t.ipv4.daddr = f->dst[1];
		t.ipv4.sport = f->ports;
		t.ipv4.dport = f->ports >> 16;
		size = sizeof(t.ipv4);
	}
	bool here = false;
	if (f->proto == PROTO_TCP) {
		struct bpf_sock *s = bpf_skc_lookup_tcp(ctx, &t, size, CURRENT_NETNS, 0);
		if (s) {
			here = s->state != TCP_LISTEN;
			bpf_sk_release(s);
		}
	} else {
		struct bpf_sock *s = bpf_sk_lookup_udp(ctx, &t, size, CURRENT_NETNS, 0);
		if (s) {
			here = true;
			bpf_sk_release(s);
		}
	}
	return here;
}

INLINE struct slot *find_slot(struct key k, __u64 gen, struct vip *v, struct flow *f)
{
	__u64 i = flow_hash(k, f) | (__u64)v->group << RING_BITS | gen << (RING_BITS + GROUP_BITS);
	MASK(i, (2 << (RING_BITS + GROUP_BITS)) - 1);
	return &ring[i];
}

// find_way decides about a packet for a VIP. A flow that has no socket here may
// belong to the bucket's other owner while the bucket changes hands, and to
// another geo while routes move.
INLINE struct way find_way(struct xdp_md *ctx, struct flow *f, struct vip *v, struct slot *slot, __u32 self, enum origin from)
{
	__u32 hop1 = slot->hop1, hop2 = slot->hop2, other = hop2, abroad = v->abroad;
	bool directs = from == ROUTER || from & ABROAD;
	struct way way = {self, 0};
	if (hop1 != self) {
		if (directs)
			return (struct way){hop1, from & STRAY};
		if (hop2 != self) {
			note(NOT_MINE, f->len);
			return way;
		}
		other = hop1;
	}
	if (from & CHAINED)
		other = 0;
	if (from & STRAY || f->proto != PROTO_TCP)
		abroad = 0;
	if (f->syn || !(other | abroad) || has_socket(ctx, f))
		return way;
	if (other)
		return (struct way){other, (from & STRAY) | CHAINED};
	return (struct way){abroad, STRAY | ABROAD};
}

// strip takes the outer header off; the Ethernet header moves up behind it.
INLINE int strip(struct xdp_md *ctx, int l2, bool v6)
{
	void *d = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	if (d + l2 + 20 > end)
		return -1;
	__u64 a = *(__u64 *)d;
	__u32 b = *(__u32 *)(d + 8), tag1 = 0, tag2 = 0;
	if (l2 > 14)
		tag1 = *(__u32 *)(d + 12);
	if (l2 > 18)
		tag2 = *(__u32 *)(d + 16);
	if (bpf_xdp_adjust_head(ctx, 20))
		return -1;
	d = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (d + l2 > end)
		return -1;
	*(__u64 *)d = a;
	*(__u32 *)(d + 8) = b;
	if (l2 > 14)
		*(__u32 *)(d + 12) = tag1;
	if (l2 > 18)
		*(__u32 *)(d + 16) = tag2;
	*(__u16 *)(d + l2 - 2) = v6 ? ETH_IPV6 : ETH_IP;
	return 0;
}

// decapsulate takes a packet that a peer sent to this node's own address.
INLINE int decapsulate(struct xdp_md *ctx, int l2)
{
	__u64 gen = active;
	MASK(gen, 1);
	volatile struct generation *g = &generations[gen];
	struct key k = key_of(g);
	void *d = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	if (l2 != 14 && l2 != 18 && l2 != 22)
		return XDP_PASS;
	void *o = d + l2;
	if (o + 20 > end)
		return XDP_PASS;
	__u16 outer = __builtin_bswap16(*(__u16 *)(o + 2));
	struct flow f;
	struct peer *peer = find_peer(key_of(g), gen, 4 | (__u64)*(__u32 *)(o + 12) << 32);
	if (!peer) {
		note(STRANGER, outer);
		return XDP_DROP;
	}
	bool far = peer->used == FAR;
	enum reason why = *(__u8 *)(o + 9) == PROTO_IPV6 ? parse6(o + 20, end, &f) : parse4(o + 20, end, &f);
	struct vip *v = why || f.len > outer - 20 ? 0 : find_vip(k, gen, &f);
	if (!v) {
		note(INNER, outer);
		return XDP_DROP;
	}
	struct slot *slot = find_slot(k, gen, v, &f);
	__u16 marks = __builtin_bswap16(*(__u16 *)(o + 4)) << 1;
	enum origin from = PEER | (marks & (CHAINED | STRAY | ABROAD));
	if (far)
		from |= STRAY;
	if (far != !!(from & ABROAD) || (far && (f.syn || f.proto != PROTO_TCP))) {
		note(INNER, outer);
		return XDP_DROP;
	}
	if (strip(ctx, l2, f.v6)) {
		note(NO_HEADROOM, outer);
		return XDP_DROP;
	}
	note(from & ABROAD ? FROM_ABROAD : DECAPSULATED, f.len);
	struct way way = find_way(ctx, &f, v, slot, g->self, from);
	if (way.to != g->self)
		return forward(ctx, gen, way, v->number, l2, &f);
	tally(way.to, v->number, f.len);
	return XDP_PASS;
}

// whole is the way of any packet.
static __attribute__((noinline)) int whole(struct xdp_md *ctx)
{
	void *d = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	int l2 = 14;
	if (d + 14 > end)
		return XDP_PASS;
	__u16 type = *(__u16 *)(d + 12);
#pragma unroll
	for (int i = 0; i < 2; i++) {
		if (type != BE16(0x8100) && type != BE16(0x88a8))
			break;
		l2 += 4;
		if (d + l2 > end)
			return XDP_PASS;
		type = *(__u16 *)(d + l2 - 2);
	}
	struct flow f;
	f.len = 0;
	enum reason why;
	if (type == ETH_IP)
		why = parse4(d + l2, end, &f);
	else if (type == ETH_IPV6)
		why = parse6(d + l2, end, &f);
	else
		return XDP_PASS;
	__u64 gen = active;
	MASK(gen, 1);
	volatile struct generation *g = &generations[gen];
	struct key k = key_of(g);
	if (why) {
		if (why == OTHER_PROTO && !f.v6 && (f.proto == PROTO_IPIP || f.proto == PROTO_IPV6) && f.dst[1] == *(volatile __u32 *)g->addr)
			return decapsulate(ctx, l2);
		note(why, f.len);
		return XDP_PASS;
	}
	struct vip *v = find_vip(k, gen, &f);
	if (!v)
		return XDP_PASS;
	struct slot *slot = find_slot(k, gen, v, &f);
	struct way way = find_way(ctx, &f, v, slot, g->self, sender(g, gen, d));
	if (way.to != g->self)
		return forward(ctx, gen, way, v->number, l2, &f);
	tally(way.to, v->number, f.len);
	return XDP_PASS;
}

// fast is the way of most packets: untagged TCP and UDP without options, for a
// VIP whose bucket does not change hands and has no strays, from a router. It
// comes to the same verdicts as whole, which takes what fast does not know.
INLINE int fast(struct xdp_md *ctx, void *d, void *end, bool v6)
{
	void *l3 = d + 14;
	struct flow f;
	f.v6 = v6;
	if (v6) {
		if (l3 + 60 > end || (*(__u8 *)l3 & 0xf0) != 0x60)
			return whole(ctx);
		__u32 len = __builtin_bswap16(*(__u16 *)(l3 + 4)) + 40;
		if (len > end - l3 || len < 60)
			return whole(ctx);
		f.len = len;
		f.proto = *(__u8 *)(l3 + 6);
		f.src[0] = *(__u64 *)(l3 + 8);
		f.src[1] = *(__u64 *)(l3 + 16);
		f.dst[0] = *(__u64 *)(l3 + 24);
		f.dst[1] = *(__u64 *)(l3 + 32);
		f.ports = *(__u32 *)(l3 + 40);
	} else {
		if (l3 + 40 > end || *(__u8 *)l3 != 0x45 || *(__u16 *)(l3 + 6) & BE16(0x3fff))
			return whole(ctx);
		f.len = __builtin_bswap16(*(__u16 *)(l3 + 2));
		if (f.len > end - l3 || f.len < 40)
			return whole(ctx);
		f.proto = *(__u8 *)(l3 + 9);
		f.src[0] = 0;
		f.src[1] = *(__u32 *)(l3 + 12);
		f.dst[0] = 0;
		f.dst[1] = *(__u32 *)(l3 + 16);
		f.ports = *(__u32 *)(l3 + 20);
	}
	if (f.proto != PROTO_TCP && f.proto != PROTO_UDP)
		return whole(ctx);
	__u64 gen = active;
	MASK(gen, 1);
	volatile struct generation *g = &generations[gen];
	struct key k = key_of(g);
	struct vip *v = find_vip(k, gen, &f);
	if (!v)
		return XDP_PASS;
	struct slot *slot = find_slot(k, gen, v, &f);
	__u32 self = g->self, hop = slot->hop1;
	if (slot->hop2)
		return whole(ctx);
	if (hop == self) {
		if (v->abroad)
			return whole(ctx);
		tally(self, v->number, f.len);
		return XDP_PASS;
	}
	struct server *s = find_server(gen, hop);
	if (maybe_peer(g, d))
		return whole(ctx);
	if (s->mode == MODE_L2) {
		if (*(__u8 *)(l3 + (v6 ? 7 : 8)) <= 1)
			return whole(ctx);
		tally(hop, v->number, f.len);
		return rewrite(ctx, s, 14, &f, 0);
	}
	if (s->mode == MODE_NONE || f.len + 20 > s->mtu)
		return whole(ctx);
	f.tos = v6 ? *(__u8 *)l3 << 4 | *(__u8 *)(l3 + 1) >> 4 : *(__u8 *)(l3 + 1);
	tally(hop, v->number, f.len);
	return encapsulate(ctx, s, 14, &f, 0);
}

SEC("xdp") int lb(struct xdp_md *ctx)
{
	void *d = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	if (d + 14 > end)
		return XDP_PASS;
	__u16 type = *(__u16 *)(d + 12);
	if (type == ETH_IP)
		return fast(ctx, d, end, false);
	if (type == ETH_IPV6)
		return fast(ctx, d, end, true);
	return whole(ctx);
}

char program_license[] SEC("license") = "Dual MIT/GPL";
