//go:build ignore

// Programs for measuring another one: a wrapper that gives it a fresh packet of
// the next flow each time, and what to compare with.
#include "kernel.h"

struct frame {
	__u32 len;  // of the frame as it was given
	__u32 mask; // flows - 1
	__u8 bytes[64];
};

struct {
	__uint(type, MAP_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} target SEC(".maps");

volatile struct frame frame;
volatile __u32 next;

#define BE32(x) __builtin_bswap32(x)
#define COPY(type, at) *(type *)(d + at) = *(volatile type *)(from + at)

// feed undoes what the last run did to length and headers, writes the next
// flow's source and goes over to the program under test.
INLINE int feed(struct xdp_md *ctx, int restore, bool v6)
{
	void *d = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	int grown = (int)(end - d) - (int)frame.len;
	if (grown) {
		if (bpf_xdp_adjust_head(ctx, grown))
			return XDP_ABORTED;
		d = (void *)(long)ctx->data;
		end = (void *)(long)ctx->data_end;
	}
	if (d + restore > end)
		return XDP_ABORTED;
	__u32 n = next;
	next = n + 1;
	__u32 flow = n * 2654435761U & frame.mask; // odd: each flow once in a round
	// One store per field: a load of a field must not wait for two of them,
	// which no packet from a network card does.
	volatile __u8 *from = frame.bytes;
	COPY(__u64, 0);
	COPY(__u32, 8);
	COPY(__u16, 12);
	COPY(__u64, 14);
	if (v6) {
		COPY(__u64, 22);
		*(__u64 *)(d + 30) = *(volatile __u32 *)(from + 30) | (__u64)BE32(flow) << 32;
		COPY(__u64, 38);
		COPY(__u64, 46);
		*(__u32 *)(d + 54) = *(volatile __u16 *)(from + 56) << 16 | (__u16)(1024 + (flow & 0x3fff));
	} else { // RFC 2544's 198.18.0.0/15
		COPY(__u32, 22);
		*(__u32 *)(d + 26) = BE32(0xc6120000 | (flow & 0x1ffff));
		COPY(__u32, 30);
		*(__u32 *)(d + 34) = *(volatile __u16 *)(from + 36) << 16 | (__u16)(1024 + (flow >> 17));
	}
	bpf_tail_call(ctx, &target, 0);
	return XDP_ABORTED;
}

SEC("xdp") int feed4(struct xdp_md *ctx)
{
	return feed(ctx, 38, false);
}

SEC("xdp") int feed6(struct xdp_md *ctx)
{
	return feed(ctx, 58, true);
}

SEC("xdp") int nothing(struct xdp_md *ctx)
{
	return XDP_TX;
}

// constant is the floor: parse, then an outer header that is the same for all
// but length and checksum. It looks nothing up and counts nothing.
SEC("xdp") int constant(struct xdp_md *ctx)
{
	void *d = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 mixed;
	__u16 len;
	void *l4;
	__u8 proto;
	if (d + 14 > end)
		return XDP_PASS;
	if (*(__u16 *)(d + 12) == BE16(0x0800)) {
		if (d + 34 > end || *(__u8 *)(d + 14) != 0x45 || *(__u16 *)(d + 20) & BE16(0x3fff))
			return XDP_PASS;
		len = __builtin_bswap16(*(__u16 *)(d + 16));
		proto = *(__u8 *)(d + 23);
		mixed = *(__u32 *)(d + 26) ^ *(__u32 *)(d + 30);
		l4 = d + 34;
	} else if (*(__u16 *)(d + 12) == BE16(0x86dd)) {
		if (d + 54 > end)
			return XDP_PASS;
		len = __builtin_bswap16(*(__u16 *)(d + 18)) + 40;
		proto = *(__u8 *)(d + 20);
		mixed = *(__u32 *)(d + 34);
		l4 = d + 54;
	} else {
		return XDP_PASS;
	}
	if (proto != 6 || l4 + 20 > end)
		return XDP_PASS;
	mixed ^= *(__u32 *)l4;
	if (bpf_xdp_adjust_head(ctx, -20))
		return XDP_DROP;
	d = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (d + 34 > end)
		return XDP_DROP;
	__u16 total = __builtin_bswap16(len + 20), low = mixed;
	__u32 sum = 0x0045 + 0x0040 + 0x0440 + 0x12c6 + 0x33c6 + 0x0264 + total + low;
	*(__u64 *)d = 0x0002020000000002ULL;
	*(__u64 *)(d + 8) = 0x0045000802000000ULL;
	*(__u16 *)(d + 16) = total;
	*(__u32 *)(d + 18) = 0x00400000;
	*(__u16 *)(d + 22) = 0x0440;
	sum = (sum & 0xffff) + (sum >> 16);
	sum += sum >> 16;
	*(__u16 *)(d + 24) = ~sum;
	*(__u32 *)(d + 26) = 0x12c6 | (__u32)low << 16;
	*(__u32 *)(d + 30) = 0x026433c6;
	return XDP_TX;
}

char program_license[] SEC("license") = "Dual MIT/GPL";
