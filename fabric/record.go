package fabric

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"anyedge/fabric/identity"
	"anyedge/internal/world"
)

// Kinds of records that this version reads. Others are checked for their
// signature, kept and passed on.
const (
	kindNode  = "node"
	kindOrder = "order"
	kindRing  = "ring"
)

// Bounds of a record.
const (
	maxBody  = 64 << 10
	maxCert  = 8 << 10
	maxName  = 128
	maxEpoch = 1 << 53
)

// signedText precedes the body under a record's signature.
const signedText = "edge fabric record 1\x00"

// An envelope is a record as it travels: the writer's own bytes, so that fields
// which a reader does not know reach the next one unharmed.
type envelope struct {
	Body []byte `json:"body"` // JSON of a content
	Cert []byte `json:"cert"` // the writer's certificate, DER
	Sig  []byte `json:"sig"`  // ECDSA over SHA-256 of signedText and Body, ASN.1
}

// A content is what a writer says under one key.
type content struct {
	Kind    string          `json:"kind"`
	Name    string          `json:"name"`
	Writer  string          `json:"writer"` // the node's name
	Geo     string          `json:"geo"`    // the writer's
	Version world.Version   `json:"version"`
	At      int64           `json:"at"` // unix milliseconds, later than any other record of this kind and name that the writer knew
	Deleted bool            `json:"deleted,omitempty"`
	Payload json.RawMessage `json:"payload,omitempty"`
}

// A recordKey names what one writer says about one thing.
type recordKey struct{ kind, name, writer string }

// A record is a verified envelope and what it holds. It is immutable.
type record struct {
	envelope
	content
	key   [32]byte          // that signed it
	node  *world.NodeRecord // of kindNode
	order *world.Order      // of kindOrder; nil for one that is deleted or of no known kind
	ring  *world.Ring       // of kindRing; nil for one that is deleted
}

func (r *record) id() recordKey { return recordKey{r.Kind, r.Name, r.Writer} }

// A refusal says why a record is not taken.
type refusal struct {
	reason string // constant, for counting
	text   string
}

func (r *refusal) Error() string { return r.reason + ": " + r.text }

func refused(reason, format string, a ...any) *refusal {
	return &refusal{reason, fmt.Sprintf(format, a...)}
}

// sign makes a record of this node.
func sign(id *identity.Identity, c content) (*record, error) {
	body, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	e, err := signBody(id, body)
	if err != nil {
		return nil, err
	}
	r := &record{envelope: e, content: c, key: identity.KeyID(id.Leaf)}
	return r, r.interpret()
}

func signBody(id *identity.Identity, body []byte) (envelope, error) {
	sum := signedSum(body)
	sig, err := ecdsa.SignASN1(rand.Reader, id.Key, sum[:])
	return envelope{body, id.Leaf.Raw, sig}, err
}

func signedSum(body []byte) [32]byte {
	return sha256.Sum256(append([]byte(signedText), body...))
}

// verify reads an envelope that came from outside. The error is a *refusal.
func verify(id *identity.Identity, e envelope, now time.Time) (*record, error) {
	r, err := decodeEnvelope(e)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(e.Cert)
	if err != nil {
		return nil, refused("certificate", "%v", err)
	}
	peer, err := id.VerifyAt([]*x509.Certificate{cert}, now)
	if err != nil {
		return nil, refused("certificate", "of %s: %v", r.Writer, err)
	}
	if peer.Node != r.Writer || peer.Geo != r.Geo {
		return nil, refused("foreign writer", "%s signed a record of %s/%s", peer, r.Geo, r.Writer)
	}
	// A node starts within the time of its certificate. One that claims more could
	// never be superseded, not even by the next holder of its name.
	if r.Version.Epoch > uint64(max(cert.NotAfter.UnixMilli(), 0)) {
		return nil, refused("epoch", "%d of %s is after its certificate ends", r.Version.Epoch, r.Writer)
	}
	key, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if sum := signedSum(e.Body); !ok || !ecdsa.VerifyASN1(key, sum[:], e.Sig) {
		return nil, refused("signature", "of %s on %s %s is wrong", r.Writer, r.Kind, r.Name)
	}
	r.key = identity.KeyID(cert)
	return r, nil
}

// decodeEnvelope reads the body alone: its form and what its kind asks for.
func decodeEnvelope(e envelope) (*record, error) {
	if len(e.Body) > maxBody || len(e.Cert) > maxCert || len(e.Sig) > maxName {
		return nil, refused("too large", "body %d, certificate %d, signature %d bytes", len(e.Body), len(e.Cert), len(e.Sig))
	}
	r := &record{envelope: e}
	if err := json.Unmarshal(e.Body, &r.content); err != nil {
		return nil, refused("malformed", "%v", err)
	}
	for _, s := range []string{r.Kind, r.Name, r.Writer, r.Geo} {
		if s == "" || len(s) > maxName {
			return nil, refused("malformed", "kind %.20q, name %.20q, writer %.20q, geo %.20q", r.Kind, r.Name, r.Writer, r.Geo)
		}
	}
	if r.Version.Epoch > maxEpoch {
		return nil, refused("malformed", "epoch %d of %.40q", r.Version.Epoch, r.Writer)
	}
	if err := r.interpret(); err != nil {
		return nil, refused("invalid", "%s %s of %s: %v", r.Kind, r.Name, r.Writer, err)
	}
	return r, nil
}

// interpret reads the payload of the kinds that this version knows.
func (r *record) interpret() error {
	switch r.Kind {
	case kindNode:
		return r.interpretNode()
	case kindOrder:
		return r.interpretOrder()
	case kindRing:
		return r.interpretRing()
	}
	return nil
}

func (r *record) interpretNode() error {
	n := &world.NodeRecord{}
	if err := json.Unmarshal(r.Payload, n); err != nil {
		return err
	}
	switch {
	case r.Name != r.Writer || n.Node != r.Writer || n.Geo != r.Geo:
		return fmt.Errorf("it describes %s/%s", n.Geo, n.Node)
	case !(n.Capacity >= 0) || math.IsInf(n.Capacity, 0):
		return fmt.Errorf("capacity %v", n.Capacity)
	}
	for name, c := range n.Services {
		if c.Healthy < 0 || c.Total < c.Healthy {
			return fmt.Errorf("service %.40q: %d healthy of %d", name, c.Healthy, c.Total)
		}
	}
	n.Version = r.Version
	r.node = n
	return nil
}

func (r *record) interpretOrder() error {
	if r.Deleted {
		return nil
	}
	o := &world.Order{}
	if err := json.Unmarshal(r.Payload, o); err != nil {
		return err
	}
	if o.ID != r.Name {
		return fmt.Errorf("it holds the order %.40q", o.ID)
	}
	if o.Kind != world.DrainGeo && o.Kind != world.DrainNode {
		return nil // of a later version: kept and passed on
	}
	if err := world.CheckName(o.Target); err != nil {
		return fmt.Errorf("target: %w", err)
	}
	r.order = o
	return nil
}

// same reports whether two records are the same bytes.
func (r *record) same(o *record) bool { return bytes.Equal(r.Body, o.Body) }

// How long what is over is remembered, so that it does not come back from a
// node that was away.
const (
	keepDeleted = 30 * 24 * time.Hour
	keepExpired = 24 * time.Hour
)

// over reports whether the record may be forgotten.
func (r *record) over(now time.Time) bool {
	switch {
	case r.Deleted:
		return now.Sub(time.UnixMilli(r.At)) > keepDeleted
	case r.order != nil && !r.order.Until.IsZero():
		return now.Sub(r.order.Until) > keepExpired
	}
	return false
}
