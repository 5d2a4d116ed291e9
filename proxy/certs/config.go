package certs

// Config is one entry of `certificates:`. Exactly one of Files and SelfSigned
// says where the certificate comes from.
type Config struct {
	Name       string   `json:"name" yaml:"name"`                         // unique; what listeners call it
	Domains    []string `json:"domains,omitempty" yaml:"domains"`         // for self_signed; names and IP addresses it is valid for
	Files      *Files   `json:"files,omitempty" yaml:"files"`             // PEM files
	SelfSigned bool     `json:"self_signed,omitempty" yaml:"self_signed"` // signed by a development CA kept under state.dir
}

// Files names the PEM files of a certificate chain and its key.
type Files struct {
	Cert string `json:"cert" yaml:"cert"` // PEM chain, the certificate first
	Key  string `json:"key" yaml:"key"`   // PEM key
}
