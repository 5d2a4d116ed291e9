package discover_test

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"anyedge/proxy/discover"
)

// A zone answers by UDP and TCP what it is told to.
type zone struct {
	addr string

	mu      sync.Mutex
	records []dns.RR
	extra   []dns.RR
	rcode   int // of every answer, unless 0
	cut     bool
	asked   int
}

func startZone(t *testing.T, records ...string) *zone {
	t.Helper()
	z := &zone{}
	z.set(t, records...)
	packets, streams := ports(t)
	z.addr = packets.LocalAddr().String()
	var running sync.WaitGroup
	t.Cleanup(running.Wait)
	for _, s := range []*dns.Server{{PacketConn: packets, Handler: z}, {Listener: streams, Handler: z}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		running.Go(func() { _ = s.ActivateAndServe() })
		<-started
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return z
}

// ports returns one port for both.
func ports(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	var last error
	for range 50 {
		streams, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		packets, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", streams.Addr().String())
		if err == nil {
			return packets, streams
		}
		last = err // somebody has it
		_ = streams.Close()
	}
	t.Fatal(last)
	return nil, nil
}

func parse(t *testing.T, records []string) []dns.RR {
	t.Helper()
	var out []dns.RR
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, rr)
	}
	return out
}

// set makes records all that there is.
func (z *zone) set(t *testing.T, records ...string) {
	t.Helper()
	list := parse(t, records)
	z.mu.Lock()
	defer z.mu.Unlock()
	z.records, z.extra, z.rcode = list, nil, 0
}

func (z *zone) fail(rcode int) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.rcode = rcode
}

func (z *zone) questions() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.asked
}

func (z *zone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.asked++
	m := new(dns.Msg)
	m.SetReply(q)
	m.Rcode = z.rcode
	known := false
	for _, rr := range z.records {
		same := strings.EqualFold(rr.Header().Name, q.Question[0].Name)
		known = known || same
		if m.Rcode == 0 && same && rr.Header().Rrtype == q.Question[0].Qtype {
			m.Answer = append(m.Answer, rr)
		}
	}
	if !known && m.Rcode == 0 {
		m.Rcode = dns.RcodeNameError
	}
	m.Extra = append(m.Extra, z.extra...)
	if _, udp := w.RemoteAddr().(*net.UDPAddr); udp && z.cut {
		m.Answer, m.Extra, m.Truncated = nil, nil, true
	}
	_ = w.WriteMsg(m)
}

// SRV records give ports, priorities and weights; targets are looked up unless
// their addresses came along.
func TestSRV(t *testing.T) {
	const name = "_shop._tcp.example.net."
	for _, tt := range []struct {
		name    string
		records []string
		extra   []string
		cut     bool
		want    string
	}{
		{
			"priorities and weights",
			[]string{
				name + " 60 SRV 10 5 8080 b.example.net.", name + " 60 SRV 1 0 8081 a.example.net.",
				"a.example.net. 60 A 192.0.2.1", "b.example.net. 60 A 192.0.2.2",
			},
			nil, false, "http://192.0.2.1:8081 1/1, http://192.0.2.2:8080 5/10",
		},
		{
			"several addresses share the weight",
			[]string{
				name + " 60 SRV 0 10 80 a.example.net.", "a.example.net. 60 A 192.0.2.1", "a.example.net. 60 AAAA 2001:db8::1",
			},
			nil, false, "http://192.0.2.1:80 5/0, http://[2001:db8::1]:80 5/0",
		},
		{
			"addresses that come along",
			[]string{name + " 60 SRV 0 1 80 a.example.net."},
			[]string{"A.example.net. 60 A 192.0.2.7", "other.example.net. 60 A 192.0.2.8"},
			false, "http://192.0.2.7:80 1/0",
		},
		{
			"a target without an address is nobody",
			[]string{
				name + " 60 SRV 0 1 80 gone.example.net.", name + " 60 SRV 0 1 80 a.example.net.", "a.example.net. 60 A 192.0.2.1",
			},
			nil, false, "http://192.0.2.1:80 1/0",
		},
		{
			"the same address twice",
			[]string{
				name + " 60 SRV 0 1 80 a.example.net.", name + " 60 SRV 0 1 80 b.example.net.", "a.example.net. 60 A 192.0.2.1", "b.example.net. 60 A 192.0.2.1",
			},
			nil, false, "http://192.0.2.1:80 1/0",
		},
		{"not available", []string{name + " 60 SRV 0 0 0 ."}, nil, false, ""},
		{
			"an answer too long for UDP",
			[]string{name + " 60 SRV 0 1 80 a.example.net.", "a.example.net. 60 A 192.0.2.1"},
			nil, true, "http://192.0.2.1:80 1/0",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			z := startZone(t, tt.records...)
			z.mu.Lock()
			z.extra, z.cut = parse(t, tt.extra), tt.cut
			z.mu.Unlock()
			var l listener
			s := run(t, discover.Config{DNSSRV: "_shop._tcp.example.net", Resolver: z.addr}, l.tell)
			waitFor(t, "the first list", func() bool { return len(l.told()) == 1 })
			if l.last() != tt.want {
				t.Errorf("\n got %s\nwant %s", l.last(), tt.want)
			}
			waitFor(t, "the status", func() bool { return (s.Status().LastError != "") == (tt.want == "") })
		})
	}
}

