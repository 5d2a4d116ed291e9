package h2_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"anyedge/internal/message"
	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h2"
)

// Whoever keeps the books hears of what is refused, and by which rule.
func TestRefusalsAreTold(t *testing.T) {
	for _, tt := range []struct {
		want string
		send func(p *peer) error
	}{
		{"400 field", func(p *peer) error { return p.request(1, true, "GET", "connection", "close") }},
		{"400 protocol", func(p *peer) error { return p.WriteData(1, true, nil) }},
		{"400 field", func(p *peer) error {
			return p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: []byte{0x80}})
		}},
		{"431 header_size", func(p *peer) error { return p.request(1, true, "GET", "long", strings.Repeat("x", 5000)) }},
		{"429 streams", func(p *peer) error { _ = p.request(1, false, "POST"); return p.request(3, false, "POST") }},
		{"429 flood", func(p *peer) error {
			for range 1100 {
				if err := p.WritePriority(1, http2.PriorityParam{StreamDep: 3}); err != nil {
					return nil //nolint:nilerr // it has heard enough
				}
			}
			return nil
		}},
	} {
		t.Run(tt.want, func(t *testing.T) {
			told := make(chan string, 4)
			_, addr := start(t, h2.Config{
				Header: 4 * message.KiB, Streams: 1,
				Refused: func(peer netip.AddrPort, status int, rule string) {
					if peer.Addr().IsLoopback() {
						told <- fmt.Sprint(status, " ", rule)
					}
				},
			}, echo)
			p := dial(t, addr)
			p.AllowIllegalWrites = true
			p.must(tt.send(p))
			if got := enginetest.Within(t, "refusal", told); got != tt.want {
				t.Fatalf("%q, want %q", got, tt.want)
			}
		})
	}
}

// What one connection may send before any of it is read is bounded.
func TestOneConnectionHolds(t *testing.T) {
	const most = 10<<20 + 128<<10
	_, addr := start(t, h2.Config{}, text)
	p := dial(t, addr)
	streams, stream, connection := uint32(0), uint32(0), uint32(65535)
	for connection == 65535 {
		f, err := p.ReadFrame()
		p.must(err)
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if f.IsAck() {
				continue
			}
			streams, _ = f.Value(http2.SettingMaxConcurrentStreams)
			stream, _ = f.Value(http2.SettingInitialWindowSize)
		case *http2.WindowUpdateFrame:
			connection += f.Increment
		}
	}
	if connection != most || streams*stream > connection {
		t.Errorf("%d bytes in all, %d on each of %d streams", connection, stream, streams)
	}
}

// A client that has as many streams as it may opens the next one as soon as it has
// read the end of one.
func TestFullHouse(t *testing.T) {
	_, addr := start(t, h2.Config{Streams: 1}, text)
	p := dial(t, addr)
	for i := range uint32(500) {
		p.must(p.request(2*i+1, true, "GET"))
		if got := p.answer(2*i+1, false); got.isReset || got.content != "word" {
			t.Fatalf("stream %d: %+v", 2*i+1, got)
		}
	}
}
