package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"
)

// HTTP/3 by hand on bare QUIC connections (RFC 9114): a load that costs less
// than what it measures. It sends GET alone, and never refers to QPACK's
// dynamic table.

const (
	h3Conns   = 8
	h3Streams = 8 // at once on each

	frameData     = 0x0
	frameHeaders  = 0x1
	frameSettings = 0x4
	streamControl = 0x0
)

// Fields of QPACK's static table (RFC 9204 appendix A) as they stand in a
// field section.
const (
	fieldGET       = 0xc0 | 17 // :method: GET
	fieldHTTPS     = 0xc0 | 23 // :scheme: https
	fieldPathRoot  = 0xc0 | 1  // :path: /
	namePath       = 0x50 | 1  // :path, with a value that follows
	nameAuthority  = 0x50      // :authority, with a value that follows
	fieldStatus200 = 0xc0 | 25 // :status: 200
)

// h3load asks for a path whose content has that size.
func h3load(path string, size int) load {
	return func(ctx context.Context, c *contestant, n int) error {
		request := h3Request(path)
		return spread(h3Conns, h3Conns, func() error {
			return h3Connection(ctx, c.tls, n/h3Conns, request, size)
		})
	}
}

// h3Request is a HEADERS frame.
func h3Request(path string) []byte {
	section := []byte{0, 0, fieldGET, fieldHTTPS}
	if path == "/" {
		section = append(section, fieldPathRoot)
	} else {
		section = append(append(section, namePath, byte(len(path))), path...)
	}
	host := "bench.example.net"
	section = append(append(section, nameAuthority, byte(len(host))), host...)
	frame := quicvarint.Append([]byte{frameHeaders}, uint64(len(section)))
	return append(frame, section...)
}

// h3Connection sends n requests over one connection.
func h3Connection(ctx context.Context, port, n int, request []byte, size int) error {
	conn, err := quic.DialAddr(ctx, fmt.Sprintf("127.0.0.1:%d", port), clientTLS("h3"), nil)
	if err != nil {
		return err
	}
	var running sync.WaitGroup
	running.Go(func() { // the server's control stream and QPACK's: nothing there changes what is asked
		for {
			s, err := conn.AcceptUniStream(ctx)
			if err != nil {
				return
			}
			running.Go(func() { _, _ = io.Copy(io.Discard, s) })
		}
	})
	defer running.Wait()
	defer func() { _ = conn.CloseWithError(0x100, "") }() // H3_NO_ERROR
	control, err := conn.OpenUniStream()
	if err != nil {
		return err
	}
	if _, err := control.Write([]byte{streamControl, frameSettings, 0}); err != nil {
		return err
	}
	buffers := sync.Pool{New: func() any { return new(bytes.Buffer) }}
	return spread(h3Streams, n, func() error {
		s, err := conn.OpenStreamSync(ctx)
		if err != nil {
			return err
		}
		if _, err := s.Write(request); err != nil {
			return err
		}
		if err := s.Close(); err != nil {
			return err
		}
		answer := buffers.Get().(*bytes.Buffer)
		defer buffers.Put(answer)
		answer.Reset()
		if _, err := answer.ReadFrom(s); err != nil {
			return err
		}
		return checkH3Answer(answer.Bytes(), size)
	})
}

// checkH3Answer takes the frames of a whole answer: it has to be a 200 with
// that much content.
func checkH3Answer(b []byte, size int) error {
	var content int
	var status string
	for len(b) > 0 {
		kind, n, err := quicvarint.Parse(b)
		if err != nil {
			return err
		}
		length, m, err := quicvarint.Parse(b[n:])
		if err != nil {
			return err
		}
		b = b[n+m:]
		if length > uint64(len(b)) {
			return errors.New("the last frame is not whole")
		}
		switch kind {
		case frameHeaders:
			if status, err = h3Status(b[:length]); err != nil {
				return err
			}
		case frameData:
			content += int(length)
		}
		b = b[length:]
	}
	if status != "200" || content != size {
		return fmt.Errorf("status %q with %d bytes, not 200 with %d", status, content, size)
	}
	return nil
}

// h3Status finds the status in a field section.
func h3Status(section []byte) (string, error) {
	if bytes.HasPrefix(section, []byte{0, 0, fieldStatus200}) {
		return "200", nil // nearly always
	}
	next := qpack.NewDecoder().Decode(slices.Clone(section))
	for {
		f, err := next()
		if err != nil {
			return "", fmt.Errorf("no status: %w", err)
		}
		if f.Name == ":status" {
			return f.Value, nil
		}
	}
}
