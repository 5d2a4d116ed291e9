package identity

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
)

// firstLine is the first line of a secret's file: it tells a reader what the
// file is, and this package which form it has.
const firstLine = "edge fleet secret v1"

// A Secret is what all nodes of a fleet share and nobody else knows. Keys are
// derived from it, it is never used as one.
type Secret [32]byte

// NewSecret makes a random secret.
func NewSecret() (Secret, error) {
	var s Secret
	_, err := rand.Read(s[:])
	return s, err
}

// ParseSecret reads what Encode wrote.
func ParseSecret(b []byte) (Secret, error) {
	var s Secret
	title, rest, _ := bytes.Cut(b, []byte("\n"))
	if string(bytes.TrimSpace(title)) != firstLine {
		return s, fmt.Errorf("fleet secret: the first line is not %q; make one with: edgectl fabric init", firstLine)
	}
	raw, err := hex.DecodeString(string(bytes.TrimSpace(rest)))
	if err != nil || len(raw) != len(s) {
		return s, errors.New("fleet secret: the second line is not 64 hexadecimal digits")
	}
	copy(s[:], raw)
	return s, nil
}

// Encode returns the form in which a secret is kept in a file.
func (s Secret) Encode() []byte {
	return fmt.Appendf(nil, "%s\n%x\n", firstLine, s[:])
}

// String hides the secret from logs.
func (s Secret) String() string { return "(fleet secret)" }

// GoString hides it from %#v.
func (s Secret) GoString() string { return s.String() }

// Key derives the key of one purpose (HKDF-SHA256, RFC 5869). epoch counts the
// rotations of that key.
func (s Secret) Key(purpose string, epoch uint32) [32]byte {
	info := binary.BigEndian.AppendUint32([]byte("edge/"+purpose+"\x00"), epoch)
	var key [32]byte
	k, err := hkdf.Key(sha256.New, s[:], nil, string(info), len(key))
	if err != nil {
		panic(err) // only for lengths that HKDF cannot give
	}
	copy(key[:], k)
	return key
}
