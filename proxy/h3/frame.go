package h3

import (
	"fmt"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"
)

// Frame types (RFC 9114 section 7.2; RFC 9218 section 7.2).
const (
	frameData         = 0x0
	frameHeaders      = 0x1
	frameCancelPush   = 0x3
	frameSettings     = 0x4
	framePushPromise  = 0x5
	frameGoAway       = 0x7
	frameMaxPushID    = 0xd
	framePriority     = 0xf0700
	framePriorityPush = 0xf0701
)

// Types of unidirectional streams (RFC 9114 section 6.2; RFC 9204 section 4.2).
const (
	streamControl = 0x0
	streamPush    = 0x1
	streamEncoder = 0x2
	streamDecoder = 0x3
)

// Settings (RFC 9114 section 7.2.4.1; RFC 9204 section 5; RFC 9220 section 5).
const (
	settingTableCapacity  = 0x1
	settingMaxSection     = 0x6
	settingBlockedStreams = 0x7
	settingConnectAllowed = 0x8
)

// A code is an error code (RFC 9114 section 8.1; RFC 9204 section 6).
type code uint64

const (
	noError             code = 0x100
	protocolError       code = 0x101
	internalError       code = 0x102
	streamCreationError code = 0x103
	closedCritical      code = 0x104
	frameUnexpected     code = 0x105
	frameError          code = 0x106
	excessiveLoad       code = 0x107
	idError             code = 0x108
	settingsError       code = 0x109
	missingSettings     code = 0x10a
	requestRejected     code = 0x10b
	requestCancelled    code = 0x10c
	requestIncomplete   code = 0x10d
	messageError        code = 0x10e
	connectError        code = 0x10f
	decompressionFailed code = 0x200
	encoderStreamError  code = 0x201
	decoderStreamError  code = 0x202
)

// A connError ends a connection.
type connError struct {
	code code
	why  string
}

func (e connError) Error() string { return fmt.Sprintf("%s (code %#x)", e.why, uint64(e.code)) }

// A streamError ends a stream.
type streamError struct {
	code code
	why  string
}

func (e streamError) Error() string { return fmt.Sprintf("%s (code %#x)", e.why, uint64(e.code)) }

// maxStreamID is what a GOAWAY names that ends nothing yet: the largest ID of a
// client's bidirectional stream.
const maxStreamID = quic.StreamID(1<<62 - 4)

// isOfHTTP2 reports whether kind is a frame type of HTTP/2 that has none here
// (section 7.2.8).
func isOfHTTP2(kind uint64) bool {
	return kind == 0x2 || kind == 0x6 || kind == 0x8 || kind == 0x9
}

// isOfControl reports whether kind belongs on a control stream alone.
func isOfControl(kind uint64) bool {
	switch kind {
	case frameCancelPush, frameSettings, frameGoAway, frameMaxPushID, framePriority, framePriorityPush:
		return true
	}
	return false
}

// appendFrameHeader appends what a frame begins with.
func appendFrameHeader(b []byte, kind uint64, length int64) []byte {
	return quicvarint.Append(quicvarint.Append(b, kind), uint64(length))
}

// appendGoAway appends a GOAWAY frame.
func appendGoAway(b []byte, id quic.StreamID) []byte {
	b = appendFrameHeader(b, frameGoAway, int64(quicvarint.Len(uint64(id))))
	return quicvarint.Append(b, uint64(id))
}

// appendSettings appends what a control stream begins with: its type and our
// settings. QPACK's are left at 0: no dynamic table, and no stream that waits for
// one.
func appendSettings(b []byte, maxSection int, connect bool) []byte {
	var p []byte
	p = quicvarint.Append(quicvarint.Append(p, settingMaxSection), uint64(maxSection))
	if connect {
		p = append(p, settingConnectAllowed, 1)
	}
	return append(appendFrameHeader(append(b, streamControl), frameSettings, int64(len(p))), p...)
}
