package h1

import (
	"errors"
	"fmt"
	"strings"

	"anyedge/internal/message"
)

// maxFields is how many lines a header section may have.
const maxFields = 100

// room is how many fields a header has place for beside its own: what a proxy
// adds.
const room = 8

var errNoStartLine = errors.New("there is no start line")

// Classes of bytes (RFC 9110 sections 5.5 and 5.6.2).
const (
	isToken = 1 << iota // in a token
	isValue             // in a field's value
	isHost              // in a registered name (RFC 3986 section 3.2.2)
)

var classes = func() (t [256]uint8) {
	for c := range 256 {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("!#$%&'*+-.^_`|~", byte(c)) >= 0 && c != 0:
			t[c] = isToken | isValue
		case c == '\t', c >= ' ' && c != 0x7f:
			t[c] = isValue
		}
		if c > ' ' && c < 0x7f && strings.IndexByte("\"#/:<>?@[\\]^`{|}", byte(c)) < 0 {
			t[c] |= isHost
		}
	}
	return t
}()

// all reports whether every byte of s is of the class.
func all(s string, class uint8) bool {
	for i := range len(s) {
		if classes[s[i]]&class == 0 {
			return false
		}
	}
	return true
}

// isText reports whether every byte of s is isValue. Values are most of what is
// read and written: eight bytes at a time.
func isText(s string) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for len(s) >= 8 {
		x := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
			uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
		del := x ^ 0x7f*ones
		// A byte below ' ', or DEL: the highest bit of some byte is set.
		if ((x-' '*ones)&^x|(del-ones)&^del)&highs != 0 && !all(s[:8], isValue) {
			return false
		}
		s = s[8:]
	}
	return all(s, isValue)
}

