package h2

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"anyedge/internal/message"
)

const (
	maxFields    = 100
	maxFragments = 32 // frames of one header section
	usualFields  = 24 // that a header section has place for
)

// A headerBlock is a header section on its way in.
type headerBlock struct {
	open   bool // CONTINUATION comes
	stream uint32
	end    bool // END_STREAM was set
	bytes  []byte
	frames int
}

// fields are a decoded header section.
type fields struct {
	method, scheme, authority, path, protocol string
	status                                    string
	pseudo                                    int
	most                                      int // field lines
	header                                    message.Header
	cookies                                   []string // if there are several (section 8.2.3)
	limit, size                               int      // bytes
	tooLarge                                  bool
	bad                                       error
}

// decode reads a header section into f, whose strings are arena's; all of it,
// whatever is wrong with it, because the next ones build on it (RFC 7541 section
// 2.2).
func (c *conn) decode(b []byte, arena *message.Arena, f *fields) error {
	f.limit, f.most = c.header, maxFields
	if c.backend != nil {
		f.most = math.MaxInt // their size is bounded
	}
	f.header = arena.Fields(usualFields)
	if c.dec.Decode(b, arena, f) != nil {
		return connError{compressionError, "a header section cannot be decoded"}
	}
	return nil
}

// Field takes a field line in.
func (f *fields) Field(name, value string) {
	if f.size += len(name) + len(value) + 32; f.size > f.limit {
		f.tooLarge = true
	}
	if !f.tooLarge && f.bad == nil {
		f.bad = f.add(message.Field{Name: name, Value: value})
	}
}

// add takes a field line in (RFC 9113 sections 8.2 and 8.3).
func (f *fields) add(x message.Field) error {
	if !message.IsValue(x.Value) {
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
		if f.cookies = append(f.cookies, x.Value); len(f.cookies) > 1 {
			return nil
		}
	}
	if len(f.header) == f.most {
		f.tooLarge = true
		return nil
	}
	f.header.Add(x.Name, x.Value)
	return nil
}

func (f *fields) addPseudo(x message.Field) error {
	if len(f.header) > 0 {
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

// request checks that f is a request's (section 8.3.1), and makes h of it. end:
// no content follows.
func (f *fields) request(h *head, end bool) error {
	if f.bad != nil {
		return f.bad
	}
	*h = head{length: -1}
	h.req = message.Request{Version: message.HTTP2, Method: f.method, Authority: f.authority, Target: f.path, Protocol: f.protocol}
	switch {
	case f.status != "":
		return errors.New("a request has no :status")
	case f.method == "" || !message.IsToken(f.method):
		return errors.New("there is no method")
	case f.method == "CONNECT" && f.protocol == "":
		if f.scheme != "" || f.path != "" || f.authority == "" {
			return errors.New("CONNECT has an authority alone")
		}
		h.req.Target = f.authority
	case f.scheme == "" || f.path == "":
		return errors.New(":scheme or :path is missing")
	case f.protocol != "" && f.method != "CONNECT":
		return errors.New(":protocol is for CONNECT")
	case f.path[0] != '/' && (f.path != "*" || f.method != "OPTIONS"), !message.IsVisible(f.path):
		return errors.New("the path is none")
	case f.protocol != "":
		// Inside, an upgrade looks the same from every version.
		h.extended, h.req.Method = true, "GET"
		if !message.IsSwitchable(f.protocol) {
			h.req.Protocol = ""
		}
	}
	if err := h.take(f.header, f.cookies); err != nil {
		return err
	}
	switch {
	case !message.IsVisible(h.req.Authority):
		return errors.New("the authority is none")
	case end && h.length > 0 && !h.extended:
		return errors.New("content-length says more than nothing")
	}
	return nil
}

// take looks at the fields that frame or route.
func (h *head) take(all message.Header, cookies []string) error {
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
		case "cookie":
			if len(cookies) > 1 {
				x.Value = strings.Join(cookies, "; ")
			}
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
