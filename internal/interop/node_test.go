package interop_test

import (
	"fmt"
	"testing"
)

// Node's http, https, http2, fetch (undici) and WebSocket.
func TestNode(t *testing.T) {
	t.Setenv("PLAIN", "http://"+edge.Plain.String())
	t.Setenv("H2C", "http://"+edge.H2C.String())
	t.Setenv("SECURE", fmt.Sprintf("https://127.0.0.1:%d", edge.TLS.Port()))
	t.Setenv("NODE_EXTRA_CA_CERTS", edge.CA)
	args := []string{"--no-warnings", "testdata/node.mjs"}
	if has := program(t, "", "node", "-p", `process.allowedNodeEnvironmentFlags.has("--experimental-websocket")`); has == "true\n" {
		args = append([]string{"--experimental-websocket"}, args...) // Debian's Node.js 18 has no WebSocket
	}
	t.Log(program(t, "", "node", args...))
}
