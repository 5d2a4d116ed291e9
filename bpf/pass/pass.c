//go:build ignore

#include "kernel.h"

SEC("xdp") int pass(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_PASS;
}

char program_license[] SEC("license") = "Dual MIT/GPL";
