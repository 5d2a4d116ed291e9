package dnsserver_test

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"anyedge/internal/dnsserver"
	"anyedge/internal/testpeer"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// query is a question as a client packs it; edit may spoil it.
func query(tb testing.TB, name string, qtype uint16, edit func(*dns.Msg)) []byte {
	tb.Helper()
	m := new(dns.Msg).SetQuestion(name, qtype)
	m.Id = 4711
	if edit != nil {
		edit(m)
	}
	b, err := m.Pack()
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// header returns twelve bytes with these flags and counts.
func header(flags uint16, counts ...uint16) []byte {
	b := binary.BigEndian.AppendUint16(nil, 4711)
	b = binary.BigEndian.AppendUint16(b, flags)
	for i := range 4 {
		n := uint16(0)
		if i < len(counts) {
			n = counts[i]
		}
		b = binary.BigEndian.AppendUint16(b, n)
	}
	return b
}

// opt returns an OPT record.
func opt(size uint16, version uint8) *dns.OPT {
	o := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
	o.SetUDPSize(size)
	o.SetVersion(version)
	return o
}

// TestBytes sends what no proper client does.
func TestBytes(t *testing.T) {
	t.Parallel()
	at := serve(t, fleet())
	whole := query(t, "shop.internal.", dns.TypeA, nil)
	const silence = -1
	for _, tt := range []struct {
		name  string
		bytes []byte
		rcode int
	}{
		{"a query", whole, dns.RcodeSuccess},
		{"nothing", []byte{}, silence},
		{"eleven bytes", whole[:11], silence},
		{"a response", query(t, "shop.internal.", dns.TypeA, func(m *dns.Msg) { m.Response = true }), silence},
		{"a header alone", header(0), dns.RcodeFormatError},
		{"a header that promises", header(0, 1), dns.RcodeFormatError},
		{"the name cut", whole[:18], dns.RcodeFormatError},
		{"the type cut", whole[:len(whole)-3], dns.RcodeFormatError},
		{"the class cut", whole[:len(whole)-2], dns.RcodeFormatError},
		{"two questions", query(t, "shop.internal.", dns.TypeA, func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }), dns.RcodeFormatError},
		{"no question", query(t, "shop.internal.", dns.TypeA, func(m *dns.Msg) { m.Question = nil }), dns.RcodeFormatError},
		{"records that are not there", append(header(0, 1, 7), whole[12:]...), dns.RcodeFormatError},
		{"a name that points at itself", append(header(0, 1), 0xc0, 12, 0, 1, 0, 1), dns.RcodeFormatError},
		{"a label of a reserved kind", append(header(0, 1), 0x80, 0, 0, 1, 0, 1), dns.RcodeFormatError},
		{"a label beyond the end", append(header(0, 1), 63, 'a', 0, 1, 0, 1), dns.RcodeFormatError},
		{"a name of 256 bytes", append(header(0, 1), []byte(strings.Repeat("\x01a", 128)+"\x00\x00\x01\x00\x01")...), dns.RcodeFormatError},
		{"a byte of noise in a label", append(header(0, 1), []byte("\x02\x00\xff\x08internal\x00\x00\x01\x00\x01")...), dns.RcodeNameError},
		{"opcode 6", append(header(6<<11, 1), whole[12:]...), dns.RcodeNotImplemented},
		{"opcode 15, noise behind", append(header(15<<11, 9, 9, 9, 9), 0xc0, 0xc0), dns.RcodeNotImplemented},
		{"class ANY", query(t, "shop.internal.", dns.TypeA, func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassANY }), dns.RcodeRefused},
		{"two OPTs", query(t, "shop.internal.", dns.TypeA, func(m *dns.Msg) { m.Extra = []dns.RR{opt(4096, 0), opt(4096, 0)} }), dns.RcodeFormatError},
		{"OPT of a name", query(t, "shop.internal.", dns.TypeA, func(m *dns.Msg) {
			o := opt(4096, 0)
			o.Hdr.Name = "x."
			m.Extra = []dns.RR{o}
		}), dns.RcodeFormatError},
		{"EDNS 255", query(t, "shop.internal.", dns.TypeA, func(m *dns.Msg) { m.Extra = []dns.RR{opt(4096, 255)} }), dns.RcodeBadVers},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// A query behind it shows that nothing else comes, and that the server lives.
			conn, err := net.Dial("udp4", at.String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			after := query(t, "internal.", dns.TypeSOA, func(m *dns.Msg) { m.Id = 9 })
			got := exchange(t, conn, tt.bytes, after, tt.rcode != silence)
			if tt.rcode == silence {
				if got.Id != 9 {
					t.Fatalf("got an answer: %s", got)
				}
				return
			}
			if got.Rcode != tt.rcode || got.Id != 4711 || !got.Response || got.RecursionAvailable {
				t.Errorf("got %s, want %s", got, dns.RcodeToString[tt.rcode])
			}
		})
	}
}

