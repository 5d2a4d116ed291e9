package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"

	"github.com/coder/websocket"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"anyedge/internal/interop"
)

// socket sends messages over a WebSocket and wants each back.
func socket(ctx context.Context, w way) (int64, outcome) {
	mode := []websocket.CompressionMode{websocket.CompressionDisabled, websocket.CompressionContextTakeover}[below(2)]
	c, resp, err := websocket.Dial(ctx, strings.Replace(w.base, "http", "ws", 1)+"/ws", &websocket.DialOptions{ //nolint:bodyclose // Dial closes it
		HTTPClient: w.http, Host: interop.Name, CompressionMode: mode,
	})
	if err != nil {
		if resp != nil {
			return 0, outcome{kind: fmt.Sprint("status ", resp.StatusCode)}
		}
		return 0, failure(err)
	}
	defer func() { _ = c.CloseNow() }()
	c.SetReadLimit(maxSize + 1)
	var checked int64
	for range 1 + below(10) {
		content := interop.Content(size() / 4)
		if err := c.Write(ctx, websocket.MessageBinary, content); err != nil {
			return checked, failure(err)
		}
		_, got, err := c.Read(ctx)
		if err != nil {
			return checked, failure(err)
		}
		if !bytes.Equal(got, content) {
			return checked, outcome{wrong: fmt.Sprintf("a message of %d bytes came back as %d", len(content), len(got))}
		}
		checked += int64(len(got))
	}
	if below(4) == 0 {
		return checked, outcome{} // vanish
	}
	if err := c.Close(websocket.StatusNormalClosure, "done"); err != nil {
		return checked, failure(err)
	}
	return checked, outcome{}
}

// failure names the kind of an error, in words that can be counted.
func failure(err error) outcome {
	var (
		h3   *http3.Error
		idle *quic.IdleTimeoutError
		app  *quic.ApplicationError
		str  *quic.StreamError
	)
	switch {
	case errors.As(err, &h3):
		return outcome{kind: "stream reset (" + h3.ErrorCode.String() + ")"}
	case errors.As(err, &str), errors.As(err, &app), errors.As(err, &idle):
		return outcome{kind: "QUIC: " + short(err)}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return outcome{kind: "no end in time"}
	case errors.Is(err, syscall.ECONNREFUSED):
		return outcome{kind: "connection refused"}
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return outcome{kind: "connection reset"}
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), errors.Is(err, http.ErrServerClosed):
		return outcome{kind: "connection ended"}
	}
	return outcome{kind: short(err)}
}

// short cuts an error's text to its last fact.
func short(err error) string {
	s := err.Error()
	if at := strings.LastIndex(s, "stream error: "); at >= 0 { // HTTP/2's, without its stream's number
		_, s, _ = strings.Cut(s[at:], "; ")
		return "stream reset (" + s + ")"
	}
	for len(s) > 80 {
		_, rest, ok := strings.Cut(s, ": ")
		if !ok {
			return s[len(s)-80:]
		}
		s = rest
	}
	return s
}
