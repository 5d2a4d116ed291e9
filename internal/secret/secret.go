// Package secret names where a secret is kept. A secret is never a value of
// the configuration file, so that the file can be shared, diffed and logged.
package secret

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// A Ref says where a secret is: exactly one of its fields is set.
type Ref struct {
	File       string `json:"file,omitempty" yaml:"file"`             // path of a file
	Env        string `json:"env,omitempty" yaml:"env"`               // name of an environment variable
	Credential string `json:"credential,omitempty" yaml:"credential"` // name given to systemd's LoadCredential
}

// IsZero reports whether r names nothing.
func (r Ref) IsZero() bool { return r == Ref{} }

// String tells where the secret is, never what it is.
func (r Ref) String() string {
	switch {
	case r.File != "":
		return "file " + r.File
	case r.Env != "":
		return "environment variable " + r.Env
	case r.Credential != "":
		return "credential " + r.Credential
	}
	return "nothing"
}

// Validate reports why r does not name one secret.
func (r Ref) Validate() error {
	n := 0
	for _, s := range []string{r.File, r.Env, r.Credential} {
		if s != "" {
			n++
		}
	}
	if n != 1 {
		return errors.New("want exactly one of {file: PATH}, {env: NAME} or {credential: NAME}")
	}
	return nil
}

// Load reads the secret. One trailing newline is removed from it.
func (r Ref) Load() ([]byte, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	if r.Env != "" {
		v, ok := os.LookupEnv(r.Env)
		if !ok {
			return nil, fmt.Errorf("environment variable %s is not set", r.Env)
		}
		return []byte(v), nil
	}
	path := r.File
	if r.Credential != "" {
		dir, ok := os.LookupEnv("CREDENTIALS_DIRECTORY")
		if !ok {
			return nil, fmt.Errorf("credential %s: CREDENTIALS_DIRECTORY is not set; start edged by systemd with LoadCredential=%s:…", r.Credential, r.Credential)
		}
		path = filepath.Join(dir, r.Credential)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b, []byte("\n")), nil
}