// exchange sends first, and second too unless an answer to first is awaited;
// it returns the first answer.
func exchange(t *testing.T, conn net.Conn, first, second []byte, wait bool) *dns.Msg {
	t.Helper()
	if _, err := conn.Write(first); err != nil {
		t.Fatal(err)
	}
	if !wait {
		if _, err := conn.Write(second); err != nil {
			t.Fatal(err)
		}
	}
	_ = conn.SetReadDeadline(time.Now().Add(testpeer.Patience))
	buf := make([]byte, 65535)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	m := new(dns.Msg)
	if err := m.Unpack(buf[:n]); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestSize: over UDP no answer is longer than the client and the network
// take, and what it lacks is said; additional records are left out in silence.
func TestSize(t *testing.T) {
	t.Parallel()
	src := fleet()
	src.services = append(src.services, dnsserver.ServiceAnswer{Name: "eight", Reported: true, Backends: many(8)})
	s := newServer(t, "127.0.0.1:53", src)
	for _, tt := range []struct {
		name      string
		qtype     uint16
		edns      uint16 // 0: none
		most      int
		truncated bool
		answers   int // -1: some
	}{
		{"wide.internal.", dns.TypeA, 0, 512, true, 30},
		{"wide.internal.", dns.TypeA, 100, 512, true, -1},
		{"wide.internal.", dns.TypeA, 800, 800, true, -1},
		{"wide.internal.", dns.TypeA, 1232, 1232, true, -1},
		{"wide.internal.", dns.TypeA, 65535, 1232, true, -1},
		{"wide.internal.", dns.TypeSRV, 65535, 1232, true, -1},
		{"eight.internal.", dns.TypeA, 0, 512, false, 8},
		{"eight.internal.", dns.TypeSRV, 0, 512, false, 8}, // without the targets' addresses
	} {
		m := new(dns.Msg).SetQuestion(tt.name, tt.qtype)
		if tt.edns > 0 {
			m.Extra = []dns.RR{opt(tt.edns, 0)}
		}
		q, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		out := s.Respond(q, false)
		got := new(dns.Msg)
		if err := got.Unpack(out); err != nil {
			t.Fatal(err)
		}
		if len(out) > tt.most || got.Truncated != tt.truncated || tt.answers >= 0 && len(got.Answer) != tt.answers || len(got.Answer) == 0 {
			t.Errorf("%s %s, EDNS %d: %d bytes, TC %t, %d answers", tt.name, dns.TypeToString[tt.qtype], tt.edns, len(out), got.Truncated, len(got.Answer))
		}
		if (got.IsEdns0() != nil) != (tt.edns > 0) {
			t.Errorf("%s EDNS %d: the answer's EDNS: %v", tt.name, tt.edns, got.IsEdns0())
		}
	}
}

// TestClient asks with another library's client, over one TCP connection and
// UDP, many at once.
func TestClient(t *testing.T) {
	t.Parallel()
	at := serve(t, fleet())
	var asking sync.WaitGroup
	defer asking.Wait()
	for _, network := range []string{"udp", "tcp"} {
		for range 8 {
			asking.Go(func() {
				c := &dns.Client{Net: network, Timeout: testpeer.Patience}
				conn, err := c.DialContext(t.Context(), at.String())
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				for range 50 {
					got, _, err := c.ExchangeWithConnContext(t.Context(), new(dns.Msg).SetQuestion("sHoP.internal.", dns.TypeA), conn)
					if err != nil {
						t.Error(err)
						return
					}
					if len(got.Answer) != 2 || got.Answer[0].Header().Name != "sHoP.internal." || got.Answer[0].Header().Ttl != 1 {
						t.Errorf("got %s", got)
					}
				}
			})
		}
	}
}

// TestSpelling: the question comes back byte for byte (0x20).
func TestSpelling(t *testing.T) {
	s := newServer(t, "127.0.0.1:53", fleet())
	for _, name := range []string{"sHOp.iNTERNAl.", "NoNe.InTeRnAl.", "www.ExAmPlE.net.", "gEOs.internaL."} {
		q := query(t, name, dns.TypeTXT, nil)
		if d := cmp.Diff(q[12:], s.Respond(q, false)[12:len(q)]); d != "" {
			t.Errorf("%s: -want +got:\n%s", name, d)
		}
	}
}

// TestPipeline: queries that come together are answered in their order.
func TestPipeline(t *testing.T) {
	t.Parallel()
	at := serve(t, fleet())
	conn := dial(t, at)
	var all []byte
	for id := range uint16(100) {
		q := query(t, "wide.internal.", dns.TypeA, func(m *dns.Msg) { m.Id = id })
		all = append(binary.BigEndian.AppendUint16(all, uint16(len(q))), q...)
	}
	if _, err := conn.Write(all); err != nil {
		t.Fatal(err)
	}
	in := &dns.Conn{Conn: conn}
	for id := range uint16(100) {
		m, err := in.ReadMsg()
		if err != nil || m.Id != id || len(m.Answer) != 200 {
			t.Fatalf("query %d: %v, %v", id, m, err)
		}
	}
}

func dial(t *testing.T, at netip.AddrPort) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp4", at.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(testpeer.Patience))
	return conn
}

