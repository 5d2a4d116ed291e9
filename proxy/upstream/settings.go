package upstream

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Defaults of the configuration.
const (
	DefaultInterval       = 2 * time.Second
	DefaultCheckTimeout   = time.Second
	DefaultRise           = 2
	DefaultFall           = 3
	DefaultConnect        = time.Second
	DefaultResponseHeader = 30 * time.Second
	DefaultIdle           = 60 * time.Second
	DefaultSlowStart      = 10 * time.Second
	DefaultQueueWait      = 250 * time.Millisecond
	DefaultConsecutive    = 5
	DefaultErrorRatio     = 0.5
	DefaultMinRequests    = 20
	DefaultWindow         = 10 * time.Second
	DefaultEject          = 30 * time.Second
	DefaultMaxEjected     = 0.5
	DefaultAttempts       = 2
	DefaultBudget         = 0.1
)

// Schemes of a backend's URL.
const (
	schemeHTTP = "http"
	schemeH2C  = "h2c"
)

// Validate reports every problem in c.
func (c BackendConfig) Validate() error {
	_, err := c.parse()
	switch {
	case c.ProxyProtocol == "" || c.ProxyProtocol == "off":
	case c.proxyVersion() == 0:
		err = errors.Join(err, fmt.Errorf("proxy_protocol: %q is unknown: want off, v1 or v2", c.ProxyProtocol))
	case strings.HasPrefix(c.URL, schemeH2C+":"):
		err = errors.Join(err, errors.New("proxy_protocol: a connection of h2c carries the requests of many clients, and a PROXY header names one"))
	}
	if c.Weight < 0 || c.Weight > maxWeight {
		err = errors.Join(err, fmt.Errorf("weight: %d is not within 1 and %d", c.Weight, maxWeight))
	}
	if bad := c.Limit.Validate(); bad != nil {
		err = errors.Join(err, fmt.Errorf("limit: %w", bad))
	}
	return err
}

// maxWeight keeps sums and products of weights far from their type's end.
const maxWeight = 1<<16 - 1

// Validate reports every problem in c.
func (c LimitConfig) Validate() error {
	switch {
	case c.Soft < 0 || c.Hard < 0:
		return errors.New("soft and hard must be 1 or more")
	case c.Hard > 0 && c.Soft > c.Hard:
		return fmt.Errorf("soft (%d) is above hard (%d), so it would never matter", c.Soft, c.Hard)
	}
	return nil
}

// Validate reports every problem in c.
func (c QueueConfig) Validate() error {
	var errs []error
	if c.Length != nil && *c.Length < 0 {
		errs = append(errs, errors.New("length: must be 0 or more"))
	}
	if c.Wait != nil && *c.Wait <= 0 {
		errs = append(errs, errors.New("wait: must be above 0; length: 0 is no queue"))
	}
	return errors.Join(errs...)
}

// parse returns the URL of c, which names a scheme, a host and a port alone.
func (c BackendConfig) parse() (*url.URL, error) {
	const form = "want http://HOST:PORT or h2c://HOST:PORT"
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "":
		return nil, fmt.Errorf("url: %q is no backend: %s", c.URL, form)
	case u.Scheme == "https":
		return nil, fmt.Errorf("url: %q: TLS to a backend is known, not in this version: %s", c.URL, form)
	case u.Scheme != schemeHTTP && u.Scheme != schemeH2C:
		return nil, fmt.Errorf("url: scheme %q is unknown: %s", u.Scheme, form)
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return nil, fmt.Errorf("url: %q has more than scheme, host and port: %s", c.URL, form)
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, fmt.Errorf("url: port %s is not within 1 and 65535", port)
		}
	}
	return u, nil
}

// Validate reports every problem in c.
func (c GRPCCheckConfig) Validate() error {
	var errs []error
	if c.Interval != nil && *c.Interval <= 0 || c.Timeout != nil && *c.Timeout <= 0 {
		errs = append(errs, errors.New("interval and timeout: must be above 0"))
	}
	if c.Rise < 0 || c.Fall < 0 {
		errs = append(errs, errors.New("rise and fall: must be 1 or more"))
	}
	if len(c.Service) > maxService {
		errs = append(errs, fmt.Errorf("service: is longer than %d bytes", maxService))
	}
	return errors.Join(errs...)
}

// Validate reports every problem in c.
func (c HealthConfig) Validate() error {
	if c.HTTP != nil && c.GRPC != nil {
		return errors.New("http and grpc exclude each other")
	}
	if c.GRPC != nil {
		return c.GRPC.Validate()
	}
	if c.HTTP == nil {
		return nil
	}
	h := c.HTTP
	var errs []error
	if h.Path != "" && !strings.HasPrefix(h.Path, "/") {
		errs = append(errs, fmt.Errorf("http.path: %q does not start with /", h.Path))
	}
	for i, s := range h.Expect {
		if s < 200 || s > 599 {
			errs = append(errs, fmt.Errorf("http.expect[%d]: %d is no final status (200-599)", i, s))
		}
	}
	if h.Interval != nil && *h.Interval <= 0 {
		errs = append(errs, errors.New("http.interval: must be above 0"))
	}
	if h.Timeout != nil && *h.Timeout <= 0 {
		errs = append(errs, errors.New("http.timeout: must be above 0"))
	}
	if h.Rise < 0 || h.Fall < 0 {
		errs = append(errs, errors.New("http.rise and http.fall: must be 1 or more"))
	}
	return errors.Join(errs...)
}

