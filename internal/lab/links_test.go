package lab_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"anyedge/internal/lab"
)

// fabrics are two geos' fabric sockets with a link between them.
func fabrics(t *testing.T, rtt time.Duration) (l *lab.Links, a, b *net.UDPConn) {
	t.Helper()
	socket := func(ip string) *net.UDPConn {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(ip)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	a, b = socket("127.0.43.1"), socket("127.0.43.2")
	l, err := lab.NewLinks([]lab.LinkEnd{
		{Geo: "fra", Public: netip.MustParseAddrPort("127.0.44.1:0"), Fabric: a.LocalAddr().(*net.UDPAddr).AddrPort()},
		{Geo: "iad", Public: netip.MustParseAddrPort("127.0.44.2:0"), Fabric: b.LocalAddr().(*net.UDPAddr).AddrPort()},
	}, logger(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Connect("fra", "iad", rtt); err != nil {
		t.Fatal(err)
	}
	start(t, l.Run)
	return l, a, b
}

func TestLinkDelaysAndKeepsOrder(t *testing.T) {
	const rtt, n = 60 * time.Millisecond, 200
	l, a, b := fabrics(t, rtt)
	begin := time.Now()
	go func() {
		for i := range n {
			data := binary.BigEndian.AppendUint32(nil, uint32(i))
			data = binary.BigEndian.AppendUint64(data, uint64(time.Since(begin))) // when it was sent
			_, _ = a.WriteToUDPAddrPort(data, l.Public("iad"))
		}
	}()
	buf := make([]byte, 2048)
	_ = b.SetReadDeadline(time.Now().Add(patience))
	for want := range n {
		_, from, err := b.ReadFromUDPAddrPort(buf)
		if err != nil {
			t.Fatalf("datagram %d: %v", want, err)
		}
		if from != l.Public("fra") {
			t.Fatalf("it comes from %s, not from fra's public address %s", from, l.Public("fra"))
		}
		if got := int(binary.BigEndian.Uint32(buf)); got != want {
			t.Fatalf("got datagram %d, want %d", got, want)
		}
		if took := time.Since(begin) - time.Duration(binary.BigEndian.Uint64(buf[4:])); took < rtt/2 {
			t.Fatalf("datagram %d took %s, less than half of %s", want, took, rtt)
		}
	}
	waitFor(t, "the count of what passed", func() bool { return l.Passed("fra", "iad") == n })
}

func TestLinkCarriesAnswersBack(t *testing.T) {
	const rtt = 40 * time.Millisecond
	l, a, b := fabrics(t, rtt)
	go func() {
		buf := make([]byte, 2048)
		n, from, err := b.ReadFromUDPAddrPort(buf)
		if err == nil {
			_, _ = b.WriteToUDPAddrPort(buf[:n], from)
		}
	}()
	begin := time.Now()
	_, _ = a.WriteToUDPAddrPort([]byte("ping"), l.Public("iad"))
	_ = a.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 2048)
	n, from, err := a.ReadFromUDPAddrPort(buf)
	if err != nil || string(buf[:n]) != "ping" || from != l.Public("iad") {
		t.Fatalf("got %q from %s, %v", buf[:n], from, err)
	}
	if took := time.Since(begin); took < rtt {
		t.Errorf("the round trip took %s, less than %s", took, rtt)
	}
}

func TestLinkCutAndJoined(t *testing.T) {
	l, a, b := fabrics(t, 2*time.Millisecond)
	arrives := func(from, to *net.UDPConn, geo string) bool {
		for range 20 {
			_, _ = from.WriteToUDPAddrPort([]byte("x"), l.Public(geo))
			_ = to.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			if _, _, err := to.ReadFromUDPAddrPort(make([]byte, 16)); err == nil {
				return true
			}
		}
		return false
	}
	for _, step := range []struct {
		name string
		cut  bool
	}{{"whole", false}, {"cut", true}, {"joined", false}} {
		if err := l.SetCut("iad", "fra", step.cut); err != nil {
			t.Fatal(err)
		}
		if got := arrives(a, b, "iad"); got == step.cut {
			t.Errorf("%s: fra to iad arrives: %v", step.name, got)
		}
		if got := arrives(b, a, "fra"); got == step.cut {
			t.Errorf("%s: iad to fra arrives: %v", step.name, got)
		}
		if l.IsCut("fra", "iad") != step.cut {
			t.Errorf("%s: IsCut says %v", step.name, !step.cut)
		}
	}
	if err := l.SetCut("fra", "nrt", true); err == nil {
		t.Error("a link that does not exist was cut")
	}
}
