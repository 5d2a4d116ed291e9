package h2

import (
	"context"
	"crypto/sha1" //nolint:gosec // what the WebSocket handshake asks for (RFC 6455 section 4.2.2)
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"anyedge/internal/message"
)

// A call is a request to a backend. The connection's mutex guards what is not said
// to be otherwise.
type call struct {
	stream
	backend *backend
	req     *message.Request
	upload  *upload         // nil: the request has no content
	ctx     context.Context //nolint:containedctx // of the exchange that it is; of whoever called
	hook    *message.Hook   // on ctx
	ended   sync.Once

	opened   bool // a byte of it may have been written
	unseen   bool // GOAWAY said so, or the connection ended before
	refused  bool
	answered bool // a header section has come
	interim  []message.Response
	interims int
	final    bool
	res      message.Response
	timer    *time.Timer // for the header section; nil: not yet
	content  answerContent
}

func newCall(b *backend, req *message.Request) *call {
	x := &call{backend: b, req: req}
	x.conn, x.method = &b.conn, req.Method
	x.recvWindow, x.width, x.declared = firstWindow, firstWindow, -1
	x.readable.L = &b.mu
	x.call = x
	return x
}

// run sends the request and waits for the answer's header section.
func (x *call) run(ctx context.Context) (*message.Response, error) {
	if x.req.Protocol != "" && !x.backend.connects() {
		x.backend.release()
		return nil, fmt.Errorf("upgrade to %q: the backend takes none over HTTP/2 (RFC 8441)", x.req.Protocol)
	}
	if x.req.Body != nil && x.req.Body.Length() != 0 {
		u, err := newUpload(x)
		if err != nil {
			x.backend.release()
			return nil, err
		}
		x.upload = u
	}
	x.ctx, x.hook = ctx, message.NewHook(x.cancel)
	x.hook.Attach(ctx)
	if err := x.open(ctx); err != nil {
		x.hook.Stop()
		x.backend.release()
		if x.upload != nil {
			_ = x.upload.reader.Close()
		}
		return nil, err
	}
	if x.upload != nil {
		x.req.Arena.Hold()
		go x.upload.run(x.req.Arena)
	} else {
		x.sentAll()
	}
	res, err := x.wait()
	if err != nil {
		x.over()
	}
	return res, err
}

// cancel ends the call because its context has ended, which it does not look at:
// the exchange may be over.
func (x *call) cancel() {
	b := x.backend
	b.mu.Lock()
	id := x.id // 0: enter finds the context's end
	b.mu.Unlock()
	b.resetOpen(id, cancelled, context.Canceled)
}

// open sends the request's header section. Without an error the stream is known.
func (x *call) open(ctx context.Context) error {
	b := x.backend
	s := section{req: x.req, header: outgoing(x.req)}
	switch m := x.req.Method; {
	case x.req.Protocol != "":
	case x.upload != nil && x.req.Body.Length() >= 0:
		s.length = strconv.FormatInt(x.req.Body.Length(), 10)
	case x.upload == nil && (x.req.Body != nil || m == "POST" || m == "PUT" || m == "PATCH"):
		s.length = "0"
	}
	end := x.upload == nil && x.req.Protocol == ""
	flush := x.upload == nil || x.upload.expects || message.Ready(x.upload.reader) == 0
	failed := errLeft
	_ = b.write(flush, func(out []byte) []byte { // its error ends the stream
		if failed = x.enter(ctx, end); failed != nil {
			return out
		}
		return b.appendSection(out, x.id, &s, end)
	})
	return failed
}

// enter gives the stream its number; wmu is held, so that numbers rise on the
// wire.
func (x *call) enter(ctx context.Context, end bool) error {
	b := x.backend
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case b.dead != nil || b.leaving || b.nextID > maxStreamID:
		x.unseen = true
		return errLeft
	}
	x.id, x.opened, x.localEnded = b.nextID, true, end
	b.maxID = b.nextID
	b.nextID += 2
	x.sendWindow = b.peerWindow
	b.streams[x.id] = &x.stream
	return nil
}

// sentAll begins the time that the backend has for its answer.
func (x *call) sentAll() {
	b := x.backend
	b.mu.Lock()
	defer b.mu.Unlock()
	if x.final || x.gone {
		return
	}
	most := b.client.head
	x.timer = time.AfterFunc(most, func() {
		x.fail(cancelled, fmt.Errorf("no answer within %v: %w", most, os.ErrDeadlineExceeded))
	})
}

// wait hands interim answers on and returns the final one.
func (x *call) wait() (*message.Response, error) {
	b := x.backend
	b.mu.Lock()
	for {
		switch {
		case len(x.interim) > 0:
			all := x.interim
			x.interim = nil
			b.mu.Unlock()
			for i := range all {
				if x.req.Inform != nil {
					x.req.Inform(all[i].Status, all[i].Header)
				}
			}
			b.mu.Lock()
		case x.final:
			b.mu.Unlock()
			return x.deliver(), nil
		case x.end != nil:
			err := x.end
			b.mu.Unlock()
			return nil, err
		default:
			x.readable.Wait()
		}
	}
}

