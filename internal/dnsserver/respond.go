package dnsserver

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/miekg/dns"
)

const (
	headerLen  = 12   // bytes (RFC 1035 section 4.1.1)
	maxPayload = 1232 // bytes over UDP that are not fragmented where IPv6 works (RFC 9715)
)

// respond returns the response to a message, nil when it deserves none.
func (s *Server) respond(query []byte, tcp bool) []byte {
	if len(query) < headerLen || query[2]&0x80 != 0 { // no query: a response, perhaps to us
		return nil
	}
	var req dns.Msg
	err := req.Unpack(query)
	var m *dns.Msg
	var opt *dns.OPT
	switch {
	case req.Opcode != dns.OpcodeQuery:
		m = refusal(&req, dns.RcodeNotImplemented)
	case err != nil || !complete(query, &req):
		m = refusal(&req, dns.RcodeFormatError)
		m.Question = nil // who knows what it was
	default:
		m, opt = s.reply(&req)
	}
	fit(m, limit(tcp, opt))
	out, err := m.Pack()
	if err != nil {
		s.log.Error("a response could not be written", "question", fmt.Sprint(req.Question), "err", err)
		return bare(query, dns.RcodeServerFailure)
	}
	return out
}

// complete reports whether req is all that the header of its message promised,
// and asks one question (RFC 9619).
func complete(query []byte, req *dns.Msg) bool {
	for i, n := range []int{len(req.Question), len(req.Answer), len(req.Ns), len(req.Extra)} {
		if int(binary.BigEndian.Uint16(query[4+2*i:])) != n {
			return false
		}
	}
	return len(req.Question) == 1 && req.Question[0].Qclass != 0
}

// refusal returns a response that is an error alone.
func refusal(req *dns.Msg, rcode int) *dns.Msg {
	m := new(dns.Msg).SetRcode(req, rcode)
	if len(req.Question) != 1 {
		m.Question = nil
	}
	return m
}

// bare returns the header alone, with an error.
func bare(query []byte, rcode int) []byte {
	h := make([]byte, headerLen)
	copy(h, query[:4])
	h[2] = h[2]&0x79 | 0x80 // a response to that opcode, RD as asked
	h[3] = byte(rcode & 0xf)
	return h
}

// reply answers a well-formed query; opt is the client's, nil when it speaks
// no EDNS.
func (s *Server) reply(req *dns.Msg) (m *dns.Msg, opt *dns.OPT) {
	opts := 0
	for _, rr := range req.Extra {
		if o, ok := rr.(*dns.OPT); ok {
			opt = o
			opts++
		}
	}
	if opts > 1 || opt != nil && opt.Hdr.Name != "." { // RFC 6891 section 6.1.1
		return refusal(req, dns.RcodeFormatError), nil
	}
	if opt != nil && opt.Version() > 0 {
		m = refusal(req, dns.RcodeBadVers)
		m.SetEdns0(maxPayload, opt.Do())
		return m, opt
	}
	a := s.lookup(req.Question[0])
	m = refusal(req, a.rcode)
	m.Authoritative = a.ours
	m.Answer, m.Ns, m.Extra = a.answer, a.authority, a.extra
	if opt != nil {
		m.SetEdns0(maxPayload, opt.Do())
		if a.note != "" {
			o := m.IsEdns0()
			o.Option = append(o.Option, &dns.EDNS0_EDE{InfoCode: a.code, ExtraText: a.note})
		}
	}
	return m, opt
}

// fit makes m fit into size bytes. Additional records go first and silently,
// for a client can ask for them (RFC 2181 section 9); what the answer lacks is
// said by TC.
func fit(m *dns.Msg, size int) {
	m.Compress = true
	if m.Len() > size {
		m.Extra = slices.DeleteFunc(m.Extra, func(rr dns.RR) bool { return rr.Header().Rrtype != dns.TypeOPT })
	}
	m.Truncate(size)
	m.Compress = true
}
