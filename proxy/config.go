package proxy

import (
	"net/netip"
	"time"

	"anyedge/internal/message"
	"anyedge/proxy/certs"
	"anyedge/proxy/compress"
	"anyedge/proxy/discover"
	"anyedge/proxy/upstream"
	"anyedge/replay"
)

// A ListenerConfig is one entry of `listeners:`.
type ListenerConfig struct {
	Name           string         `json:"name" yaml:"name"`                                                                              // unique
	VIPs           []string       `json:"vips,omitempty" yaml:"vips"`                                                                    // whose traffic it takes; bound at their addresses unless bind is given
	Bind           []string       `json:"bind,omitempty" yaml:"bind"`                                                                    // ADDRESS:PORT to listen on, in place of the VIPs' addresses and port
	Port           uint16         `json:"port,omitempty" yaml:"port"`                                                                    // at the VIPs' addresses
	Protocols      []string       `json:"protocols,omitempty" yaml:"protocols" jsonschema:"enum=h1,enum=h2,enum=h3"`                     // default h1 and h2; h3 adds UDP and Alt-Svc
	TLS            *TLSConfig     `json:"tls,omitempty" yaml:"tls"`                                                                      // absent: plain text
	Private        bool           `json:"private,omitempty" yaml:"private"`                                                              // this geo's apps only: takes SERVICE.internal here and GEO.SERVICE.internal there; bind at a unicast address, never a VIP
	RedirectHTTPS  bool           `json:"redirect_https,omitempty" yaml:"redirect_https"`                                                // answer every request with a redirect to https
	TrustedProxies []netip.Prefix `json:"trusted_proxies,omitempty" yaml:"trusted_proxies"`                                              // whose X-Forwarded-For or PROXY header names the client
	ProxyProtocol  string         `json:"proxy_protocol,omitempty" yaml:"proxy_protocol" jsonschema:"enum=off,enum=accept,enum=require"` // of TCP connections from trusted_proxies; accept: each begins with a PROXY header (v1 or v2), others' with none; require: the same, and others are refused; default off
	Limits         ListenerLimits `json:"limits,omitzero" yaml:"limits"`                                                                 // what one client can make it hold
}

// TLSConfig says how a listener terminates TLS.
type TLSConfig struct {
	Certificates []string `json:"certificates" yaml:"certificates"`                                                          // names of `certificates:` entries; chosen by SNI, the first is the default
	MinVersion   string   `json:"min_version,omitempty" yaml:"min_version" jsonschema:"enum=1.2,enum=1.3"`                   // oldest TLS version accepted; default "1.2"
	UnknownNames string   `json:"unknown_names,omitempty" yaml:"unknown_names" jsonschema:"enum=default,enum=refuse"`        // clients that ask for a name that no certificate has, or for none: default = they get the first certificate; refuse = the handshake fails; default "default"
	ClientAuth   string   `json:"client_auth,omitempty" yaml:"client_auth" jsonschema:"enum=none,enum=request,enum=require"` // client certificates: request = one that is shown must be signed by client_ca; require = the same, and without one the handshake fails. Backends get it in Client-Cert (RFC 9440); default none
	EarlyData    bool     `json:"early_data,omitempty" yaml:"early_data"`                                                    // take GET, HEAD and OPTIONS over HTTP/3 before the handshake ends (0-RTT): somebody else may send them again. Backends see Early-Data (RFC 8470), and must know it or not mind; default false
	ClientCA     []string `json:"client_ca,omitempty" yaml:"client_ca"`                                                      // PEM files of the CAs whose client certificates count; watched
}

// terms are what c says, in the words of package certs.
func (c TLSConfig) terms() certs.Terms {
	return certs.Terms{
		Certificates: c.Certificates, MinVersion: c.MinVersion,
		UnknownNames: c.UnknownNames, ClientAuth: c.ClientAuth, ClientCA: c.ClientCA,
	}
}

// Validate reports every problem in c that can be seen without reading files.
func (c TLSConfig) Validate() error { return c.terms().Validate() }