// TestSlowClients lose their connection, and others notice nothing.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	at := serve(t, fleet())
	slow := map[string][]byte{"half a length": {0}, "no query": {0, 40}, "half a query": {0, 40, 1, 2, 3}, "garbage": {0, 3, 1, 2, 3}}
	for name, says := range slow {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := dial(t, at)
			if _, err := conn.Write(says); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil {
				t.Fatal("got an answer")
			} else if took := time.Since(start); took > testpeer.Patience-time.Second {
				t.Errorf("the connection lived %s", took)
			}
			if out := dig(t, at, "shop.internal", "A", "+tcp"); !strings.Contains(out, "ANSWER: 2,") {
				t.Errorf("another client got %s", out)
			}
		})
	}
}

// TestCrowd: one client has so many connections and no more, until it closes
// one.
func TestCrowd(t *testing.T) {
	t.Parallel()
	at := serve(t, fleet())
	ask := func(conn net.Conn) error {
		c := &dns.Conn{Conn: conn}
		if err := c.WriteMsg(new(dns.Msg).SetQuestion("shop.internal.", dns.TypeA)); err != nil {
			return err
		}
		_, err := c.ReadMsg()
		return err
	}
	var conns []net.Conn
	for range dnsserver.MaxPerClient {
		conn := dial(t, at)
		if err := ask(conn); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	if err := ask(dial(t, at)); err == nil {
		t.Error("one more was answered")
	}
	_ = conns[0].Close()
	testpeer.WaitFor(t, "a place", func() bool { return ask(dial(t, at)) == nil })
}

// TestStop: idle connections do not hold up the end.
func TestStop(t *testing.T) {
	var conn net.Conn
	t.Run("while it runs", func(t *testing.T) {
		at := serve(t, fleet())
		var err error
		if conn, err = net.Dial("tcp4", at.String()); err != nil {
			t.Fatal(err)
		}
	})
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(testpeer.Patience))
	if _, err := io.ReadAll(conn); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Error(err)
	}
}

// TestStrangers: only private sources are answered.
func TestStrangers(t *testing.T) {
	s := newServer(t, "127.0.0.1:53", fleet())
	for from, want := range map[string]bool{
		"10.1.2.3:4000": true, "[::ffff:10.1.2.3]:4000": true, "127.0.0.9:1": true, "[fd00::1]:9": true, "[fe80::1%lo]:9": true,
		"203.0.113.5:53": false, "[2001:db8::1]:53": false, "8.8.8.8:53": false, "255.255.255.255:9": false,
	} {
		if got := s.Known(netip.MustParseAddrPort(from)); got != want {
			t.Errorf("%s: %t, want %t", from, got, want)
		}
	}
}

func FuzzRespond(f *testing.F) {
	s := newServer(f, "127.0.0.1:53", fleet())
	for _, name := range []string{"shop.internal.", "wide.InTeRnal.", "geos.internal.", "internal.", "iad.shop.internal.", "none.internal.", "example.net."} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeTXT, dns.TypeANY, dns.TypeSOA, dns.TypeNS, dns.TypeAXFR} {
			f.Add(query(f, name, qtype, func(m *dns.Msg) { m.Extra = []dns.RR{opt(700, 0)} }), qtype%2 == 0)
		}
	}
	f.Add(header(0, 1), true)
	f.Fuzz(func(t *testing.T, in []byte, tcp bool) {
		out := s.Respond(in, tcp)
		if out == nil {
			if len(in) >= 12 && in[2]&0x80 == 0 {
				t.Fatal("a query without an answer")
			}
			return
		}
		most := 1232
		if tcp {
			most = dns.MaxMsgSize
		}
		var m dns.Msg
		if err := m.Unpack(out); err != nil {
			t.Fatalf("the answer cannot be read: %v", err)
		}
		if len(out) > most || !m.Response || m.RecursionAvailable || m.Id != binary.BigEndian.Uint16(in) {
			t.Fatalf("%d bytes: %s", len(out), &m)
		}
		if tcp && m.Truncated {
			t.Fatalf("truncated over TCP: %s", &m)
		}
		if len(m.Answer) > 0 && (m.Rcode != dns.RcodeSuccess || !m.Authoritative) {
			t.Fatalf("an answer with an error: %s", &m)
		}
	})
}
