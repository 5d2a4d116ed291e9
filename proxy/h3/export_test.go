package h3

import (
	"errors"
	"fmt"
	"io"

	"anyedge/internal/message"
	"anyedge/proxy/h3/qpack"
)

// ReadRequest reads the frames of a request stream, and describes what they are.
func ReadRequest(r io.Reader) string {
	in := incoming{reader: reader{src: r}, section: &qpack.Section{}, limit: 4 << 10, most: 20, fromClient: true, declared: -1}
	defer in.drop()
	var f fields
	if err := in.head(&f, nil); err != nil {
		return fmt.Sprint("head: ", err)
	}
	var req message.Request
	h, err := f.request(&req)
	if err != nil {
		return fmt.Sprint("request: ", err)
	}
	in.declared = h.length
	var content []byte
	for b := make([]byte, 100); ; {
		n, err := in.content(b)
		content = append(content, b[:n]...)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Sprint("content: ", err)
		}
	}
	return fmt.Sprintf("%s %s %s %s %q %q %q", req.Method, req.Authority, req.Target, req.Protocol, req.Header, content, in.trailer)
}
