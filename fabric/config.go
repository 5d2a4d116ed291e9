package fabric

import "anyedge/internal/secret"

// Config is the fleet's part: `fabric:`.
type Config struct {
	TrustDomain string     `json:"trust_domain" yaml:"trust_domain"` // node certificates: spiffe://TRUST_DOMAIN/geo/GEO/node/NAME
	CA          secret.Ref `json:"ca" yaml:"ca"`                     // PEM; may hold two CAs during rotation
	Secret      secret.Ref `json:"secret" yaml:"secret"`             // the fleet secret; every shared key is derived from it
}

// NodeConfig is this machine's part: `node.fabric:`.
type NodeConfig struct {
	Listen string            `json:"listen" yaml:"listen"`     // ADDRESS:PORT; UDP
	Cert   secret.Ref        `json:"cert" yaml:"cert"`         // PEM certificate of this node
	Key    secret.Ref        `json:"key" yaml:"key"`           // PEM key of Cert
	Via    map[string]string `json:"via,omitempty" yaml:"via"` // node name → ADDRESS:PORT where this node reaches it, when not at the address it advertises (a private interconnect, NAT)
}
