package upstream_test

import (
	"strings"
	"testing"

	"anyedge/proxy/upstream"
)

func TestProxyProtocolOfABackend(t *testing.T) {
	for _, tt := range []struct{ url, version, want string }{
		{"http://192.0.2.1:80", "", ""},
		{"http://192.0.2.1:80", "off", ""},
		{"http://192.0.2.1:80", "v1", ""},
		{"http://192.0.2.1:80", "v2", ""},
		{"h2c://192.0.2.1:80", "off", ""},
		{"h2c://192.0.2.1:80", "v2", "of many clients"},
		{"http://192.0.2.1:80", "v3", "want off, v1 or v2"},
	} {
		err := upstream.BackendConfig{Name: "a", URL: tt.url, ProxyProtocol: tt.version}.Validate()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s to %s: %v, want %q", tt.version, tt.url, err, tt.want)
		}
	}
}
