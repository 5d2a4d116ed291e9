package h3_test

import (
	"bytes"
	"testing"
	"testing/iotest"

	"anyedge/proxy/h3"
)

// FuzzRequest reads frames whole and byte by byte: both say the same.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		"", frame(1, bare), request("POST", "content-length: 6") + frame(0, "one") + frame(0x21, "x") + frame(0, "two") + headers("x-sum: 1"),
		frame(0, "x"), "\x01\x20" + bare, request("GET", "cookie: a", "cookie: b", "host: a"), "\x40\x01\x40\x0a" + bare,
		headers(":method: CONNECT", ":protocol: websocket", ":scheme: https", ":authority: a", ":path: /"),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		whole := h3.ReadRequest(bytes.NewReader(b))
		if pieces := h3.ReadRequest(iotest.OneByteReader(bytes.NewReader(b))); pieces != whole {
			t.Errorf("whole: %s\nin pieces: %s", whole, pieces)
		}
		if late := h3.ReadRequest(iotest.DataErrReader(bytes.NewReader(b))); late != whole {
			t.Errorf("whole: %s\nwith the end in the last read: %s", whole, late)
		}
	})
}
