package proxy

import (
	"io"
	"strconv"
	"strings"

	"anyedge/internal/message"
)

// Status codes of gRPC (doc/statuscodes.md of github.com/grpc/grpc).
const (
	grpcUnknown           = 2
	grpcDeadlineExceeded  = 4
	grpcPermissionDenied  = 7
	grpcResourceExhausted = 8
	grpcUnimplemented     = 12
	grpcInternal          = 13
	grpcUnavailable       = 14
)

// grpcCode returns what an error of this edge's own means to a gRPC client. It is
// what such clients make of the status themselves (doc/http-grpc-status-mapping.md
// of github.com/grpc/grpc), except where they cannot know what we do: time that ran
// out, content over the limit, a misdirected connection, a method that is not
// supported.
func grpcCode(status int) int {
	switch status {
	case 400:
		return grpcInternal
	case 403:
		return grpcPermissionDenied
	case 404, 405, 501:
		return grpcUnimplemented
	case 413, 431:
		return grpcResourceExhausted
	case 421, 429, 502, 503:
		return grpcUnavailable
	case 504:
		return grpcDeadlineExceeded
	}
	return grpcUnknown
}

// isGRPC reports whether r is a call of gRPC (doc/PROTOCOL-HTTP2.md of
// github.com/grpc/grpc), which needs trailers: gRPC-Web is something else.
func isGRPC(r *message.Request) bool {
	const kind = "application/grpc"
	t := r.Header.Get("Content-Type")
	return r.Version != message.HTTP1 && len(t) >= len(kind) && strings.EqualFold(t[:len(kind)], kind) &&
		(len(t) == len(kind) || t[len(kind)] == '+' || t[len(kind)] == ';')
}

// asGRPC makes an error of this edge's own what a gRPC client reads: the status in
// the fields of an answer without content ("Trailers-Only"). Log and statistics
// keep the HTTP status.
func asGRPC(resp *message.Response) {
	code, reason := grpcCode(resp.Status), ""
	if resp.Body != nil {
		text, _ := io.ReadAll(resp.Body) // it is all there
		reason = strings.TrimSpace(string(text))
	}
	resp.Close()
	resp.Status, resp.Length, resp.Body, resp.Trailer = 200, 0, nil, nil
	resp.Header.Set("Content-Type", "application/grpc")
	resp.Header.Del("X-Content-Type-Options")
	resp.Header.Set("Grpc-Status", strconv.Itoa(code))
	resp.Header.Set("Grpc-Message", grpcMessage(reason))
}

// grpcMessage percent-encodes what no Grpc-Message has.
func grpcMessage(s string) string {
	const hex = "0123456789ABCDEF"
	b := make([]byte, 0, len(s))
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '%' {
			b = append(b, '%', hex[c>>4], hex[c&15])
		} else {
			b = append(b, c)
		}
	}
	return string(b)
}
