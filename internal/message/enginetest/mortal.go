package enginetest

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"testing"

	"anyedge/internal/message"
)

// mortal is a backend that closes a connection once it has read the word
// "content".
func (c clientTest) mortal(t *testing.T) string {
	t.Helper()
	return Listen(t, func(conn net.Conn) {
		_, _ = io.WriteString(conn, c.greeting)
		var got []byte
		b := make([]byte, 4096)
		for !bytes.Contains(got, []byte("content")) {
			n, err := conn.Read(b)
			if err != nil {
				break
			}
			got = append(got, b[:n]...)
		}
		_ = conn.Close()
	})
}

// closes: a backend that closes a connection after it has read from it may
// have done anything.
func (c clientTest) closes(t *testing.T) {
	addr := c.mortal(t)
	res, err := c.open(t, addr).RoundTrip(t.Context(), request("POST", "/", "content"))
	res.Close()
	wantSent(t, err, message.MaybeExecuted)
}

// diesInUpload: the failure must show although the client sends nothing.
func (c clientTest) diesInUpload(t *testing.T) {
	addr := c.mortal(t)
	r := request("POST", "/", "")
	pr, pw := io.Pipe()
	t.Cleanup(func() { _ = pw.Close() })
	go func() { _, _ = io.WriteString(pw, "content, then silence") }()
	r.Body = message.NewBody(pr, 100, message.KiB, nil)
	failed := make(chan error, 1)
	go func() {
		res, err := c.open(t, addr).RoundTrip(t.Context(), r)
		res.Close()
		failed <- err
	}()
	wantSent(t, Within(t, "failure", failed), message.MaybeExecuted)
	if !r.Body.Replayable() {
		t.Error("the content cannot be sent elsewhere")
	}
}

// replays: content that one try has read is all there for the next.
func (c clientTest) replays(t *testing.T) {
	dead := c.mortal(t)
	rt := c.backend(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	r := request("PUT", "/", "content")
	res, err := c.open(t, dead).RoundTrip(t.Context(), r)
	res.Close()
	wantSent(t, err, message.MaybeExecuted)
	if got := read(t, ask(t, rt, r)); got != "content" {
		t.Fatal(got)
	}
}
