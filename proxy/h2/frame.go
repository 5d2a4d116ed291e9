package h2

import (
	"encoding/binary"
	"errors"
	"fmt"

	"anyedge/internal/message"
)

// Frame types (RFC 9113 section 6).
const (
	typeData = iota
	typeHeaders
	typePriority
	typeReset
	typeSettings
	typePushPromise
	typePing
	typeGoAway
	typeWindowUpdate
	typeContinuation
)

// Flags. ACK is END_STREAM's bit on SETTINGS and PING.
const (
	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

// Settings (section 6.5.2; RFC 8441 section 3).
const (
	settingTableSize      = 1
	settingEnablePush     = 2
	settingMaxStreams     = 3
	settingInitialWindow  = 4
	settingMaxFrame       = 5
	settingMaxHeaderList  = 6
	settingConnectAllowed = 8
)

const (
	preface       = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	headerSize    = 9
	maxFrame      = 16 << 10 // that we take, and that we send
	initialWindow = 65535    // of both sides until SETTINGS say otherwise
	maxWindow     = 1<<31 - 1
	maxStreamID   = 1<<31 - 1
)

// A code is an error code (section 7).
type code uint32

const (
	noError            code = 0x0
	protocolError      code = 0x1
	internalError      code = 0x2
	flowControlError   code = 0x3
	streamClosed       code = 0x5
	frameSizeError     code = 0x6
	refusedStream      code = 0x7
	cancelled          code = 0x8
	compressionError   code = 0x9
	enhanceYourCalm    code = 0xb
	errClosedAlreadyID      = "frame for a stream that is closed"
)

// A connError ends a connection.
type connError struct {
	code code
	why  string
}

func (e connError) Error() string { return fmt.Sprintf("%s (code %d)", e.why, e.code) }

// A streamError ends a stream.
type streamError struct {
	stream uint32
	code   code
	why    string
}

func (e streamError) Error() string {
	return fmt.Sprintf("stream %d: %s (code %d)", e.stream, e.why, e.code)
}

// A frame is a frame as received; payload is valid until the next one is read.
type frame struct {
	kind    byte
	flags   byte
	stream  uint32
	payload []byte
}

func (f *frame) has(flag byte) bool { return f.flags&flag != 0 }

// parseHeader reads a frame's header, without its payload.
func parseHeader(b []byte) (f frame, length int) {
	length = int(b[0])<<16 | int(b[1])<<8 | int(b[2])
	return frame{kind: b[3], flags: b[4], stream: binary.BigEndian.Uint32(b[5:]) & maxStreamID}, length
}

// unpad takes padding, and the priority that HEADERS may begin with, away.
func (f *frame) unpad() error {
	p := f.payload
	pad := 0
	if f.has(flagPadded) {
		if len(p) < 1 {
			return connError{frameSizeError, "a padded frame without its pad length"}
		}
		pad, p = int(p[0]), p[1:]
	}
	if f.kind == typeHeaders && f.has(flagPriority) {
		if len(p) < 5 {
			return connError{frameSizeError, "HEADERS too short for its priority"}
		}
		if binary.BigEndian.Uint32(p)&maxStreamID == f.stream {
			return connError{protocolError, "the stream depends on itself"}
		}
		p = p[5:]
	}
	if pad > len(p) {
		return connError{protocolError, "padding is longer than the frame"}
	}
	f.payload = p[:len(p)-pad]
	return nil
}

// appendHeader appends a frame's header.
func appendHeader(b []byte, length int, kind, flags byte, stream uint32) []byte {
	b = append(b, byte(length>>16), byte(length>>8), byte(length), kind, flags)
	return binary.BigEndian.AppendUint32(b, stream)
}

// putLength changes the length in a frame's header.
func putLength(b []byte, n int) { b[0], b[1], b[2] = byte(n>>16), byte(n>>8), byte(n) }

func appendWindowUpdate(b []byte, stream uint32, n int64) []byte {
	return binary.BigEndian.AppendUint32(appendHeader(b, 4, typeWindowUpdate, 0, stream), uint32(n))
}

func appendReset(b []byte, stream uint32, c code) []byte {
	return binary.BigEndian.AppendUint32(appendHeader(b, 4, typeReset, 0, stream), uint32(c))
}

func appendGoAway(b []byte, last uint32, c code, why string) []byte {
	b = appendHeader(b, 8+len(why), typeGoAway, 0, 0)
	b = binary.BigEndian.AppendUint32(b, last)
	return append(binary.BigEndian.AppendUint32(b, uint32(c)), why...)
}

func appendSetting(b []byte, id uint16, value uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(b, id), value)
}

var (
	errClientGone   = message.Ended("the client has gone")
	errExchangeOver = message.Ended("the exchange is over")
	errStalled      = errors.New("the backend takes no more content")
)
