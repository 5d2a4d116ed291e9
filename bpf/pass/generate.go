package pass

//go:generate go tool bpf2go -target bpfel -cc clang-14 -strip llvm-strip-14 pass pass.c -- -O2 -mcpu=v3 -Wall -Werror -I../headers