// Validate reports every problem in c.
func (c PassiveConfig) Validate() error {
	var errs []error
	if c.Consecutive != nil && *c.Consecutive < 0 {
		errs = append(errs, errors.New("consecutive: must be 0 or more"))
	}
	for _, x := range []struct {
		name  string
		value *float64
	}{{"error_ratio", c.ErrorRatio}, {"max_ejected", c.MaxEjected}} {
		if x.value != nil && !(*x.value >= 0 && *x.value <= 1) {
			errs = append(errs, fmt.Errorf("%s: %v is not within 0 and 1", x.name, *x.value))
		}
	}
	if c.MinRequests < 0 {
		errs = append(errs, errors.New("min_requests: must be 1 or more"))
	}
	if c.Window != nil && *c.Window <= 0 || c.Eject != nil && *c.Eject <= 0 {
		errs = append(errs, errors.New("window and eject: must be above 0"))
	}
	return errors.Join(errs...)
}

// Validate reports every problem in c.
func (c RetryConfig) Validate() error {
	var errs []error
	if c.Attempts < 0 || c.Attempts > 10 {
		errs = append(errs, errors.New("attempts: must be within 1 and 10"))
	}
	for i, on := range c.On {
		if on != onReset && on != onTimeout {
			errs = append(errs, fmt.Errorf("on[%d]: %q is unknown: want reset or timeout", i, on))
		}
	}
	for i, s := range c.Statuses {
		if s < 500 || s > 599 {
			errs = append(errs, fmt.Errorf("statuses[%d]: %d says nothing of a backend (500-599 do)", i, s))
		}
	}
	if c.PerTry != nil && *c.PerTry <= 0 {
		errs = append(errs, errors.New("per_try: must be above 0"))
	}
	if c.Budget != nil && !(*c.Budget >= 0 && *c.Budget <= 1) {
		errs = append(errs, fmt.Errorf("budget: got %v, want a number between 0 and 1 (10%% is 0.1)", *c.Budget))
	}
	if _, _, err := c.hedge(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// hedge returns how long a request waits until a second backend is asked, or that
// it is the 95th percentile; neither: never.
func (c RetryConfig) hedge() (after time.Duration, p95 bool, err error) {
	switch c.Hedge {
	case "":
		return 0, false, nil
	case "p95":
		return 0, true, nil
	}
	if after, err = time.ParseDuration(c.Hedge); err != nil || after <= 0 {
		return 0, false, fmt.Errorf("hedge: got %q, want p95 or a duration above 0, like 50ms", c.Hedge)
	}
	return after, false, nil
}

// Validate reports every problem in c.
func (c TimeoutsConfig) Validate() error {
	var errs []error
	for _, t := range []struct {
		name  string
		value *time.Duration
	}{{"connect", c.Connect}, {"response_header", c.ResponseHeader}, {"total", c.Total}, {"idle", c.Idle}} {
		if t.value != nil && *t.value <= 0 {
			errs = append(errs, fmt.Errorf("%s: must be above 0", t.name))
		}
	}
	return errors.Join(errs...)
}

// A pace is how often a backend is checked, and how many checks make a verdict.
type pace struct {
	interval, timeout time.Duration
	rise, fall        int
}

func (c HealthConfig) pace() pace {
	var interval, timeout *time.Duration
	var rise, fall int
	switch {
	case c.GRPC != nil:
		interval, timeout, rise, fall = c.GRPC.Interval, c.GRPC.Timeout, c.GRPC.Rise, c.GRPC.Fall
	case c.HTTP != nil:
		interval, timeout, rise, fall = c.HTTP.Interval, c.HTTP.Timeout, c.HTTP.Rise, c.HTTP.Fall
	}
	return pace{or(interval, DefaultInterval), or(timeout, DefaultCheckTimeout), cmp.Or(rise, DefaultRise), cmp.Or(fall, DefaultFall)}
}

func (c TimeoutsConfig) connect() time.Duration { return or(c.Connect, DefaultConnect) }
func (c TimeoutsConfig) responseHeader() time.Duration {
	return or(c.ResponseHeader, DefaultResponseHeader)
}
func (c TimeoutsConfig) idle() time.Duration { return or(c.Idle, DefaultIdle) }

// or returns *d, or the default when d is nil.
func or[T any](d *T, def T) T {
	if d == nil {
		return def
	}
	return *d
}
