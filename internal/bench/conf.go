package main

import (
	"context"
	"os/exec"
	"strings"
	"text/template"
)

// A kind is a program that we know how to run as a proxy.
type kind struct {
	title   string   // as its makers write it
	binary  string   // default: by its name in PATH
	version []string // arguments that ask for the version
	mark    string   // stands before the version in the answer
	args    []string // before the configuration's file
	conf    *template.Template
	h12, h3 bool // the rows that it takes part in
}

// A setting is what configurations are made from.
type setting struct {
	Dir             string // of its own
	Cert, Key, Both string // files
	Plain, TLS      int    // ports
	Backend         int    // port
}

var kinds = map[string]kind{
	"edged": {
		title: "edged", version: []string{"--version"}, mark: "commit ",
		args: []string{"--config"}, conf: parse("edged", edgedConf), h12: true, h3: true,
	},
	"nginx": {
		title: "nginx", binary: "nginx", version: []string{"-v"}, mark: "nginx/",
		args: []string{"-e", "stderr", "-c"}, conf: parse("nginx", nginxConf), h12: true,
	},
	"haproxy": {
		title: "HAProxy", binary: "haproxy", version: []string{"-v"}, mark: "version ",
		args: []string{"-f"}, conf: parse("haproxy", haproxyConf), h12: true,
	},
	"caddy": {
		title: "Caddy", binary: "caddy", version: []string{"version"},
		args: []string{"run", "--adapter", "caddyfile", "--config"}, conf: parse("caddy", caddyConf), h3: true,
	},
}

func parse(name, text string) *template.Template {
	return template.Must(template.New(name).Parse(text))
}

// Access logs are off everywhere. What a program does by default it does
// here: edged and HAProxy check the backend's health, edged routes by host,
// limits, counts and adds the fields it always adds.
const edgedConf = `version: 1
certificates:
  - {name: bench, files: {cert: {{.Cert}}, key: {{.Key}}}}
listeners:
  - {name: http, bind: ["127.0.0.1:{{.Plain}}"], protocols: [h1], limits: {idle: 600s}}
  - {name: https, bind: ["127.0.0.1:{{.TLS}}"], protocols: [h1, h2, h3], tls: {certificates: [bench]}, limits: {idle: 600s}}
services:
  - name: bench
    hosts: ["*"]
    backends: [{name: one, url: "http://127.0.0.1:{{.Backend}}"}]
admin: {socket: {{.Dir}}/edged.sock}
state: {dir: {{.Dir}}}
log: {level: warn, access: {sample: 0}}
`

const nginxConf = `daemon off; master_process off; worker_processes 1; pid {{.Dir}}/nginx.pid;
error_log stderr warn;
events { worker_connections 18000; }
http {
  access_log off;
  client_body_temp_path {{.Dir}}/body; proxy_temp_path {{.Dir}}/proxy; fastcgi_temp_path {{.Dir}}/f; uwsgi_temp_path {{.Dir}}/u; scgi_temp_path {{.Dir}}/s;
  keepalive_requests 1000000; keepalive_timeout 600s;
  upstream backend { server 127.0.0.1:{{.Backend}}; keepalive 64; keepalive_requests 1000000; }
  server {
    listen 127.0.0.1:{{.Plain}};
    listen 127.0.0.1:{{.TLS}} ssl http2;
    ssl_certificate {{.Cert}}; ssl_certificate_key {{.Key}}; ssl_protocols TLSv1.2 TLSv1.3;
    location / {
      proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }
  }
}
`

const haproxyConf = `global
  nbthread 1
  maxconn 12000
  no strict-limits
defaults
  mode http
  timeout connect 1s
  timeout client 600s
  timeout server 30s
  option forwardfor
frontend f
  bind 127.0.0.1:{{.Plain}}
  bind 127.0.0.1:{{.TLS}} ssl crt {{.Both}} alpn h2,http/1.1
  default_backend b
backend b
  http-reuse always
  server one 127.0.0.1:{{.Backend}} check
`

const caddyConf = `{
  admin off
  auto_https off
}
https://:{{.TLS}} {
  tls {{.Cert}} {{.Key}}
  reverse_proxy 127.0.0.1:{{.Backend}}
}
`

// versionOf asks a program for its version.
func (k kind) versionOf(ctx context.Context, binary string) string {
	out, err := exec.CommandContext(ctx, binary, k.version...).CombinedOutput()
	if err != nil {
		return "(unknown version)"
	}
	_, rest, _ := strings.Cut(string(out), k.mark)
	word, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	word, _, _ = strings.Cut(word, "\n")
	return strings.Trim(word, "v,")
}
