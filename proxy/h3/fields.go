package h3

import (
	"errors"
	"fmt"

	"anyedge/internal/message"
	"anyedge/proxy/h3/qpack"
)

// errTooMany means that a section has more fields than its reader takes.
var errTooMany = errors.New("there are too many fields")

// fields are a field section: the pseudo-header fields apart from the others.
type fields struct {
	method, scheme, authority, path, protocol, status string
	pseudo                                            int // how many there are
	header                                            message.Header
}

// read takes a decoded section in (RFC 9114 sections 4.2 and 4.3), whose strings
// are the arena's from then on. It keeps at most that many fields, cookie's lines
// counted as one.
func (f *fields) read(s *qpack.Section, a *message.Arena, most int) error {
	text := a.Copy(s.Text())
	*f = fields{}
	crumbs, jar := 0, 0 // lines of cookie, and where they go
	for i := range s.Len() {
		name, value := s.Line(i, text)
		pseudo, err := f.judge(name, value)
		switch {
		case err != nil:
			return err
		case pseudo:
			continue
		case name == "cookie":
			if crumbs++; crumbs > 1 {
				continue
			}
			jar = len(f.header)
		}
		if len(f.header) == most {
			return errTooMany
		}
		if f.header == nil {
			f.header = a.Fields(min(s.Len()-i, most) + added)
		}
		f.header = append(f.header, message.Field{Name: name, Value: value})
	}
	if crumbs > 1 {
		f.header[jar].Value = cookies(s, text, a)
	}
	return nil
}

// judge checks a line, and takes it if it is a pseudo-header field.
func (f *fields) judge(name, value string) (pseudo bool, err error) {
	if !message.IsValue(value) {
		return false, fmt.Errorf("the value of %.40q has bytes that no value has", name)
	}
	if name != "" && name[0] == ':' {
		return true, f.addPseudo(name, value)
	}
	return false, check(name, value)
}

// added is how many fields an engine may add to those that it received.
const added = 2

// cookies joins the lines of cookie, as other versions have them (section 4.2.1).
func cookies(s *qpack.Section, text string, a *message.Arena) string {
	b := a.Room(len(text) + 2*s.Len())
	for i := range s.Len() {
		if name, value := s.Line(i, text); name == "cookie" {
			if len(b) > 0 {
				b = append(b, "; "...)
			}
			b = append(b, value...)
		}
	}
	return a.Text(b)
}

// check says what is wrong with a field line (section 4.2).
func check(name, value string) error {
	if !isName(name) {
		return fmt.Errorf("%.40q is no field name", name)
	}
	switch name {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		return fmt.Errorf("%s has no place in HTTP/3", name)
	case "te":
		if value != "trailers" {
			return errors.New("te says something else than trailers")
		}
	}
	return nil
}

func (f *fields) addPseudo(name, value string) error {
	if f.header != nil {
		return fmt.Errorf("%s behind other fields", name)
	}
	f.pseudo++
	var at *string
	switch name {
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
		return fmt.Errorf("%.40q is no pseudo-header field", name)
	}
	if *at != "" || value == "" {
		return fmt.Errorf("%s is given twice, or empty", name)
	}
	*at = value
	return nil
}

// A head is what a message's field section says of the rest.
type head struct {
	length   int64 // content-length; -1: none
	expects  bool  // 100-continue
	extended bool  // CONNECT with a protocol (RFC 9220)
}

// request makes req of the fields of one (section 4.3.1).
func (f *fields) request(req *message.Request) (h head, err error) {
	h.length = -1
	req.Version, req.Scheme = message.HTTP3, "https"
	req.Method, req.Authority, req.Target, req.Protocol = f.method, f.authority, f.path, f.protocol
	switch {
	case f.status != "":
		return h, errors.New(":status in a request")
	case !message.IsToken(f.method):
		return h, errors.New("there is no method")
	case f.method == "CONNECT" && f.protocol == "":
		if f.scheme != "" || f.path != "" || f.authority == "" {
			return h, errors.New("CONNECT has an authority alone")
		}
		req.Target = f.authority
	case f.scheme == "" || f.path == "":
		return h, errors.New(":scheme or :path is missing")
	case f.protocol != "" && f.method != "CONNECT":
		return h, errors.New(":protocol is for CONNECT")
	case f.path[0] != '/' && (f.path != "*" || f.method != "OPTIONS"), !message.IsVisible(f.path):
		return h, errors.New("the path is none")
	case f.protocol != "":
		// Inside, an upgrade looks the same from every version.
		h.extended, req.Method = true, "GET"
		if !message.IsSwitchable(f.protocol) {
			req.Protocol = ""
		}
	}
	if err := f.takeRequest(req, &h); err != nil {
		return h, err
	}
	if req.Authority == "" || !message.IsVisible(req.Authority) {
		return h, errors.New("there is no authority")
	}
	return h, nil
}

// takeRequest looks at the fields that frame or route.
func (f *fields) takeRequest(req *message.Request, h *head) error {
	hosts := 0
	kept := f.header[:0]
	for _, x := range f.header {
		switch x.Name {
		case "host":
			if hosts++; req.Authority == "" {
				req.Authority = x.Value
			}
			if hosts > 1 || x.Value != req.Authority {
				return errors.New("host and :authority differ")
			}
			continue
		case "content-length":
			if err := h.setLength(x.Value); err != nil {
				return err
			}
			continue
		case "te":
			x.Name = "TE"
		case "expect":
			h.expects = fold(x.Value, "100-continue")
		}
		kept = append(kept, x)
	}
	req.Header = kept
	return nil
}

func (h *head) setLength(value string) error {
	n, ok := message.ParseLength(value)
	if !ok || h.length >= 0 {
		return errors.New("content-length is no number, or given twice")
	}
	h.length = n
	return nil
}

// response makes res of the fields of an answer (section 4.3.2).
func (f *fields) response(res *message.Response) (h head, err error) {
	h.length = -1
	if f.pseudo != 1 || len(f.status) != 3 {
		return h, errors.New("an answer has :status of three digits alone")
	}
	status, ok := message.ParseLength(f.status)
	if !ok || status < 100 {
		return h, errors.New("the status is none")
	}
	res.Status = int(status)
	kept := f.header[:0]
	for _, x := range f.header {
		switch x.Name {
		case "content-length":
			if err := h.setLength(x.Value); err != nil {
				return h, err
			}
		default:
			kept = append(kept, x)
		}
	}
	res.Header = kept
	return h, nil
}

// trailers returns the fields of a trailer section (section 4.1) that one may have
// (RFC 9110 section 6.5.1).
func (f *fields) trailers() (message.Header, error) {
	if f.pseudo > 0 {
		return nil, errors.New("a trailer section has pseudo-header fields")
	}
	kept := f.header[:0]
	for _, x := range f.header {
		switch x.Name {
		case "content-length", "host", "te", "trailer":
		default:
			kept = append(kept, x)
		}
	}
	return kept, nil
}
