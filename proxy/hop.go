package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"anyedge/internal/message"
	"anyedge/internal/world"
	"anyedge/proxy/upstream"
)

// An outbound says how a request leaves for another geo.
type outbound struct {
	hop    hop
	want   float64 // of shed
	urgent bool
}

// A busyError is another geo's refusal: it did nothing with the request.
type busyError struct{ reason string }

func (e busyError) Error() string { return "busy: " + e.reason }

// relay has another geo serve the request. A refusal counts as nothing sent.
func (e *Exchange) relay(ctx context.Context, geo string, out outbound) (*message.Response, error) {
	asked := time.Now()
	resp, err := e.proxy.setup.Fabric.RoundTrip(ctx, geo, e.hopRequest(out))
	if err != nil {
		return nil, fmt.Errorf("geo %s: %w", geo, err)
	}
	busy := resp.Header.Get(fieldBusy)
	if grant, ok := parseRate(resp.Header.Get(fieldGrant)); ok {
		e.proxy.door.Heard(geo, grant, busy != "" && out.hop == hopShed, time.Now())
	}
	if busy != "" {
		resp.Close()
		return nil, &message.TryError{Sent: message.NothingSent, To: geo, Err: busyError{busy}}
	}
	if failed := resp.Header.Get(fieldFailed); failed != "" {
		resp.Close()
		e.handled(geo)
		err := fmt.Errorf("its app gave no answer (%s)", cutText(failed))
		if failed == failedTimeout {
			err = fmt.Errorf("its app: %w", upstream.ErrTimeout)
		}
		return nil, &message.TryError{Sent: message.MaybeExecuted, To: "geo " + geo, Err: err}
	}
	e.served, e.rule = geo, ""
	if by := resp.Header.Get(fieldGeo); world.CheckName(by) == nil {
		e.served = by
	}
	e.handled(geo)
	e.record.answered, e.record.asked, e.record.heard = true, asked, time.Now()
	resp.Header = resp.Header.Clone()
	return resp, nil
}

// hopRequest is the request as it goes over the fabric: what the client sent,
// and what the geo there needs to know.
func (e *Exchange) hopRequest(out outbound) *message.Request {
	r := e.req.Clone()
	removeHopByHop(&r.Header)
	visited := append([]string{e.origin}, without(e.visited, e.origin)...)
	h := &r.Header
	h.Add(fieldHop, string(out.hop))
	h.Add(fieldRequest, e.id.String())
	h.Add(fieldVisited, strings.Join(visited, ", "))
	h.Add(fieldClient, r.Peer.String())
	h.Add(fieldProto, r.Scheme)
	h.Add(fieldVersion, r.Version.String())
	h.Add(fieldService, e.service.cfg.Name)
	if out.hop == hopShed {
		h.Add(fieldWant, formatWant(out.want, out.urgent))
	}
	if out.hop == hopReplay {
		e.addReplayFields(h)
	}
	r.Inform = e.informer()
	return r
}

func without(list []string, name string) []string {
	var out []string
	for _, s := range list {
		if s != name {
			out = append(out, s)
		}
	}
	return out
}

// An inbound is what the sender of a request over the fabric said of it.
type inbound struct {
	hop     hop
	visited []string
	client  netip.AddrPort
	proto   string
	version message.Version
	service string
	id      requestID
	want    float64
	urgent  bool
}

// parseInbound reads the hop fields of a request that geo from sent.
func parseInbound(h message.Header, from string) (inbound, error) {
	bad := func(field string) error { return fmt.Errorf("malformed %s: %q", field, cutText(h.Joined(field))) }
	var in inbound
	var errs []error
	switch h.Joined(fieldHop) { // traces outlive the field's memory
	case string(hopShed):
		in.hop = hopShed
	case string(hopFailover):
		in.hop = hopFailover
	case string(hopReplay):
		in.hop = hopReplay
	default:
		errs = append(errs, bad(fieldHop))
	}
	for geo := range h.Tokens(fieldVisited) {
		in.visited = append(in.visited, geo)
		if world.CheckName(geo) != nil {
			errs = append(errs, bad(fieldVisited))
		}
	}
	if len(in.visited) == 0 || len(in.visited) > maxVisited || in.visited[0] != from {
		errs = append(errs, bad(fieldVisited))
	}
	var err error
	if in.client, err = netip.ParseAddrPort(h.Joined(fieldClient)); err != nil {
		errs = append(errs, bad(fieldClient))
	}
	if in.proto = h.Joined(fieldProto); in.proto != "http" && in.proto != "https" {
		errs = append(errs, bad(fieldProto))
	}
	var ok bool
	if in.version, ok = parseVersion(h.Joined(fieldVersion)); !ok {
		errs = append(errs, bad(fieldVersion))
	}
	in.service = h.Joined(fieldService)
	if in.id, ok = parseID(h.Joined(fieldRequest)); !ok { // of an edge that does not tell
		in.id = newID()
	}
	if want := h.Joined(fieldWant); want != "" {
		if in.want, in.urgent, ok = parseWant(want); !ok {
			errs = append(errs, bad(fieldWant))
		}
	}
	return in, errors.Join(errs...)
}

// maxVisited bounds the list of geos a request has seen.
const maxVisited = 16

func parseVersion(s string) (message.Version, bool) {
	for _, v := range []message.Version{message.HTTP1, message.HTTP2, message.HTTP3} {
		if v.String() == s {
			return v, true
		}
	}
	return 0, false
}

func formatRate(r float64) string { return strconv.FormatFloat(r, 'f', 1, 64) }

// parseRate reads a finite rate of 0 or more, in requests/s.
func parseRate(s string) (float64, bool) {
	r, err := strconv.ParseFloat(s, 64)
	return r, err == nil && r >= 0 && r < 1e12
}

func formatWant(want float64, urgent bool) string {
	if urgent {
		return formatRate(want) + ";urgent"
	}
	return formatRate(want)
}

func parseWant(s string) (want float64, urgent, ok bool) {
	rate, flag, has := strings.Cut(s, ";")
	if has && flag != "urgent" {
		return 0, false, false
	}
	want, ok = parseRate(rate)
	return want, has, ok
}
