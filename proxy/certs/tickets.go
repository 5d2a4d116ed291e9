package certs

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"sync"
	"time"
)

// ticketEpoch is how long session tickets are sealed with one key; they can be
// used in the epoch after it as well.
const ticketEpoch = 12 * time.Hour

const ticketSalt = 16 // bytes

// A ticketer seals and opens session tickets (RFC 8446 section 4.6.1) with keys
// that follow from the time alone: who has the same secret opens them, wherever
// the client goes.
type ticketer struct {
	derive func(epoch uint32) [32]byte
	now    func() time.Time

	mu   sync.Mutex
	keys map[uint32][32]byte // derived so far, of epochs that are near
}

// processTickets returns a ticketer whose tickets nobody else opens.
func processTickets() *ticketer {
	var secret [32]byte
	_, _ = rand.Read(secret[:])
	return &ticketer{now: time.Now, derive: func(epoch uint32) (key [32]byte) {
		m := hmac.New(sha256.New, secret[:])
		_ = binary.Write(m, binary.BigEndian, epoch)
		m.Sum(key[:0])
		return key
	}}
}

func (t *ticketer) epoch() uint32 { return uint32(t.now().Unix() / int64(ticketEpoch/time.Second)) }

// key returns that of an epoch.
func (t *ticketer) key(epoch uint32) [32]byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	if k, ok := t.keys[epoch]; ok {
		return k
	}
	if len(t.keys) > 3 || t.keys == nil {
		t.keys = map[uint32][32]byte{}
	}
	k := t.derive(epoch)
	t.keys[epoch] = k
	return k
}

// aead returns what seals one ticket: its key follows from a salt, so that the
// nonce may always be the same.
func (t *ticketer) aead(epoch uint32, salt []byte) (cipher.AEAD, error) {
	key := t.key(epoch)
	m := hmac.New(sha256.New, key[:])
	m.Write(salt)
	block, err := aes.NewCipher(m.Sum(nil))
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// use makes c's tickets ours. scope says what a ticket is good for: one listener
// does not take another's when they ask for other things.
func (t *ticketer) use(c *tls.Config, scope string) {
	c.WrapSession = func(_ tls.ConnectionState, s *tls.SessionState) ([]byte, error) {
		plain, err := s.Bytes()
		if err != nil {
			return nil, err
		}
		return t.seal(plain, scope)
	}
	c.UnwrapSession = func(ticket []byte, _ tls.ConnectionState) (*tls.SessionState, error) {
		plain := t.open(ticket, scope)
		if plain == nil {
			return nil, nil //nolint:nilnil // no session: a whole handshake
		}
		s, err := tls.ParseSessionState(plain)
		if err != nil {
			return nil, nil //nolint:nilnil,nilerr // of another version
		}
		return s, nil
	}
}

// seal returns epoch, salt and the sealed session.
func (t *ticketer) seal(plain []byte, scope string) ([]byte, error) {
	epoch := t.epoch()
	out := binary.BigEndian.AppendUint32(make([]byte, 0, 4+ticketSalt+len(plain)+16), epoch)
	out = out[:4+ticketSalt]
	if _, err := rand.Read(out[4:]); err != nil {
		return nil, err
	}
	a, err := t.aead(epoch, out[4:])
	if err != nil {
		return nil, fmt.Errorf("session ticket: %w", err)
	}
	return a.Seal(out, make([]byte, a.NonceSize()), plain, []byte(scope)), nil //nolint:gosec // one message to a key
}

// open returns the session of a ticket; nil: it is not ours, or not any more.
func (t *ticketer) open(ticket []byte, scope string) []byte {
	if len(ticket) < 4+ticketSalt {
		return nil
	}
	epoch, now := binary.BigEndian.Uint32(ticket), t.epoch()
	if epoch+1 < now || epoch > now+1 { // another node's clock may be ahead
		return nil
	}
	a, err := t.aead(epoch, ticket[4:4+ticketSalt])
	if err != nil {
		return nil
	}
	plain, err := a.Open(nil, make([]byte, a.NonceSize()), ticket[4+ticketSalt:], []byte(scope))
	if err != nil {
		return nil
	}
	return plain
}
