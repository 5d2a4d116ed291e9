package fabric

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"anyedge/internal/message"
	"anyedge/internal/world"
)

// ErrNoLiveNode means that the probes reach no node of the geo now.
var ErrNoLiveNode = errors.New("no node of the geo answers")

// maxHead bounds the head of a request that comes from another node.
const maxHead = message.MiB

// maxFields bounds its fields: those of a client and what its edge adds.
const maxFields = 300

// serve answers a request of another node.
func (f *Fabric) serve(ctx context.Context, from Peer, req *message.Request) (*message.Response, error) {
	r := f.roster.get(from.Node)
	if r == nil || f.setup.Handler == nil {
		// As the proxy says that nothing was executed: the sender asks another.
		return &message.Response{Status: http.StatusServiceUnavailable, Header: message.Header{{Name: "Edge-Busy", Value: "not-ready"}}}, nil
	}
	r.mu.Lock()
	r.served++
	r.mu.Unlock()
	f.serving.Add(1)
	res, err := f.setup.Handler(ctx, from, arrived(req))
	if err != nil {
		f.serving.Add(-1)
		return nil, err
	}
	onClose(res, func() { f.serving.Add(-1) })
	return res, nil
}

// RoundTrip sends req to a live node of geo. It fails at once when none
// answers the probes; a request under way ends about a second after its node
// stopped answering. Errors are *message.TryError.
func (f *Fabric) RoundTrip(ctx context.Context, geo string, req *message.Request) (*message.Response, error) {
	err := error(&message.TryError{Sent: message.NothingSent, To: geo, Err: ErrNoLiveNode})
	for _, r := range f.targets(geo) {
		l := r.dialed()
		if l == nil {
			continue
		}
		var res *message.Response
		if res, err = r.send(ctx, l, req); err == nil {
			return res, nil
		}
		if ctx.Err() != nil || message.SentBy(err) != message.NothingSent {
			return nil, err
		}
	}
	return nil, err
}

// targets returns the nodes of geo that a request can be sent to, in the order
// to try them.
func (f *Fabric) targets(geo string) []*remote {
	var list []*remote
	for _, r := range f.roster.all() {
		r.mu.Lock()
		if r.geo == geo && r.pulse.alive && r.status != world.Left {
			list = append(list, r)
		}
		r.mu.Unlock()
	}
	shuffle(list)
	return list
}

// send sends req on l. While it is under way the node is probed at full rate.
func (r *remote) send(ctx context.Context, l *link, req *message.Request) (*message.Response, error) {
	l.requests.Add(1)
	r.mu.Lock()
	r.requests++
	r.mu.Unlock()
	res, err := l.client.RoundTrip(ctx, departing(req))
	if err != nil {
		l.requests.Add(-1)
		if try, ok := errors.AsType[*message.TryError](err); ok && !l.alive() {
			try.Err = fmt.Errorf("the connection ended: %w", l.cause()) //nolint:contextcheck // the connection's own context knows why
		}
		return nil, err
	}
	onClose(res, func() { l.requests.Add(-1) })
	return res, nil
}

// bodyField says on the way between two nodes that a request has no content:
// HTTP/3 has no form for it that a receiver sees before the stream ends.
const (
	bodyField = "Edge-Body"
	bodyNone  = "none"
)

// departing returns req as it travels.
func departing(req *message.Request) *message.Request {
	out := req.Clone()
	out.Header.Del(bodyField)
	if out.Body == nil && out.Protocol == "" {
		out.Header.Add(bodyField, bodyNone)
	}
	return out
}

// arrived returns what departing made travel.
func arrived(req *message.Request) *message.Request {
	in := *req
	if in.Header.Get(bodyField) == bodyNone {
		in.Body = nil
	}
	in.Header.Del(bodyField)
	return &in
}

// onClose calls done when the receiver of res is through with it.
func onClose(res *message.Response, done func()) {
	once := sync.OnceFunc(done)
	switch {
	case res.Stream != nil:
		res.Stream = &watchedStream{res.Stream, once}
	case res.Body != nil:
		res.Body = &watchedBody{res.Body, once}
	default:
		once()
	}
}

type watchedBody struct {
	io.ReadCloser
	done func()
}

// Close closes the body and tells that it was.
func (b *watchedBody) Close() error {
	b.done()
	return b.ReadCloser.Close()
}

type watchedStream struct {
	io.ReadWriteCloser
	done func()
}

// Close closes the stream and tells that it was.
func (s *watchedStream) Close() error {
	s.done()
	return s.ReadWriteCloser.Close()
}

// CloseWrite ends the writing half, when the stream has halves.
func (s *watchedStream) CloseWrite() error {
	if half, ok := s.ReadWriteCloser.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return http.ErrNotSupported
}

// awaitServed waits until no request of others is being answered, or ctx ends.
func (f *Fabric) awaitServed(ctx context.Context) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for f.serving.Load() > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Serving returns how many requests of other nodes are being answered.
func (f *Fabric) Serving() int64 { return f.serving.Load() }
