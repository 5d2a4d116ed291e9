package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// A grpcCheck asks by the gRPC health protocol (grpc.health.v1.Health/Check), each
// time on a connection of its own.
type grpcCheck struct {
	url     string
	message []byte
	client  *http.Client
}

// maxService bounds a service's name, in bytes: its length is one byte of the
// message.
const maxService = 127

func newGRPCCheck(u *url.URL, c GRPCCheckConfig, dial dialer) *grpcCheck {
	// HealthCheckRequest { string service = 1; }, behind a byte for "not
	// compressed" and the length in four.
	var field []byte
	if c.Service != "" {
		field = append([]byte{1<<3 | 2, byte(len(c.Service))}, c.Service...)
	}
	return &grpcCheck{
		url:     schemeHTTP + "://" + hostPort(u) + "/grpc.health.v1.Health/Check",
		message: append([]byte{0, 0, 0, 0, byte(len(field))}, field...),
		client:  newHTTPCheck(u, HTTPCheckConfig{}, dial).client,
	}
}

// serving is the answer of a server that can serve: HealthCheckResponse {
// ServingStatus status = 1; } with SERVING, 1.
var serving = []byte{0, 0, 0, 0, 2, 1 << 3, 1}

func (c *grpcCheck) check(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(c.message))
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "edged-health")
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	resp, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, checkBody))
	if err != nil {
		return err
	}
	status := resp.Trailer.Get("Grpc-Status")
	if status == "" {
		status = resp.Header.Get("Grpc-Status") // an answer without a message
	}
	switch {
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("status %d", resp.StatusCode)
	case status != "0":
		return fmt.Errorf("gRPC status %q", status)
	case !bytes.Equal(answer, serving):
		return errors.New("not serving")
	}
	return nil
}
