package message

import (
	"crypto/tls"
	"encoding/base64"
	"strings"
)

// A Secure is what the TLS handshake of a connection said of its client.
type Secure struct {
	ServerName string // that it asked for (SNI), in lower case; "" for none
	Version    uint16 // of TLS, as crypto/tls numbers it
	Resumed    bool   // an earlier session
	ClientCert string // that it showed, and that counts, as RFC 9440 section 2.1 writes it; "" for none
}

// SecureOf returns what s says.
func SecureOf(s tls.ConnectionState) *Secure {
	out := &Secure{ServerName: strings.ToLower(s.ServerName), Version: s.Version, Resumed: s.DidResume}
	if len(s.PeerCertificates) > 0 {
		out.ClientCert = ":" + base64.StdEncoding.EncodeToString(s.PeerCertificates[0].Raw) + ":"
	}
	return out
}