// ListenerLimits bound what one client can make a listener hold.
type ListenerLimits struct {
	Header *message.Size  `json:"header,omitempty" yaml:"header"` // of one request's header section; default 64KiB
	Body   *message.Size  `json:"body,omitempty" yaml:"body"`     // of one request's content; default 100MiB; 0B = no limit
	Idle   *time.Duration `json:"idle,omitempty" yaml:"idle"`     // of a connection without a request; default 75s

	Connections      *int           `json:"connections,omitempty" yaml:"connections" jsonschema:"minimum=1"`   // connections at once, TCP and QUIC; default: half of the files that edged may open
	ConnsPerIP       *int           `json:"conns_per_ip,omitempty" yaml:"conns_per_ip" jsonschema:"minimum=0"` // connections of one client at once, TCP and QUIC, an IPv4 address or an IPv6 /64; those of trusted_proxies do not count; default 0 = no limit
	Handshakes       *int           `json:"handshakes,omitempty" yaml:"handshakes" jsonschema:"minimum=1"`     // connections at once that have not ended their TLS handshake or PROXY header; one more ends the oldest; default 4096
	HandshakeTimeout *time.Duration `json:"handshake_timeout,omitempty" yaml:"handshake_timeout"`              // from a connection's start to the end of its TLS handshake, with the PROXY header; default 10s
}

// A ServiceConfig is one entry of `services:`.
type ServiceConfig struct {
	Name      string                   `json:"name" yaml:"name"`                                                                 // unique
	Hosts     []string                 `json:"hosts" yaml:"hosts"`                                                               // exact names, "*.example.net" for one label, "*" for any
	Paths     []string                 `json:"paths,omitempty" yaml:"paths"`                                                     // path prefixes at segment borders; longest wins; default ["/"]
	Listeners []string                 `json:"listeners,omitempty" yaml:"listeners"`                                             // listeners that it is reached through; default: all
	Backends  []upstream.BackendConfig `json:"backends,omitempty" yaml:"backends"`                                               // the same in every geo; a geo's own stand under node.backends
	Discover  *discover.Config         `json:"discover,omitempty" yaml:"discover"`                                               // where more backends are learned from, while it runs
	Balance   string                   `json:"balance,omitempty" yaml:"balance"`                                                 // how a backend is chosen: p2c (the less busy of two), ewma (the one of two that answers sooner), round_robin, hash(header:NAME), hash(cookie:NAME), hash(client) or hash(path); default p2c
	SlowStart *time.Duration           `json:"slow_start,omitempty" yaml:"slow_start"`                                           // how long a backend that comes or returns takes until it has its whole share; 0s = at once; default 10s
	Retry     upstream.RetryConfig     `json:"retry,omitzero" yaml:"retry"`                                                      // when a request that failed is sent once more
	Queue     upstream.QueueConfig     `json:"queue,omitzero" yaml:"queue"`                                                      // of requests while every backend is at its hard limit
	Health    upstream.HealthConfig    `json:"health,omitzero" yaml:"health"`                                                    // how backends are judged
	Timeouts  upstream.TimeoutsConfig  `json:"timeouts,omitzero" yaml:"timeouts"`                                                // how long backends may take
	Priority  string                   `json:"priority,omitempty" yaml:"priority" jsonschema:"enum=interactive,enum=background"` // background is shed and refused first; default interactive
	Replay    replay.Config            `json:"replay,omitzero" yaml:"replay"`                                                    // what its backends may ask for with Replay-Geo
	Limits    ServiceLimits            `json:"limits,omitzero" yaml:"limits"`                                                    // of one client

	ServerTiming bool             `json:"server_timing,omitempty" yaml:"server_timing"` // answers tell clients how long edge, backend and geo took (Server-Timing); default false
	Headers      HeadersConfig    `json:"headers,omitzero" yaml:"headers"`              // fields that are changed on the way
	Compress     *compress.Config `json:"compress,omitempty" yaml:"compress"`           // answers to clients that take it; {} = the defaults, absent = off: see docs/headers.md about secrets
}

// LogConfig says what is logged, and how.
type LogConfig struct {
	Level  string          `json:"level,omitempty" yaml:"level" jsonschema:"enum=debug,enum=info,enum=warn,enum=error"` // least severity that is logged; default info
	Format string          `json:"format,omitempty" yaml:"format" jsonschema:"enum=json,enum=text"`                     // of a line; default json
	Access AccessLogConfig `json:"access,omitzero" yaml:"access"`                                                       // which requests are logged
}

// AccessLogConfig chooses the requests that are logged, and what is.
type AccessLogConfig struct {
	Sample         *float64 `json:"sample,omitempty" yaml:"sample" jsonschema:"minimum=0,maximum=1"` // share of requests; default 1
	AlwaysOnStatus []string `json:"always_on_status,omitempty" yaml:"always_on_status"`              // classes that are logged whatever the sample: "5xx"
	Fields         []string `json:"fields,omitempty" yaml:"fields"`                                  // what a line has besides id, method, host, path, status, client and service, and rule, error and why where there are; docs/observing.md lists them; default those that it marks
}

// CertificateConfig is one entry of `certificates:`.
type CertificateConfig = certs.Config
