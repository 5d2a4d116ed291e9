package h1

import (
	"io"
	"maps"
	"net"
	"slices"

	"anyedge/internal/message"
)

// Receive reads one request as a server does. Its content is read from where it
// comes only when Body is. rest returns what stands behind the request, once the
// content has been read. status is that of the refusal; -1 when the head has no
// end.
func Receive(from net.Conn) (req *message.Request, rest func() ([]byte, error), status int) {
	in := &reader{from: from}
	raw, err := in.head(int(DefaultHeader), maxFields)
	switch {
	case in.ended:
		return nil, nil, -1
	case err != nil:
		return nil, nil, 400
	}
	h, bad := parseRequest(nil, string(raw))
	if bad != nil {
		return nil, nil, bad.status
	}
	req = (&conn{}).request(nil, h, &answer{})
	if h.hasContent() {
		c := newContent(in, h)
		req.Body = message.NewBody(io.NopCloser(c), h.frame.length, keptBody, func() message.Header { return c.trailer })
	}
	return req, func() ([]byte, error) { return behind(in) }, 0
}

// Head reads one head.
func Head(from net.Conn, limit int) ([]byte, error) {
	return (&reader{from: from}).head(limit, maxFields)
}

func newContent(in *reader, h *head) *content {
	return &content{in: in, chunked: h.frame.chunked, left: h.frame.length}
}

func behind(in *reader) ([]byte, error) {
	b := append([]byte{}, in.buf[in.r:in.w]...)
	more, err := io.ReadAll(in.from)
	return append(b, more...), err
}

// Chunks returns a reader of chunks, and what stands behind them.
func Chunks(from net.Conn) (io.Reader, func() ([]byte, error)) {
	in := &reader{from: from}
	return &content{in: in, chunked: true}, func() ([]byte, error) { return behind(in) }
}

// Send writes req as a client does.
func Send(to net.Conn, req *message.Request) error {
	t := &try{client: NewClient(ClientConfig{Addr: "a"}), req: req}
	if req.Body != nil {
		if err := t.openUpload(); err != nil {
			return err
		}
	}
	if _, err := to.Write(t.appendHead(nil)); err != nil {
		return err
	}
	if t.upload == nil {
		return nil
	}
	return t.upload.send(to)
}

// Open returns how many connections s serves.
func Open(s *Server) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Resting returns how many of them wait without a goroutine.
func Resting(s *Server) (n int) {
	s.mu.Lock()
	conns := slices.Collect(maps.Keys(s.conns))
	s.mu.Unlock()
	for _, c := range conns {
		c.mu.Lock()
		if c.resting {
			n++
		}
		c.mu.Unlock()
	}
	return n
}

// IsText is isText, and what it has to be.
func IsText(s string) (got, want bool) { return isText(s), all(s, isValue) }
