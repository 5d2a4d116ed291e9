package proxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"anyedge/internal/message"
	"anyedge/internal/world"
	"anyedge/replay"
)

// errReplayTimeout ends a try that an instruction gave too little time.
var errReplayTimeout = errors.New("no first byte in time")

// addReplayFields tells an app who replayed the request and what failed
// before.
func (e *Exchange) addReplayFields(h *message.Header) {
	if e.source != "" {
		h.Set(replay.FieldSource, e.source)
	}
	if e.failed != "" {
		h.Set(replay.FieldFailed, e.failed)
	}
}

// replay runs the instruction in resp, whose content is thrown away before
// anything else, so that the local backend is free again.
func (e *Exchange) replay(ctx context.Context, resp *message.Response) *message.Response {
	h := resp.Header
	resp.Close()
	e.service.stats.replayed()
	e.note(e.served + " asks for a replay: " + cutText(h.Joined(replay.Field)))
	in, err := replay.Parse(h)
	if err != nil {
		return e.replayError(err)
	}
	if e.broken() {
		return e.fail(ctx, e.req.Body.Failure())
	}
	if !e.repeatable() {
		return e.replayError(replay.Errorf(replay.BodyTooLarge, "more than %s of content came before the instruction", e.service.cfg.Replay.Body()))
	}
	scene := e.scene()
	run := replayRun{Exchange: e, in: in, scene: scene, began: time.Now()}
	geos, err := in.Resolve(scene)
	if err != nil && (run.in.Fallback == replay.FallbackNone || !hasCode(err, replay.NoCandidate)) {
		return e.replayError(err)
	}
	run.last = nothingSent(err)
	e.hops++
	return run.deliver(ctx, geos)
}

// replayError is the answer that tells a client why no replay happened.
func (e *Exchange) replayError(err error) *message.Response {
	r, ok := errors.AsType[*replay.Error](err)
	if !ok {
		r = replay.Errorf(replay.BadInstruction, "%v", err)
	}
	e.code = r.Code
	e.note("replay: " + r.Error())
	resp := e.refuse(r.Status, RuleReplay, r.Error())
	if r.Code == replay.NoCandidate {
		resp.Header = append(resp.Header, retryAfter())
	}
	return resp
}

func hasCode(err error, code replay.Code) bool {
	r, ok := errors.AsType[*replay.Error](err)
	return ok && r.Code == code
}

// nothingSent is err as the failure of a try that never began; nil stays nil.
func nothingSent(err error) error {
	if err == nil {
		return nil
	}
	return &message.TryError{Sent: message.NothingSent, To: "replay", Err: err}
}

// scene is what this edge knows that an instruction is judged against.
func (e *Exchange) scene() replay.Scene {
	s := replay.Scene{Config: e.service.cfg.Replay, Groups: e.proxy.setup.Groups, Visited: e.visited, Hops: e.hops}
	s.Geos = []replay.Candidate{{Geo: e.proxy.setup.Geo, Down: e.downHere()}}
	if e.proxy.setup.World == nil || e.proxy.setup.Fabric == nil {
		return s
	}
	w := e.proxy.setup.World()
	for i := range w.Geos {
		if g := &w.Geos[i]; g.Name != e.proxy.setup.Geo {
			s.Geos = append(s.Geos, replay.Candidate{Geo: g.Name, Down: down(g, e.service.cfg.Name)})
		}
	}
	return s
}

// down says why a geo cannot take a request for service.
func down(g *world.Geo, service string) string {
	switch {
	case !g.Alive:
		return "unreachable"
	case !g.Serves(service):
		return "no healthy backend"
	}
	return ""
}

func (e *Exchange) downHere() string {
	if e.service.pool.Healthy() == 0 {
		return "no healthy backend"
	}
	return ""
}

// A replayRun is one instruction being run.
type replayRun struct {
	*Exchange
	in    *replay.Instruction
	scene replay.Scene
	began time.Time

	tried []string
	last  error // of the try before; nil: none
}

// deliver tries geos in order, then the fallback.
func (run *replayRun) deliver(ctx context.Context, geos []string) *message.Response {
	for _, geo := range geos {
		if !run.mayGoOn(ctx) {
			return run.giveUp(ctx)
		}
		if resp := run.try(ctx, geo); resp != nil {
			return resp
		}
	}
	if !run.mayGoOn(ctx) {
		return run.giveUp(ctx)
	}
	if resp := run.fallback(ctx); resp != nil {
		return resp
	}
	return run.giveUp(ctx)
}

