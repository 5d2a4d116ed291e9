package message

import "io"

// Content returns text as the content of an answer.
func Content(text string) io.ReadCloser { return &content{text} }

// content is content that is all there.
type content struct{ left string }

// Read never fails; io.EOF comes with the last bytes.
func (c *content) Read(p []byte) (int, error) {
	n := copy(p, c.left)
	c.left = c.left[n:]
	if c.left == "" {
		return n, io.EOF
	}
	return n, nil
}

// Close does nothing.
func (*content) Close() error { return nil }

// Ready returns how many bytes are left.
func (c *content) Ready() int { return len(c.left) }

// Ready returns how many bytes body gives without waiting, at least, as far as
// it can tell. An engine sends what is ready together with the head.
func Ready(body io.Reader) int {
	if r, ok := body.(interface{ Ready() int }); ok {
		return r.Ready()
	}
	return 0
}
