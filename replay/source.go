package replay

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"anyedge/internal/world"

	"github.com/dunglas/httpsfv"
)

// ErrSignature means that a Replay-Geo-Src was not made by this fleet.
var ErrSignature = errors.New("the signature is not this fleet's")

// A Source says who replayed a request and where it was before.
type Source struct {
	Geo   string    // of the edge that replayed it
	Node  string    // that edge
	At    time.Time // with the precision of a second
	Hops  []string  // geos that handled the request before, the first one first
	State string    // from the instruction; "" for none
}

// A Signer makes and verifies Replay-Geo-Src. It may be shared.
type Signer struct {
	key ed25519.PrivateKey
}

// NewSigner returns the signer whose key comes from seed, a secret that all
// edges of the fleet derive alike.
func NewSigner(seed [32]byte) *Signer {
	return &Signer{key: ed25519.NewKeyFromSeed(seed[:])}
}

// Public returns the key an app verifies with.
func (s *Signer) Public() ed25519.PublicKey {
	return s.key.Public().(ed25519.PublicKey)
}

const sigMember = ", sig="

// Sign returns the field value that says src.
func (s *Signer) Sign(src Source) (string, error) {
	d := httpsfv.NewDictionary()
	d.Add("geo", nameItem(src.Geo))
	d.Add("node", nameItem(src.Node))
	d.Add("t", httpsfv.NewItem(src.At.Unix()))
	hops := httpsfv.InnerList{Params: httpsfv.NewParams()}
	for _, h := range src.Hops {
		hops.Items = append(hops.Items, nameItem(h))
	}
	d.Add("hops", hops)
	if src.State != "" {
		d.Add("state", httpsfv.NewItem(src.State))
	}
	signed, err := httpsfv.Marshal(d)
	if err != nil {
		return "", fmt.Errorf("%s: %w", FieldSource, err)
	}
	sig := ed25519.Sign(s.key, []byte(signed))
	return signed + sigMember + ":" + base64.StdEncoding.EncodeToString(sig) + ":", nil
}

// Verify returns what a field value says, when the holder of pub's private key
// signed it. A bad signature gives [ErrSignature].
func Verify(pub ed25519.PublicKey, value string) (Source, error) {
	i := strings.LastIndex(value, sigMember)
	if i < 0 {
		return Source{}, fmt.Errorf("%s: no sig at its end", FieldSource)
	}
	text, ok := strings.CutPrefix(value[i+len(sigMember):], ":")
	text, closed := strings.CutSuffix(text, ":")
	sig, err := base64.StdEncoding.Strict().DecodeString(text)
	if !ok || !closed || err != nil {
		return Source{}, fmt.Errorf("%s: sig is no byte sequence (RFC 9651 section 3.3.5)", FieldSource)
	}
	if len(pub) != ed25519.PublicKeySize || !ed25519.Verify(pub, []byte(value[:i]), sig) {
		return Source{}, ErrSignature
	}
	d, err := httpsfv.UnmarshalDictionary([]string{value[:i]})
	if err != nil {
		return Source{}, fmt.Errorf("%s: %w", FieldSource, err)
	}
	return readSource(d)
}

// readSource reads a dictionary whose signature holds.
func readSource(d *httpsfv.Dictionary) (Source, error) {
	src := Source{Geo: memberText(d, "geo"), Node: memberText(d, "node"), State: memberText(d, "state")}
	if it, ok := memberItem(d, "t"); ok {
		if t, ok := it.Value.(int64); ok {
			src.At = time.Unix(t, 0)
		}
	}
	if m, ok := d.Get("hops"); ok {
		if list, ok := m.(httpsfv.InnerList); ok {
			for _, it := range list.Items {
				src.Hops = append(src.Hops, itemText(it))
			}
		}
	}
	if src.Geo == "" || src.At.IsZero() {
		return Source{}, fmt.Errorf("%s: geo and t are required", FieldSource)
	}
	return src, nil
}

func memberItem(d *httpsfv.Dictionary, key string) (httpsfv.Item, bool) {
	m, _ := d.Get(key)
	it, ok := m.(httpsfv.Item)
	return it, ok
}

func memberText(d *httpsfv.Dictionary, key string) string {
	it, _ := memberItem(d, key)
	return itemText(it)
}

// itemText returns the text of a token or string, "" for other types.
func itemText(it httpsfv.Item) string {
	switch v := it.Value.(type) {
	case httpsfv.Token:
		return string(v)
	case string:
		return v
	}
	return ""
}

// nameItem returns name as a token; as a string when it has no token's form.
func nameItem(name string) httpsfv.Item {
	if world.CheckName(name) == nil {
		return httpsfv.NewItem(httpsfv.Token(name))
	}
	return httpsfv.NewItem(name)
}
