package bgp

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	wire "github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

// minedLog is the handler of the library's log: it makes events of the records
// that carry what no API does, and passes all on at debug level. The library
// writes a session's records from the goroutine that does what they say, so
// they come in order; it may hold locks meanwhile.
type minedLog struct {
	emit     func(netip.Addr, any)
	next     slog.Handler
	neighbor netip.Addr
}

func (*minedLog) Enabled(context.Context, slog.Level) bool { return true }

func (m *minedLog) WithGroup(string) slog.Handler { return m }

func (m *minedLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	out := &minedLog{emit: m.emit, next: m.next.WithAttrs(attrs), neighbor: m.neighbor}
	for _, a := range attrs {
		if addr, err := netip.ParseAddr(a.Value.String()); err == nil && a.Key == "Key" {
			out.neighbor = addr
		}
	}
	return out
}

func (m *minedLog) Handle(ctx context.Context, r slog.Record) error {
	if m.neighbor.IsValid() {
		if e := mine(r); e != nil {
			m.emit(m.neighbor, e)
		}
	}
	if !m.next.Enabled(ctx, slog.LevelDebug) {
		return nil
	}
	r.Level = slog.LevelDebug
	return m.next.Handle(ctx, r)
}

// mine returns the event that a record of the library's log stands for, if any.
func mine(r slog.Record) any {
	attrs := func() map[string]slog.Value {
		out := make(map[string]slog.Value, r.NumAttrs())
		r.Attrs(func(a slog.Attr) bool { out[a.Key] = a.Value; return true })
		return out
	}
	switch r.Message {
	case "state changed":
		a := attrs()
		return stateChange{to: State(strings.ToLower(strings.TrimPrefix(a["new"].String(), "BGP_FSM_"))), reason: a["reason"].String()}
	case "sent notification", "received notification":
		a := attrs()
		return notification{
			sent: strings.HasPrefix(r.Message, "sent"),
			code: number(a["Code"]), subcode: number(a["Subcode"]),
			communication: text(a["Communicated-Reason"]),
		}
	case "failed to connect":
		return dialFailure{err: attrs()["Error"].String()}
	case "outgoing connection IO error":
		return hangup{}
	case "sent update":
		a := attrs()
		return writtenUpdate(a["nlri"].Any(), a["withdrawals"].Any(), a["attributes"].Any())
	}
	return nil
}

func number(v slog.Value) uint8 {
	n, err := strconv.ParseUint(v.String(), 10, 8)
	if err != nil {
		return 0
	}
	return uint8(n)
}

func text(v slog.Value) string {
	if v.Kind() != slog.KindString {
		return ""
	}
	return v.String()
}

// writtenUpdate reads an UPDATE message that was written.
func writtenUpdate(nlri, withdrawn, attributes any) update {
	reach, _ := nlri.([]wire.PathNLRI)
	gone, _ := withdrawn.([]wire.PathNLRI)
	attrs, _ := attributes.([]wire.PathAttributeInterface)
	var said SentRoute
	for _, a := range attrs {
		switch a := a.(type) {
		case *wire.PathAttributeMpReachNLRI:
			said.NextHop = a.Nexthop
			reach = append(slices.Clip(reach), a.Value...)
		case *wire.PathAttributeMpUnreachNLRI:
			gone = append(slices.Clip(gone), a.Value...)
		default:
			said.take(a)
		}
	}
	out := update{gone: prefixes(gone)}
	for _, p := range prefixes(reach) {
		said.Prefix = p
		out.reach = append(out.reach, said)
	}
	return out
}

// take notes one attribute of an UPDATE message.
func (r *SentRoute) take(a wire.PathAttributeInterface) {
	switch a := a.(type) {
	case *wire.PathAttributeNextHop:
		r.NextHop = a.Value
	case *wire.PathAttributeAsPath:
		for _, segment := range a.Value {
			r.ASPath = append(r.ASPath, segment.GetAS()...)
		}
	case *wire.PathAttributeAs4Path: // stands in for the path of a neighbor with two-byte AS numbers
		r.ASPath = nil
		for _, segment := range a.Value {
			r.ASPath = append(r.ASPath, segment.GetAS()...)
		}
	case *wire.PathAttributeCommunities:
		for _, c := range a.Value {
			r.Communities = append(r.Communities, Community(c))
		}
	case *wire.PathAttributeLargeCommunities:
		for _, c := range a.Values {
			r.LargeCommunities = append(r.LargeCommunities, LargeCommunity{ASN: c.ASN, A: c.LocalData1, B: c.LocalData2})
		}
	case *wire.PathAttributeMultiExitDisc:
		r.MED = new(a.Value)
	case *wire.PathAttributeLocalPref:
		r.LocalPref = new(a.Value)
	}
}

func prefixes(list []wire.PathNLRI) []netip.Prefix {
	var out []netip.Prefix
	for _, n := range list {
		if p, ok := n.NLRI.(*wire.IPAddrPrefix); ok {
			out = append(out, p.Prefix)
		}
	}
	return out
}