// trim returns s without the white space around it.
func trim(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

// same compares without regard to the case of ASCII letters. strings.EqualFold
// alone knows other letters that fold to k and s.
func same(s, ascii string) bool { return len(s) == len(ascii) && strings.EqualFold(s, ascii) }

// parseFields reads field lines that each end with CRLF (RFC 9112 section 5).
// The fields are a's, their strings share memory with s.
func parseFields(a *message.Arena, s string) (message.Header, error) {
	if s == "" {
		return nil, nil
	}
	h := a.Fields(strings.Count(s, "\n") + room)
	for s != "" {
		line, rest, ok := strings.Cut(s, "\r\n")
		if !ok {
			return nil, errBareLF
		}
		s = rest
		f, err := parseField(line)
		if err != nil {
			return nil, err
		}
		h = append(h, f)
	}
	return h, nil
}

func parseField(line string) (message.Field, error) {
	i := strings.IndexByte(line, ':')
	switch {
	case line != "" && (line[0] == ' ' || line[0] == '\t'):
		return message.Field{}, errors.New("a field line begins with white space")
	case i < 0:
		return message.Field{}, errors.New("a field line has no colon")
	case i == 0 || !all(line[:i], isToken):
		return message.Field{}, fmt.Errorf("%.40q is no field name", line[:i])
	}
	value := trim(line[i+1:])
	if !isText(value) {
		return message.Field{}, fmt.Errorf("the value of %s has a control character", line[:i])
	}
	return message.Field{Name: line[:i], Value: value}, nil
}

// A frame is what the fields of one connection said (RFC 9112 sections 6 and 9).
type frame struct {
	length     int64 // Content-Length; -1: none
	lengthText string
	chunked    bool
	close      bool // Connection: close
	keep       bool // Connection: keep-alive
	upgrade    bool // Connection: upgrade
	protocol   string
	host       string
	hosts      int
	expect     string
}

// errUnknownCoding is for a Transfer-Encoding that ends with chunked, but has
// another coding before it.
var errUnknownCoding = errors.New("a transfer coding other than chunked is not known here")

// cutFrame takes the fields out of h that say something about the connection or
// the framing, and those that Connection names. Host is taken out of requests
// only.
func cutFrame(h *message.Header, request bool) (frame, error) {
	f := frame{length: -1}
	var named, codings []string
	kept := (*h)[:0]
	for _, x := range *h {
		keep := false
		var err error
		switch kind(x.Name) {
		case kindConnection:
			named = f.connection(named, x.Value)
		case kindLength:
			err = f.setLength(x.Value)
		case kindCoding:
			codings = append(codings, x.Value)
		case kindUpgrade:
			if f.protocol == "" {
				f.protocol, _, _ = strings.Cut(x.Value, ",")
				f.protocol = trim(f.protocol)
			}
		case kindDropped:
		case kindHost:
			f.hosts++
			f.host, keep = x.Value, !request
		case kindTE:
			x, keep = message.Field{Name: "TE", Value: "trailers"}, wantsTrailers(x.Value)
		case kindExpect:
			f.expectation(x.Value)
			keep = x.Value != ""
		case kindOther:
			keep = true
		}
		switch {
		case err != nil:
			return f, err
		case keep:
			kept = append(kept, x)
		}
	}
	*h = kept
	switch {
	case len(named) > maxFields: // each is looked for in every field
		return f, errors.New("too many fields are named by Connection")
	case len(codings) > 0 && f.length >= 0:
		return f, errors.New("both Transfer-Encoding and Content-Length are given")
	}
	for _, name := range named {
		h.Del(name)
	}
	return f, f.setCoding(codings)
}

// setCoding reads the values of Transfer-Encoding (RFC 9112 section 6.1).
func (f *frame) setCoding(values []string) error {
	if len(values) == 0 {
		return nil
	}
	list := strings.Join(values, ",")
	if f.chunked = same(list, "chunked"); f.chunked {
		return nil
	}
	chunked, last := 0, false
	for t := range strings.SplitSeq(list, ",") {
		if last = same(trim(t), "chunked"); last {
			chunked++
		}
	}
	if chunked == 1 && last {
		return errUnknownCoding
	}
	return errors.New("Transfer-Encoding does not end with one chunked") // section 6.3
}

// expectation reads a value of Expect.
func (f *frame) expectation(value string) {
	if f.expect != "" {
		value = f.expect + ", " + value
	}
	f.expect = value
}

// connection reads a value of Connection and adds what it names to named.
func (f *frame) connection(named []string, value string) []string {
	for t := range strings.SplitSeq(value, ",") {
		switch t = trim(t); {
		case t == "":
		case same(t, "close"):
			f.close = true
		case same(t, "keep-alive"):
			f.keep = true
		case same(t, "upgrade"):
			f.upgrade = true
		case same(t, "TE"): // handled by its value
		default:
			named = append(named, t)
		}
	}
	return named
}

func (f *frame) setLength(s string) error {
	if f.length >= 0 {
		return errors.New("Content-Length is given twice")
	}
	n, ok := message.ParseLength(s)
	if !ok {
		return fmt.Errorf("Content-Length %.40q is no number", s)
	}
	f.length, f.lengthText = n, s
	return nil
}

func wantsTrailers(te string) bool {
	for t := range strings.SplitSeq(te, ",") {
		if same(trim(t), "trailers") {
			return true
		}
	}
	return false
}

// What a field is to the connection.
const (
	kindOther = iota
	kindConnection
	kindLength
	kindCoding
	kindUpgrade
	kindHost
	kindTE
	kindExpect
	kindDropped // says nothing that is needed here
)

// kind tells the fields that mean something to a connection.
func kind(name string) int {
	is := func(s string, k int) int {
		if name[0]|0x20 == s[0] && strings.EqualFold(name, s) {
			return k
		}
		return kindOther
	}
	switch len(name) {
	case 2:
		return is("te", kindTE)
	case 4:
		return is("host", kindHost)
	case 6:
		return is("expect", kindExpect)
	case 7:
		return is("upgrade", kindUpgrade)
	case 10:
		return max(is("connection", kindConnection), is("keep-alive", kindDropped))
	case 14:
		return max(is("content-length", kindLength), is("http2-settings", kindDropped))
	case 16:
		return is("proxy-connection", kindDropped)
	case 17:
		return is("transfer-encoding", kindCoding)
	}
	return kindOther
}

// cutTrailer takes what frames or routes a message out of a trailer section (RFC
// 9110 section 6.5.1).
func cutTrailer(h message.Header) message.Header {
	kept := h[:0]
	for _, f := range h {
		if k := kind(f.Name); (k == kindOther || k == kindExpect) && !strings.EqualFold(f.Name, "Trailer") {
			kept = append(kept, f)
		}
	}
	return kept
}
