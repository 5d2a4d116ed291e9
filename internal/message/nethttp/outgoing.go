package nethttp

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"

	"anyedge/internal/message"
)

// outgoing is one request on its way.
type outgoing struct {
	request     *http.Request
	upgrade     bool
	stripAccept bool           // the key of the WebSocket handshake is ours
	up          *io.PipeWriter // the stream's way out in an extended CONNECT
}

// outgoing returns req as the transport takes it.
func (c *Client) outgoing(ctx context.Context, req *message.Request) (*outgoing, error) {
	switch {
	case req.Method == http.MethodConnect:
		return nil, errors.New("CONNECT cannot be forwarded")
	case req.Protocol != "" && c.Extended && req.Method != http.MethodGet:
		return nil, fmt.Errorf("upgrade of a %s is not possible over HTTP/3", req.Method)
	case req.Protocol != "" && req.Body != nil:
		return nil, errors.New("upgrade with content cannot be forwarded")
	}
	out := &outgoing{upgrade: req.Protocol != ""}
	r := &http.Request{
		Method: req.Method,
		Proto:  "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, // else no Expect
		URL:    c.url(req),
		Host:   req.Authority,
		Header: make(http.Header, len(req.Header)+2),
	}
	toHeader(r.Header, req.Header)
	hideKeys(r.Header)
	if _, ok := r.Header["User-Agent"]; !ok {
		r.Header["User-Agent"] = nil // none is added
	}
	if req.Header.Has("TE") {
		r.Header["Te"] = []string{"trailers"}
	}
	out.request = r.WithContext(ctx)
	if out.upgrade {
		c.setUpgrade(out, req.Protocol)
		return out, nil
	}
	if req.Body == nil || req.Body.Length() == 0 {
		return out, nil
	}
	return out, setBodyOf(out.request, req)
}

// hideKeys spells fields in h so that net/http does not know them: of a request
// that has one it would send another copy after the first may have been
// executed.
func hideKeys(h http.Header) {
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		if values, ok := h[name]; ok {
			delete(h, name)
			h[strings.ToLower(name)] = values
		}
	}
}

// url returns the URL whose request target is exactly that of req.
func (c *Client) url(req *message.Request) *url.URL {
	u := &url.URL{Scheme: c.Scheme, Host: c.Host, Opaque: req.Target}
	if !strings.HasPrefix(req.Target, "//") {
		return u
	}
	// net/http takes an Opaque that starts with "//" for an authority.
	path, query, hasQuery := strings.Cut(req.Target, "?")
	if decoded, err := url.PathUnescape(path); err == nil {
		p := &url.URL{Scheme: c.Scheme, Host: c.Host, Path: decoded, RawPath: path, RawQuery: query, ForceQuery: hasQuery}
		if p.RequestURI() == req.Target {
			return p
		}
	}
	// The absolute form carries any bytes.
	host := req.Authority
	if host == "" {
		host = c.Host
	}
	u.Opaque = "//" + host + req.Target
	return u
}

// setBodyOf makes the content of req that of r.
func setBodyOf(r *http.Request, req *message.Request) error {
	r.ContentLength = req.Body.Length()
	// Filled at the end of the content; without names in it nothing is
	// announced, and HTTP/3 sends whatever there is by then.
	r.Trailer = make(http.Header)
	for _, n := range trailerNames(req.Header) {
		r.Trailer[n] = nil
	}
	trailer := r.Trailer
	reader, err := req.Body.Open()
	if err != nil {
		return err
	}
	r.Body = &upload{reader: reader, body: req.Body, trailer: trailer}
	// A transport asks for another reader only when the peer has given its word that
	// it did nothing: then whoever called decides.
	r.GetBody = func() (io.ReadCloser, error) { return nil, errUnprocessed }
	return nil
}

// upload is the content of a request as a transport reads it.
type upload struct {
	reader  io.ReadCloser
	body    *message.Body
	trailer http.Header // of the request that is sent
}

// Read sets the trailer fields before it returns io.EOF.
func (u *upload) Read(p []byte) (int, error) {
	n, err := u.reader.Read(p)
	if err == io.EOF {
		fields := u.body.Trailer()
		for _, f := range fields {
			u.trailer[textproto.CanonicalMIMEHeaderKey(f.Name)] = nil
		}
		for _, f := range fields {
			name := textproto.CanonicalMIMEHeaderKey(f.Name)
			u.trailer[name] = append(u.trailer[name], f.Value)
		}
	}
	return n, err
}

// Close ends this try's reading only.
func (u *upload) Close() error {
	return u.reader.Close()
}

// setUpgrade makes out ask for protocol.
func (c *Client) setUpgrade(out *outgoing, protocol string) {
	r := out.request
	if c.Extended {
		r.Method, r.Proto = http.MethodConnect, protocol
		r.ContentLength = -1
		r.Body, out.up = io.Pipe()
		return
	}
	r.Header["Connection"] = []string{"Upgrade"}
	r.Header["Upgrade"] = []string{protocol}
	if strings.EqualFold(protocol, "websocket") && r.Header.Get("Sec-Websocket-Key") == "" {
		// The client's version has no key (RFC 8441 section 5), HTTP/1 needs one.
		var key [16]byte
		_, _ = rand.Read(key[:])
		r.Header["Sec-Websocket-Key"] = []string{base64.StdEncoding.EncodeToString(key[:])}
		out.stripAccept = true
	}
}

// upgraded reports whether the peer has agreed to the upgrade asked for.
func (o *outgoing) upgraded(res *http.Response) bool {
	switch {
	case !o.upgrade:
		return false
	case o.up != nil:
		return res.StatusCode/100 == 2
	}
	return res.StatusCode == http.StatusSwitchingProtocols
}

// stream returns the byte stream behind an upgrade.
func (o *outgoing) stream(res *http.Response) io.ReadWriteCloser {
	if o.up != nil {
		return &extendedStream{ReadCloser: res.Body, up: o.up}
	}
	return res.Body.(io.ReadWriteCloser)
}

// noStream ends the way out of a stream that was not granted.
func (o *outgoing) noStream() {
	if o.up != nil {
		_ = o.up.Close()
	}
}

// extendedStream is the stream of a granted extended CONNECT.
type extendedStream struct {
	io.ReadCloser
	up *io.PipeWriter
}

// Write sends p.
func (s *extendedStream) Write(p []byte) (int, error) { return s.up.Write(p) }

// CloseWrite ends the writing half.
func (s *extendedStream) CloseWrite() error { return s.up.Close() }

// Close ends both halves.
func (s *extendedStream) Close() error {
	_ = s.up.CloseWithError(io.ErrClosedPipe)
	return s.ReadCloser.Close()
}
