package h2

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"golang.org/x/net/http2/hpack"

	"anyedge/internal/message"
)

const (
	maxFields    = 100
	maxFragments = 32 // frames of one header section
)

// A headerBlock is a header section on its way in.
type headerBlock struct {
	open   bool // CONTINUATION comes
	stream uint32
	end    bool // END_STREAM was set
	bytes  []byte
	frames int
}

// An hpackBuffer takes what an encoder writes.
type hpackBuffer struct{ b []byte }

// Write never fails.
func (w *hpackBuffer) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	return len(p), nil
}

// fields are a decoded header section.
type fields struct {
	method, scheme, authority, path, protocol string
	status                                    string
	pseudo                                    int
	most                                      int // field lines
	header                                    message.Header
	size                                      int
	tooLarge                                  bool
	bad                                       error
}

// decode reads a header section; all of it, whatever is wrong with it, because the
// next ones build on it (RFC 7541 section 2.2).
func (c *conn) decode(b []byte) (*fields, error) {
	f := &fields{most: maxFields}
	if c.backend != nil {
		f.most = math.MaxInt // their size is bounded
	}
	limit := c.header
	c.dec.SetEmitFunc(func(x hpack.HeaderField) {
		f.size += len(x.Name) + len(x.Value) + 32
		if f.size > limit {
			f.tooLarge = true
		}
		if f.tooLarge {
			return
		}
		if f.bad == nil {
			f.bad = f.add(x)
		}
	})
	_, err := c.dec.Write(b)
	if err == nil {
		err = c.dec.Close()
	}
	if err != nil {
		return nil, connError{compressionError, "a header section cannot be decoded"}
	}
	return f, nil
}

// add takes a field line in (RFC 9113 sections 8.2 and 8.3).
func (f *fields) add(x hpack.HeaderField) error {
	if !isValue(x.Value) {
		return fmt.Errorf("the value of %.40q has bytes that no value has", x.Name)
	}
	if strings.HasPrefix(x.Name, ":") {
		return f.addPseudo(x)
	}
	if !isName(x.Name) {
		return fmt.Errorf("%.40q is no field name", x.Name)
	}
	switch x.Name {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		return fmt.Errorf("%s has no place in HTTP/2", x.Name)
	case "te":
		if x.Value != "trailers" {
			return errors.New("te says something else than trailers")
		}
	case "cookie":
		for i := range f.header {
			if f.header[i].Name == "cookie" { // section 8.2.3
				f.header[i].Value += "; " + x.Value
				return nil
			}
		}
	}
	if len(f.header) == f.most {
		f.tooLarge = true
		return nil
	}
	if f.header == nil {
		f.header = make(message.Header, 0, 16)
	}
	f.header.Add(x.Name, x.Value)
	return nil
}

func (f *fields) addPseudo(x hpack.HeaderField) error {
	if f.header != nil {
		return fmt.Errorf("%s behind other fields", x.Name)
	}
	f.pseudo++
	var at *string
	switch x.Name {
	case ":method":
		at = &f.method
	case ":scheme":
		at = &f.scheme
	case ":authority":
		at = &f.authority
	case ":path":
		at = &f.path
	case ":protocol":
		at = &f.protocol
	case ":status":
		at = &f.status
	default:
		return fmt.Errorf("%.40q is no pseudo-header field", x.Name)
	}
	if *at != "" || x.Value == "" {
		return fmt.Errorf("%s is given twice, or empty", x.Name)
	}
	*at = x.Value
	return nil
}

// A head is a request's header section, checked.
type head struct {
	req      message.Request
	length   int64 // content-length; -1: none
	expects  bool  // 100-continue
	extended bool  // CONNECT with a protocol (RFC 8441)
}

// request checks that f is a request's (section 8.3.1).
func (f *fields) request() (*head, error) {
	if f.bad != nil {
		return nil, f.bad
	}
	h := &head{length: -1}
	h.req = message.Request{Version: message.HTTP2, Method: f.method, Authority: f.authority, Target: f.path, Protocol: f.protocol}
	switch {
	case f.status != "":
		return nil, errors.New("a request has no :status")
	case f.method == "" || !message.IsToken(f.method):
		return nil, errors.New("there is no method")
	case f.method == "CONNECT" && f.protocol == "":
		if f.scheme != "" || f.path != "" || f.authority == "" {
			return nil, errors.New("CONNECT has an authority alone")
		}
		h.req.Target = f.authority
	case f.scheme == "" || f.path == "":
		return nil, errors.New(":scheme or :path is missing")
	case f.protocol != "" && f.method != "CONNECT":
		return nil, errors.New(":protocol is for CONNECT")
	case f.path[0] != '/' && (f.path != "*" || f.method != "OPTIONS"), !message.IsVisible(f.path):
		return nil, errors.New("the path is none")
	case f.protocol != "":
		// Inside, an upgrade looks the same from every version.
		h.extended, h.req.Method = true, "GET"
	}
	if err := h.take(f.header); err != nil {
		return nil, err
	}
	if !message.IsVisible(h.req.Authority) {
		return nil, errors.New("the authority is none")
	}
	return h, nil
}

// take looks at the fields that frame or route.
func (h *head) take(all message.Header) error {
	hosts := 0
	kept := all[:0]
	for _, x := range all {
		switch x.Name {
		case "host":
			if hosts++; h.req.Authority == "" {
				h.req.Authority = x.Value
			}
			if hosts > 1 || x.Value != h.req.Authority {
				return errors.New("host and :authority differ")
			}
			continue
		case "content-length":
			n, ok := message.ParseLength(x.Value)
			if !ok || h.length >= 0 {
				return errors.New("content-length is no number, or given twice")
			}
			h.length = n
			continue
		case "http2-settings":
			continue
		case "te":
			x.Name = "TE"
		case "expect":
			h.expects = strings.EqualFold(x.Value, "100-continue")
		}
		kept = append(kept, x)
	}
	h.req.Header = kept
	return nil
}

// trailers checks that f is a trailer section (section 8.1), and returns what one
// may have (RFC 9110 section 6.5.1).
func (f *fields) trailers() (message.Header, error) {
	if f.bad != nil {
		return nil, f.bad
	}
	if f.pseudo > 0 || f.tooLarge {
		return nil, errors.New("the trailer section is too large, or has pseudo-header fields")
	}
	kept := f.header[:0]
	for _, x := range f.header {
		switch x.Name {
		case "content-length", "host", "te", "trailer", "http2-settings":
		default:
			kept = append(kept, x)
		}
	}
	return kept, nil
}

// isName reports whether s is a field name: a token in lower case.
func isName(s string) bool {
	for i := range len(s) {
		if s[i] >= 'A' && s[i] <= 'Z' {
			return false
		}
	}
	return message.IsToken(s)
}

// isValue reports whether s is a field value (section 8.2.1).
func isValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return s == "" || s[0] != ' ' && s[0] != '\t' && s[len(s)-1] != ' ' && s[len(s)-1] != '\t'
}
