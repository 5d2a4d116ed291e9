package h3

import (
	"errors"
	"net/http"
	"strings"

	"anyedge/internal/message"
)

// errEarly means that a request, which is not safe to repeat, came before the end of
// a handshake that did not come.
var errEarly = errors.New("the handshake has not ended")

// earlyField says that somebody else may send the request again (RFC 8470 section
// 5.1).
const earlyField = "Early-Data"

// takeEarly looks at a request that may have come in 0-RTT: it may be another's
// copy. A safe one is marked, another one waits for the end of the handshake, which
// proves that it is none.
func (st *stream) takeEarly() error {
	c := st.conn
	if c.handshaken.Load() {
		return nil
	}
	select {
	case <-c.quic.HandshakeComplete():
		c.handshaken.Store(true)
		return nil
	default:
	}
	switch st.fields.method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		st.req.Header.DelFunc(func(name string) bool { return strings.EqualFold(name, earlyField) })
		st.req.Header = append(st.req.Header, message.Field{Name: earlyField, Value: "1"})
		return nil
	}
	select {
	case <-c.quic.HandshakeComplete():
		c.handshaken.Store(true)
		return nil
	case <-st.quic.Context().Done():
		return errEarly
	}
}
