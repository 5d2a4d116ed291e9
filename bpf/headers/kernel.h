// The part of the kernel's BPF interface that our programs use. It is a stable
// interface; writing it down here makes objects independent of the headers of
// the machine that builds them. Little-endian targets only (bpfel).
#pragma once

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef _Bool bool;
#define true 1
#define false 0

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))

// Map definitions in BTF form.
#define __uint(name, val) int(*name)[val]
#define __type(name, val) typeof(val) *name
#define MAP_PROG_ARRAY 3
#define MAP_ARRAY 2
#define MAP_PERCPU_ARRAY 6

enum { XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX };

struct xdp_md {
	__u32 data;
	__u32 data_end;
	__u32 data_meta;
	__u32 ingress_ifindex;
	__u32 rx_queue_index;
	__u32 egress_ifindex;
};

struct bpf_sock {
	__u32 bound_dev_if;
	__u32 family;
	__u32 type;
	__u32 protocol;
	__u32 mark;
	__u32 priority;
	__u32 src_ip4;
	__u32 src_ip6[4];
	__u32 src_port;
	__u16 dst_port;
	__u16 : 16;
	__u32 dst_ip4;
	__u32 dst_ip6[4];
	__u32 state;
	__u32 rx_queue_mapping;
};

struct bpf_sock_tuple {
	union {
		struct {
			__u32 saddr, daddr;
			__u16 sport, dport;
		} ipv4;
		struct {
			__u32 saddr[4], daddr[4];
			__u16 sport, dport;
		} ipv6;
	};
};

#define CURRENT_NETNS ((__u64)-1)
#define TCP_LISTEN 10

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*const bpf_tail_call)(void *ctx, void *map, __u32 index) = (void *)12;
static long (*const bpf_xdp_adjust_head)(struct xdp_md *ctx, int delta) = (void *)44;
static struct bpf_sock *(*const bpf_sk_lookup_udp)(void *ctx, struct bpf_sock_tuple *tuple, __u32 size, __u64 netns, __u64 flags) = (void *)85;
static long (*const bpf_sk_release)(void *sock) = (void *)86;
static struct bpf_sock *(*const bpf_skc_lookup_tcp)(void *ctx, struct bpf_sock_tuple *tuple, __u32 size, __u64 netns, __u64 flags) = (void *)99;

// MASK bounds an index in a way that the compiler cannot optimize away, so that
// the verifier sees the bound.
#define MASK(x, m) asm volatile("%0 &= %1" : "+r"(x) : "i"(m))

// BE16 is a 16-bit constant in network byte order.
#define BE16(x) ((__u16)(((x) & 0xff) << 8 | ((x) >> 8 & 0xff)))
