package upstream_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"anyedge/internal/message"
	"anyedge/proxy/upstream"
)

func TestValidate(t *testing.T) {
	zero := new(time.Duration)
	const form = ": want http://HOST:PORT or h2c://HOST:PORT"
	for _, tt := range []struct {
		name string
		cfg  interface{ Validate() error }
		want string
	}{
		{"good", upstream.BackendConfig{URL: "http://127.0.0.1:80"}, ""},
		{"slash", upstream.BackendConfig{URL: "http://127.0.0.1:80/"}, ""},
		{"IPv6", upstream.BackendConfig{URL: "h2c://[2001:db8::1]:80"}, ""},
		{"no port", upstream.BackendConfig{URL: "http://shop.internal"}, ""},
		{"empty", upstream.BackendConfig{}, `url: "" is no backend` + form},
		{"no scheme", upstream.BackendConfig{URL: "127.0.0.1:80"}, `url: "127.0.0.1:80" is no backend` + form},
		{"no host", upstream.BackendConfig{URL: "http://:80"}, `url: "http://:80" is no backend` + form},
		{"TLS", upstream.BackendConfig{URL: "https://a:1"}, `url: "https://a:1": TLS to a backend is known, not in this version` + form},
		{"scheme", upstream.BackendConfig{URL: "ftp://a:1"}, `url: scheme "ftp" is unknown` + form},
		{"path", upstream.BackendConfig{URL: "http://a:1/x"}, `url: "http://a:1/x" has more than scheme, host and port` + form},
		{"port 0", upstream.BackendConfig{URL: "http://a:0"}, "url: port 0 is not within 1 and 65535"},
		{"weight", upstream.BackendConfig{URL: "http://a:1", Weight: -1}, "weight: -1 is not within 1 and 65535"},
		{"limits", upstream.BackendConfig{URL: "http://a:1", Limit: upstream.LimitConfig{Soft: 3, Hard: 2}}, "limit: soft (3) is above hard (2), so it would never matter"},
		{"queue", upstream.QueueConfig{Length: new(-1), Wait: zero}, "length: must be 0 or more\nwait: must be above 0; length: 0 is no queue"},
		{"no check", upstream.HealthConfig{}, ""},
		{
			"check",
			upstream.HealthConfig{HTTP: &upstream.HTTPCheckConfig{Path: "x", Expect: []int{200, 100}, Interval: zero, Timeout: zero, Rise: -1}},
			"http.path: \"x\" does not start with /\nhttp.expect[1]: 100 is no final status (200-599)\nhttp.interval: must be above 0\nhttp.timeout: must be above 0\nhttp.rise and http.fall: must be 1 or more",
		},
		{"timeouts", upstream.TimeoutsConfig{Connect: zero, Idle: zero}, "connect: must be above 0\nidle: must be above 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.cfg.Validate()
			if got := errorText(err); got != tt.want {
				t.Errorf("\n got %s\nwant %s", got, tt.want)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestNewNamesTheBackend(t *testing.T) {
	_, err := upstream.New("shop", upstream.Config{Backends: []upstream.BackendConfig{{Name: "a", URL: "x"}, {Name: "b", URL: "y"}}}, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "backend a: url: ") || !strings.Contains(err.Error(), "backend b: url: ") {
		t.Errorf("got %v", err)
	}
}

// The clients are closed with the pool, also those that report an error.
func TestRunClosesClients(t *testing.T) {
	addr := listen(t, func(net.Conn) {})
	broken := errors.New("broken")
	p, err := upstream.New("shop", upstream.Config{
		Backends: backends(addr),
		Dial: func(upstream.BackendConfig, upstream.TimeoutsConfig) (message.RoundTripper, error) {
			return closing{nil, broken}, nil
		},
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = p.Run(ctx, cancel)
	if !errors.Is(err, broken) || err.Error() != "backend a: broken" {
		t.Errorf("Run = %v", err)
	}
}

// closing is a client that fails to close.
type closing struct {
	message.RoundTripper
	err error
}

func (c closing) Close() error { return c.err }
