package host

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	macLen    = 6
	maxPacket = 2048 // bytes; what is longer is no answer
)

var broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// Offsets and values of ARP for IPv4 on Ethernet (RFC 826).
const (
	arpLen        = 28
	arpSenderMAC  = 8
	arpSenderIP   = 14
	arpTargetIP   = 24
	arpHead       = "\x00\x01\x08\x00\x06\x04" // Ethernet, IPv4, their lengths
	arpOpRequest  = 1
	arpOpResponse = 2
)

// arpProbe asks who has a, from nobody's address, so that no host learns
// anything from it (RFC 5227 section 2.1.1).
func arpProbe(from net.HardwareAddr, a netip.Addr) []byte {
	b := make([]byte, arpLen)
	copy(b, arpHead)
	binary.BigEndian.PutUint16(b[6:], arpOpRequest)
	copy(b[arpSenderMAC:arpSenderIP], from)
	copy(b[arpTargetIP:], a.AsSlice())
	return b
}

// parseARP reports whether a packet says that its sender has a.
func parseARP(b []byte, a netip.Addr) (net.HardwareAddr, bool) {
	if len(b) < arpLen || string(b[:len(arpHead)]) != arpHead {
		return nil, false
	}
	if op := binary.BigEndian.Uint16(b[6:]); op != arpOpRequest && op != arpOpResponse {
		return nil, false
	}
	sender, _ := netip.AddrFromSlice(b[arpSenderIP : arpSenderIP+4])
	return slices.Clone(b[arpSenderMAC:arpSenderIP]), sender == a
}

// Offsets and values of neighbor discovery (RFC 4861 section 4).
const (
	ip6Len            = 40
	ip6Next           = 6
	ip6Hops           = 7
	protocolICMP6     = 58
	icmp6Solicit      = 135
	icmp6Advertise    = 136
	ndTarget          = ip6Len + 8
	ndLen             = ndTarget + 16
	ndOptionTargetMAC = 2
	ndOptionUnit      = 8   // bytes that an option's length counts
	ndHops            = 255 // it crossed no router (RFC 4861 section 3.1)
)

// solicitation asks who has a, as duplicate address detection does: from no
// address, to a's group of solicited nodes (RFC 4862 section 5.4.2). It is an
// IPv6 packet, and to is the group's hardware address.
func solicitation(a netip.Addr) (packet []byte, to net.HardwareAddr) {
	b := make([]byte, ndLen)
	b[0] = 6 << 4
	binary.BigEndian.PutUint16(b[4:], ndLen-ip6Len)
	b[ip6Next], b[ip6Hops] = protocolICMP6, ndHops
	target := a.As16()
	group := netip.MustParseAddr("ff02::1:ff00:0").As16()
	copy(group[13:], target[13:])
	copy(b[24:], group[:])
	b[ip6Len] = icmp6Solicit
	copy(b[ndTarget:], target[:])
	binary.BigEndian.PutUint16(b[ip6Len+2:], checksum6(b))
	return b, net.HardwareAddr{0x33, 0x33, group[12], group[13], group[14], group[15]}
}

// checksum6 returns the ICMPv6 checksum of an IPv6 packet whose checksum field
// is 0 (RFC 4443 section 2.3).
func checksum6(b []byte) uint16 {
	sum := uint32(len(b)-ip6Len) + protocolICMP6
	for _, part := range [][]byte{b[8:ip6Len], b[ip6Len:]} {
		for i := 0; i+1 < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
		if len(part)%2 == 1 {
			sum += uint32(part[len(part)-1]) << 8
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// parseAdvertisement reports whether an IPv6 packet is a neighbor
// advertisement for a, and returns the hardware address it tells, if any.
func parseAdvertisement(b []byte, a netip.Addr) (net.HardwareAddr, bool) {
	if len(b) < ndLen || b[0]>>4 != 6 || b[ip6Next] != protocolICMP6 || b[ip6Hops] != ndHops || b[ip6Len] != icmp6Advertise {
		return nil, false
	}
	if target, _ := netip.AddrFromSlice(b[ndTarget:ndLen]); target != a {
		return nil, false
	}
	for rest := b[ndLen:]; len(rest) >= ndOptionUnit; {
		n := int(rest[1]) * ndOptionUnit
		if n == 0 || n > len(rest) {
			break
		}
		if rest[0] == ndOptionTargetMAC {
			return slices.Clone(rest[2 : 2+macLen]), true
		}
		rest = rest[n:]
	}
	return nil, true
}

// A packetSocket sends and receives packets of one protocol on one interface,
// without their Ethernet header; packet(7).
type packetSocket struct {
	file *os.File
	to   unix.SockaddrLinklayer
}

// openPackets opens a socket for ARP, or for advertisements of IPv6.
func openPackets(link int, protocol uint16) (*packetSocket, error) {
	network := protocol<<8 | protocol>>8 // in the network's byte order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	s := &packetSocket{os.NewFile(uintptr(fd), "packets"), unix.SockaddrLinklayer{Protocol: network, Ifindex: link, Halen: macLen}}
	if protocol == unix.ETH_P_IPV6 {
		err = filter(fd)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: network, Ifindex: link})
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// filter keeps all IPv6 packets from the socket but advertisements.
func filter(fd int) error {
	program, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: ip6Next, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: protocolICMP6, SkipTrue: 3},
		bpf.LoadAbsolute{Off: ip6Len, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: icmp6Advertise, SkipTrue: 1},
		bpf.RetConstant{Val: maxPacket},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		return err
	}
	raw := make([]unix.SockFilter, len(program))
	for i, p := range program {
		raw[i] = unix.SockFilter{Code: p.Op, Jt: p.Jt, Jf: p.Jf, K: p.K}
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(raw)), Filter: &raw[0]})
}

// send sends a packet to a hardware address.
func (s *packetSocket) send(to net.HardwareAddr, packet []byte) error {
	raw, err := s.file.SyscallConn()
	if err != nil {
		return err
	}
	address := s.to
	copy(address.Addr[:], to)
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		failed = unix.Sendto(int(fd), packet, 0, &address)
		return failed != unix.EAGAIN
	})
	if failed != nil {
		return failed
	}
	return err
}

// receive waits for a packet.
func (s *packetSocket) receive(b []byte) (int, error) { return s.file.Read(b) }

// wake makes receive return, now and later.
func (s *packetSocket) wake() { _ = s.file.SetReadDeadline(time.Unix(1, 0)) }

func (s *packetSocket) close() { _ = s.file.Close() }