// mayGoOn reports whether somebody else may be asked after the last try.
func (run *replayRun) mayGoOn(ctx context.Context) bool {
	return run.last == nil || ctx.Err() == nil && run.repeatable() &&
		replay.MayGoOn(run.req, message.SentBy(run.last))
}

// try delivers the request to geo; nil means that it did not serve it.
func (run *replayRun) try(ctx context.Context, geo string) *message.Response {
	run.tried = append(run.tried, geo)
	source, err := run.proxy.signer.Sign(replay.Source{
		Geo: run.proxy.setup.Geo, Node: run.proxy.setup.Node, At: time.Now(),
		Hops: slices.Clone(run.visited), State: run.in.State,
	})
	if err != nil {
		run.last = nothingSent(err)
		return nil
	}
	run.source = source
	resp, err := run.within(ctx, geo)
	if err != nil {
		run.last = err
		run.note(fmt.Sprintf("replay to %s: %v", geo, err))
		return nil
	}
	run.record.replay = geo
	run.note("replay to " + geo + ": served there")
	return resp
}

// to delivers the request to geo.
func (run *replayRun) to(ctx context.Context, geo string) (*message.Response, error) {
	if geo == run.proxy.setup.Geo {
		return run.local(ctx)
	}
	return run.relay(ctx, geo, outbound{hop: hopReplay})
}

// within is one try, limited by the instruction's timeout to the first byte.
// Without one, the limits of the geo asked for its backends apply, as for any
// request there: they know how much of the content has come.
func (run *replayRun) within(ctx context.Context, geo string) (*message.Response, error) {
	if run.in.Timeout == 0 {
		return run.to(ctx, geo)
	}
	// The context lives as long as the answer's content; its end is the
	// exchange's.
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(run.in.Timeout, func() { cancel(errReplayTimeout) })
	resp, err := run.to(ctx, geo)
	inTime := timer.Stop()
	if inTime && err == nil {
		run.record.atEnd(func() { cancel(nil) })
		return resp, nil
	}
	resp.Close()
	if !inTime {
		cancel(errReplayTimeout) // the timer's own call may be still to come
	}
	cancel(nil)
	if cause := context.Cause(ctx); err == nil || errors.Is(cause, errReplayTimeout) {
		err = &message.TryError{Sent: sentOr(err, message.MaybeExecuted), To: geo, Err: cause}
	}
	return nil, err
}

func sentOr(err error, other message.Sent) message.Sent {
	if err == nil {
		return other
	}
	return message.SentBy(err)
}

// fallback does what the instruction says when no geo of it served the
// request; nil means that nothing did.
func (run *replayRun) fallback(ctx context.Context) *message.Response {
	geo := ""
	switch run.in.Fallback {
	case replay.FallbackSelf:
		geo = run.proxy.setup.Geo
	case replay.FallbackNext:
		geo = run.scene.Next(run.tried)
	case replay.FallbackNone:
	}
	if geo == "" {
		return nil
	}
	failure := replay.Failure{Reason: run.reason(), Elapsed: time.Since(run.began)}
	failure.Geo = run.asked()
	value, err := failure.Value()
	if err != nil {
		run.last = nothingSent(err)
		return nil
	}
	run.failed = value
	defer func() { run.failed = "" }()
	return run.try(ctx, geo)
}

// asked returns who was asked last, "" for nobody.
func (run *replayRun) asked() string {
	if len(run.tried) == 0 {
		return ""
	}
	return run.tried[len(run.tried)-1]
}

// reason names the last failure for Replay-Geo-Failed.
func (run *replayRun) reason() replay.Reason {
	switch {
	case len(run.tried) == 0:
		return replay.ReasonNoCandidate
	case errors.Is(run.last, errReplayTimeout):
		return replay.ReasonTimeout
	}
	return replay.ReasonRefused
}

// giveUp is the answer after nobody served the request.
func (run *replayRun) giveUp(ctx context.Context) *message.Response {
	switch {
	case ctx.Err() != nil || run.broken():
		return run.fail(ctx, run.last)
	case !run.repeatable():
		return run.replayError(replay.Errorf(replay.BodyTooLarge, "more than %s of content came before %s failed", run.service.cfg.Replay.Body(), run.asked()))
	case message.SentBy(run.last) == message.NothingSent:
		return run.replayError(replay.Errorf(replay.NoCandidate, "%v", run.last))
	}
	return run.replayError(replay.Errorf(replay.Timeout, "%v", run.last))
}
