package fabric

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// maxPayload is the largest UDP payload that QUIC here sends, in bytes;
// quic-go's limit.
const maxPayload = 1452

// minPayload is the smallest first packet of QUIC (RFC 9000 section 14.1).
const minPayload = 1200

// unknownVersion is reserved to force version negotiation (RFC 9000 section
// 15): every QUIC server answers it, and keeps no state.
const unknownVersion = 0x1a2a3a4a

// probeAgain is the time between two attempts.
const probeAgain = 400 * time.Millisecond

// probeSizes sends packets of an unknown QUIC version in several sizes that may
// not be fragmented, and returns the route's MTU, the payload that would be
// used and the largest that was answered.
func probeSizes(ctx context.Context, from netip.Addr, to netip.AddrPort) (mtu, full, answered int) {
	d := net.Dialer{}
	if from.IsValid() {
		d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	c, err := d.DialContext(ctx, "udp", to.String())
	if err != nil {
		if c, err = (&net.Dialer{}).DialContext(ctx, "udp", to.String()); err != nil {
			return 0, 0, 0
		}
	}
	defer func() { _ = c.Close() }() // nothing is lost
	mtu = prepareProbe(c.(*net.UDPConn), to.Addr())
	sizes, full := payloads(mtu, to.Addr().Is4())
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Now()) })
	defer stop()
	for ctx.Err() == nil && answered < full {
		for i, size := range sizes {
			if size > answered {
				_, _ = c.Write(probePacket(byte(i), size)) // one that is too large for the link is lost
			}
		}
		_ = c.SetReadDeadline(time.Now().Add(probeAgain))
		answered = max(answered, hearProbes(ctx, c, sizes))
	}
	return mtu, full, answered
}

// hearProbes returns the largest size that is answered before the deadline of
// c, 0 for none.
func hearProbes(ctx context.Context, c net.Conn, sizes []int) (answered int) {
	b := make([]byte, maxPayload)
	for answered < sizes[len(sizes)-1] && ctx.Err() == nil {
		n, err := c.Read(b)
		if timeout, isNet := errors.AsType[net.Error](err); err != nil {
			if !isNet || !timeout.Timeout() {
				pause(ctx) // refused: again soon
			}
			return answered
		}
		if i, ok := parseNegotiation(b[:n]); ok && int(i) < len(sizes) {
			answered = max(answered, sizes[i])
		}
	}
	return answered
}

// pause waits until the next attempt.
func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(probeAgain):
	}
}

// prepareProbe forbids fragments and returns the MTU of the route, 0 when it
// is not known.
func prepareProbe(c *net.UDPConn, to netip.Addr) (mtu int) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) { // fails on a closed socket alone
		if to.Is4() {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO) // else fragments count
			mtu, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU)
			return
		}
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO)
		mtu, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU)
	})
	return mtu
}

// payloads returns the sizes that are tried, at most four at a time, and the
// largest that the route should take.
func payloads(mtu int, v4 bool) (sizes []int, full int) {
	const udp, ip4, ip6 = 8, 20, 40
	full = maxPayload
	if mtu > 0 {
		head := udp + ip6
		if v4 {
			head = udp + ip4
		}
		full = min(maxPayload, mtu-head)
	}
	for _, size := range []int{minPayload, 1252, 1352} {
		if size < full {
			sizes = append(sizes, size)
		}
	}
	return append(sizes, full), full
}

// probePacket is a long header packet (RFC 8999 section 5.1) of an unknown
// version. Its source connection ID says which one it is.
func probePacket(id byte, size int) []byte {
	b := make([]byte, 0, size)
	b = append(b, 0xc0)
	b = binary.BigEndian.AppendUint32(b, unknownVersion)
	b = append(b, 8, 'd', 'o', 'c', 't', 'o', 'r', '?', id)
	b = append(b, 8, 'd', 'o', 'c', 't', 'o', 'r', '!', id)
	return append(b, make([]byte, max(0, size-len(b)))...)
}

// parseNegotiation reads a Version Negotiation packet (RFC 8999 section 6) and
// returns which packet it answers.
func parseNegotiation(b []byte) (id byte, ok bool) {
	const head = 1 + 4 + 1 + 8
	if len(b) < head || b[0]&0x80 == 0 || binary.BigEndian.Uint32(b[1:]) != 0 || b[5] != 8 || string(b[6:13]) != "doctor!" {
		return 0, false
	}
	return b[13], true
}