// DNS is asked again when its TTL is over, whatever refresh is.
func TestTTL(t *testing.T) {
	z := startZone(t, "shop.example.net. 0 A 192.0.2.1")
	var l listener
	run(t, discover.Config{DNS: "shop.example.net:80", Scheme: "h2c", Resolver: z.addr, Refresh: new(time.Hour)}, l.tell)
	waitFor(t, "the first list", func() bool { return l.last() == "h2c://192.0.2.1:80 1/0" })
	z.set(t, "shop.example.net. 3600 A 192.0.2.1", "shop.example.net. 3600 A 192.0.2.2")
	waitFor(t, "the second list", func() bool { return l.last() == "h2c://192.0.2.1:80 1/0, h2c://192.0.2.2:80 1/0" })
	if n := z.questions(); n > 20 {
		t.Errorf("%d questions", n)
	}
	if n := len(l.told()); n != 2 {
		t.Errorf("told %d times: %q", n, l.told())
	}
}

// No answer takes no backend away; the word that there are none does so only
// after a time.
func TestDNSFails(t *testing.T) {
	const list = "http://192.0.2.1:80 1/0"
	for _, tt := range []struct {
		name string
		fail int
		keep time.Duration
		want string
	}{
		{"server failure", dns.RcodeServerFailure, time.Millisecond, list},
		{"refused", dns.RcodeRefused, time.Millisecond, list},
		{"no such name, kept", dns.RcodeNameError, time.Hour, list},
		{"no such name, over", dns.RcodeNameError, time.Millisecond, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			z := startZone(t, "shop.example.net. 0 A 192.0.2.1")
			var l listener
			s := run(t, discover.Config{DNS: "shop.example.net:80", Resolver: z.addr, Refresh: new(time.Second), Keep: &tt.keep}, l.tell)
			waitFor(t, "the first list", func() bool { return l.last() == list })
			z.fail(tt.fail)
			before := z.questions()
			waitFor(t, "failures", func() bool { return z.questions() > before+2 && s.Status().LastError != "" })
			waitFor(t, fmt.Sprintf("%q", tt.want), func() bool { return l.last() == tt.want })
			z.set(t, "shop.example.net. 0 A 192.0.2.9")
			waitFor(t, "the return", func() bool { return l.last() == "http://192.0.2.9:80 1/0" && s.Status().LastError == "" })
		})
	}
}

// An answer that never comes is a failure like any other; the first one is told,
// so that nobody waits for more.
func TestSilentResolver(t *testing.T) {
	silent, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	var l listener
	s := run(t, discover.Config{DNS: "shop.example.net:80", Resolver: silent.LocalAddr().String()}, l.tell)
	waitFor(t, "the failure", func() bool { return s.Status().LastError != "" })
	if told := l.told(); len(told) != 1 || told[0] != "" {
		t.Errorf("told %q", told)
	}
}
