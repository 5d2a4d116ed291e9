package proxy

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// explainBind says in one line why an address cannot be bound, and what to do.
func explainBind(err error, a netip.AddrPort) error {
	network := "tcp"
	if op, ok := errors.AsType[*net.OpError](err); ok {
		network = op.Net
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s is in use by %s; stop it or change listeners[].bind", a, holder(network, a))
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s is no address of this machine; add it to an interface or change listeners[].bind", a)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%s: a port below 1024 needs root or CAP_NET_BIND_SERVICE; grant it or change listeners[].bind", a)
	}
	return fmt.Errorf("bind %s: %w", a, err)
}

// holder names the process that has the address, as far as /proc tells.
func holder(network string, a netip.AddrPort) string {
	const unknown = "another process"
	inodes := socketInodes(network, a)
	if len(inodes) == 0 {
		return unknown
	}
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		link, err := os.Readlink(fd)
		if err != nil || !slices.Contains(inodes, strings.TrimSuffix(strings.TrimPrefix(link, "socket:["), "]")) {
			continue
		}
		pid := strings.Split(fd, "/")[2]
		if pid == strconv.Itoa(os.Getpid()) {
			return "another listener of this process"
		}
		name, err := os.ReadFile("/proc/" + pid + "/comm")
		if err != nil {
			return unknown
		}
		return strings.TrimSpace(string(name)) + " (pid " + pid + ")"
	}
	return unknown
}

// socketInodes returns the inodes of the sockets bound to a's port at its
// address or at every address. network begins with "tcp" or "udp".
func socketInodes(network string, a netip.AddrPort) []string {
	var inodes []string
	protocol := network[:3]
	for _, file := range []string{"/proc/net/" + protocol, "/proc/net/" + protocol + "6"} {
		f, err := os.Open(file)
		if err != nil {
			continue
		}
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			if inode, ok := boundInode(lines.Text(), protocol, a); ok {
				inodes = append(inodes, inode)
			}
		}
		_ = f.Close()
	}
	return inodes
}

// boundInode reads a line of /proc/net/tcp and its kin.
func boundInode(line, protocol string, a netip.AddrPort) (string, bool) {
	const (
		local, state, inode = 1, 3, 9
		listening           = "0A"
	)
	f := strings.Fields(line)
	if len(f) <= inode || protocol == "tcp" && f[state] != listening {
		return "", false
	}
	addr, ok := procAddr(f[local])
	if !ok || addr.Port() != a.Port() {
		return "", false
	}
	same := addr.Addr() == a.Addr() || addr.Addr().IsUnspecified() || a.Addr().IsUnspecified()
	return f[inode], same
}

// procAddr reads ADDRESS:PORT as the kernel prints it: hex, the address in
// 32-bit words of the machine's (little-endian) byte order.
func procAddr(s string) (netip.AddrPort, bool) {
	host, port, _ := strings.Cut(s, ":")
	b, err := hex.DecodeString(host)
	n, perr := strconv.ParseUint(port, 16, 16)
	if err != nil || perr != nil || len(b)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for w := 0; w < len(b); w += 4 {
		slices.Reverse(b[w : w+4])
	}
	addr, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(addr.Unmap(), uint16(n)), ok
}
