package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Names of the files that Init makes.
const (
	CACertFile = "ca.crt"
	CAKeyFile  = "ca.key"
	SecretFile = "secret"
)

// Modes of files that anybody may read, and of those that only edged may.
const (
	openMode   fs.FileMode = 0o644
	secretMode fs.FileMode = 0o600
)

// A file is what one of them will hold.
type file struct {
	name string
	mode fs.FileMode
	data []byte
}

// Init makes a fabric CA and a fleet secret in dir, which it creates when it is
// missing: ca.crt, ca.key, secret. It never overwrites a file: either all three
// are new, or it fails and leaves dir as it was.
func Init(dir, trustDomain string) error {
	ca, err := NewCA(trustDomain)
	if err != nil {
		return err
	}
	key, err := ca.KeyPEM()
	if err != nil {
		return err
	}
	s, err := NewSecret()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return create(dir, []file{
		{CACertFile, openMode, ca.CertPEM()},
		{CAKeyFile, secretMode, key},
		{SecretFile, secretMode, s.Encode()},
	})
}

// IssueTo signs a certificate for the node geo/node with the CA in dir, and
// writes GEO-NODE.crt and GEO-NODE.key beside it. It never overwrites a file.
func IssueTo(dir, geo, node string) error {
	cert, err := os.ReadFile(filepath.Join(dir, CACertFile))
	if err != nil {
		return fmt.Errorf("%w; make a CA with: edgectl fabric init", err)
	}
	key, err := os.ReadFile(filepath.Join(dir, CAKeyFile))
	if err != nil {
		return err
	}
	ca, err := LoadCA(cert, key)
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	now := time.Now()
	nodeCert, nodeKey, err := ca.Issue(Peer{geo, node}, now.Add(-backdate), now.Add(NodeValidity))
	if err != nil {
		return err
	}
	base := geo + "-" + node
	return create(dir, []file{{base + ".crt", openMode, nodeCert}, {base + ".key", secretMode, nodeKey}})
}

// create makes all files or none. A file appears under its name when it is
// whole and on disk.
func create(dir string, files []file) (err error) {
	var made []string
	defer func() {
		if err != nil {
			for _, path := range made {
				_ = os.Remove(path)
			}
		}
	}()
	for _, f := range files {
		path := filepath.Join(dir, f.name)
		if err := f.link(path); err != nil {
			return err
		}
		made = append(made, path)
	}
	return nil
}

// link writes f beside path and links it there, which fails when path exists.
func (f file) link(path string) (err error) {
	temp, err := os.CreateTemp(filepath.Dir(path), "."+f.name+".*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temp.Name()) }()
	_, err = temp.Write(f.data)
	err = errors.Join(err, temp.Chmod(f.mode), temp.Sync(), temp.Close())
	if err != nil {
		return err
	}
	err = os.Link(temp.Name(), path)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists and is not overwritten; move it away first", path)
	}
	return err
}

// Exposed returns a warning when others than the owner may read or write the
// key or secret at path, and "" when all is well or path cannot be looked at.
func Exposed(path string) string {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o077 == 0 {
		return ""
	}
	return fmt.Sprintf("%s can be read by others (mode %04o): chmod 600 %s", path, info.Mode().Perm(), path)
}
