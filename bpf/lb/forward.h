/* How a packet leaves for another node. Included by lb.c. */

// A way is the server that a packet has to go to, this node among them, and how
// it is marked.
struct way {
	__u32 to;
	enum origin marks;
};

// rewrite sends the frame to the server's MAC and takes one from the TTL, so
// that no mistake in any table makes a packet circle for ever.
INLINE int rewrite(struct xdp_md *ctx, struct server *s, int l2, struct flow *f, enum origin marks)
{
	void *d = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	void *l3 = d + l2;
	if (l3 + 12 > end)
		return XDP_DROP;
	__u8 *ttl = l3 + (f->v6 ? 7 : 8);
	if (*ttl <= 1) {
		note(TTL_EXPIRED, f->len);
		return XDP_DROP;
	}
	--*ttl;
	if (!f->v6) { // RFC 1624
		__u32 c = *(__u16 *)(l3 + 10) + BE16(0x0100);
		*(__u16 *)(l3 + 10) = c + (c >> 16);
	}
	*(__u64 *)d = *(__u64 *)s->eth;
	*(__u32 *)(d + 8) = *(__u32 *)(s->eth + 8);
	*(__u8 *)(d + 6) ^= marks & MAC_MARKS;
	return XDP_TX;
}

// encapsulate puts an IPv4 header in front (RFC 2003, RFC 4213). ECN bits stay
// inside (RFC 6040 section 4.1, compatibility mode).
INLINE int encapsulate(struct xdp_md *ctx, struct server *s, int l2, struct flow *f, enum origin marks)
{
	__u32 total = f->len + 20;
	if (total > s->mtu) {
		note(TOO_BIG, f->len);
		return XDP_DROP;
	}
	if (bpf_xdp_adjust_head(ctx, -20)) {
		note(NO_HEADROOM, f->len);
		return XDP_DROP;
	}
	void *d = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	if (d + l2 + 20 > end)
		return XDP_DROP;
	*(__u64 *)d = *(__u64 *)s->eth;
	*(__u32 *)(d + 8) = *(__u32 *)(s->eth + 8);
	if (l2 > 14) // tags move with the MACs
		*(__u32 *)(d + 12) = *(__u32 *)(d + 32);
	if (l2 > 18)
		*(__u32 *)(d + 16) = *(__u32 *)(d + 36);
	*(__u16 *)(d + l2 - 2) = ETH_IP;

	void *o = d + l2;
	__u16 len = __builtin_bswap16(total), tos = (f->tos & 0xfc) << 8;
	__u32 sum = (__u32)s->sum + len + tos;
	*(__u64 *)o = *(__u64 *)s->outer;
	*(__u64 *)(o + 8) = *(__u64 *)(s->outer + 8);
	*(__u32 *)(o + 16) = *(__u32 *)(s->outer + 16);
	*(__u8 *)(o + 1) = f->tos & 0xfc;
	*(__u16 *)(o + 2) = len;
	if (f->v6) {
		*(__u8 *)(o + 9) = PROTO_IPV6;
		sum += (PROTO_IPV6 - PROTO_IPIP) << 8;
	}
	__u16 id = __builtin_bswap16(marks >> 1);
	*(__u16 *)(o + 4) = id;
	sum += id;
	sum = (sum & 0xffff) + (sum >> 16);
	sum += sum >> 16;
	*(__u16 *)(o + 10) = ~sum;
	return XDP_TX;
}

INLINE struct server *find_server(__u64 gen, __u64 hop)
{
	__u64 i = hop | gen << SERVER_BITS;
	MASK(i, (2 << SERVER_BITS) - 1);
	return &servers[i];
}

INLINE int forward(struct xdp_md *ctx, __u64 gen, struct way way, __u32 vip, int l2, struct flow *f)
{
	struct server *s = find_server(gen, way.to);
	if (s->mode == MODE_NONE) {
		note(NO_SERVER, f->len);
		return XDP_PASS;
	}
	if (way.marks & ABROAD && f->len + 20 > s->mtu) { // better reset than stuck
		note(TOO_BIG, f->len);
		return XDP_PASS;
	}
	tally(way.to, vip, f->len);
	if (way.marks & ABROAD)
		note(TO_ABROAD, f->len);
	else if (way.marks & CHAINED)
		note(CHAIN, f->len);
	if (s->mode == MODE_L2)
		return rewrite(ctx, s, l2, f, way.marks);
	if (l2 == 14)
		return encapsulate(ctx, s, 14, f, way.marks);
	if (l2 == 18)
		return encapsulate(ctx, s, 18, f, way.marks);
	return encapsulate(ctx, s, 22, f, way.marks);
}