// head takes the header section of an answer; mu is held.
func (x *call) head(end bool, got *fields) error {
	x.answered = true
	bad := func(why string) error { return streamError{x.id, protocolError, why} }
	res, length, err := got.answer()
	if err != nil {
		return bad(err.Error())
	}
	if res.Status < 200 {
		switch {
		case end || res.Status == http.StatusSwitchingProtocols:
			return bad("an interim answer ends the stream, or changes the protocol")
		case x.interims == maxInterim:
			return streamError{x.id, enhanceYourCalm, "too many interim answers"}
		}
		x.interims++
		x.interim = append(x.interim, res)
		if res.Status == http.StatusContinue && x.upload != nil {
			x.upload.proceed(true)
		}
		return nil
	}
	x.conn.control.count = 0
	upgrade := x.req.Protocol != "" && res.Status/100 == 2
	x.declared = length
	switch {
	case upgrade:
		x.declared = -1
		if end {
			return bad("an accepted upgrade ends the stream")
		}
	case x.method == http.MethodHead || res.Status == http.StatusNoContent || res.Status == http.StatusNotModified:
		if length >= 0 && res.Status != http.StatusNoContent {
			res.Header.Add("Content-Length", strconv.FormatInt(length, 10))
		}
		x.declared, res.Length, x.closed = 0, 0, true
	case end && length > 0:
		return bad("content-length says more than nothing")
	case end:
		res.Length = 0
	default:
		res.Length = length
	}
	x.res, x.final = res, true
	if x.upload != nil {
		x.upload.proceed(res.Status < http.StatusBadRequest && !end)
	}
	if end {
		x.endRemote(errNoContent)
		x.settle()
	}
	return nil
}

// errNoContent ends the stream of an answer that has none.
var errNoContent = errors.New("the answer has no content")

// deliver makes the answer ready for its reader.
func (x *call) deliver() *message.Response {
	res := &x.res
	x.backend.mu.Lock()
	ended := x.remoteEnded && len(x.buf) == 0
	none := x.closed
	if x.timer != nil && (!none || ended) {
		x.timer.Stop()
	}
	x.backend.mu.Unlock()
	switch {
	case x.req.Protocol != "" && res.Status/100 == 2:
		x.accept()
	case none && !ended:
		// Its end comes by itself; the timer is for a backend that forgets it.
		x.release()
	case ended && errors.Is(x.end, errNoContent):
		x.over()
	default:
		x.content = answerContent{call: x}
		res.Body = &x.content
		res.Trailer = x.trailers
	}
	return res
}

// trailers is the answer's Trailer.
func (x *call) trailers() message.Header { return x.trailer }

// accept makes the answer what an upgrade looks like inside.
func (x *call) accept() {
	res := &x.res
	res.Status, res.Length = http.StatusSwitchingProtocols, 0
	if key := x.req.Header.Get("Sec-Websocket-Key"); key != "" && strings.EqualFold(x.req.Protocol, "websocket") {
		sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // as above
		res.Header.Set("Sec-Websocket-Accept", base64.StdEncoding.EncodeToString(sum[:]))
	}
	res.Stream = &granted{tunnel{&x.stream}, x}
}

// settle forgets the stream when both sides have ended it; mu is held.
func (x *call) settle() {
	if !x.localEnded || !x.remoteEnded || x.conn.streams[x.id] != &x.stream {
		return
	}
	x.conn.forget(&x.stream)
	if x.timer != nil {
		x.timer.Stop()
	}
}

// sent says how far the call got.
func (x *call) sent() message.Sent {
	x.backend.mu.Lock()
	defer x.backend.mu.Unlock()
	switch {
	case x.answered:
		return message.Answered
	case x.opened && !x.unseen && !x.refused:
		return message.MaybeExecuted
	}
	return message.NothingSent
}

// moved reports whether another connection may take the call, which this one has
// not: it ended, or has more streams than the backend likes.
func (x *call) moved() bool {
	x.backend.mu.Lock()
	defer x.backend.mu.Unlock()
	return x.unseen || x.refused
}

// over ends the call; what is left of the stream is reset.
func (x *call) over() {
	x.ended.Do(func() {
		x.release()
		x.fail(cancelled, errExchangeOver)
	})
}

// release frees what the call holds, but the stream.
func (x *call) release() {
	x.hook.Stop()
	if x.upload != nil {
		x.upload.stop()
	}
	b := x.backend
	b.mu.Lock()
	if x.timer != nil && !x.closed {
		x.timer.Stop()
	}
	b.wide -= x.width - firstWindow
	x.width, x.closed = firstWindow, true
	freed := b.giveBack(int64(len(x.buf)))
	x.buf = nil
	if x.remoteEnded && x.localEnded {
		b.resets.count = max(b.resets.count-1, 0)
	}
	b.mu.Unlock()
	_ = b.updateWindows(b.send, 0, freed, 0)
}
