package fabric

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/quic-go/quic-go"

	"anyedge/internal/world"
)

const (
	// pullEvery is how often some peer is asked for what this node lacks.
	pullEvery = 2500 * time.Millisecond
	// exchangeWait bounds one exchange of records.
	exchangeWait = 5 * time.Second
	// maxExchange bounds one message of an exchange.
	maxExchange = 8 << 20
	// maxReply is the size of records after which a reply stops and says that
	// there are more.
	maxReply = 2 << 20
	// maxExchanges is how many exchanges of one connection are read at a time; an
	// honest peer begins one after the other.
	maxExchanges = 2
	// passOn is to how many peers news of others are passed on at once; the
	// others get them by pulling.
	passOn = 3
)

// An ask opens an exchange: it brings records (a push), or tells which ones
// the asker has (a pull).
type ask struct {
	Records []envelope `json:"records,omitempty"`
	Pull    bool       `json:"pull,omitempty"`
	Have    []have     `json:"have,omitempty"`
}

// A have is one record that the asker holds.
type have struct {
	Kind    string        `json:"k"`
	Name    string        `json:"n"`
	Writer  string        `json:"w"`
	Version world.Version `json:"v"`
}

// A reply answers a pull.
type reply struct {
	Records []envelope       `json:"records,omitempty"`
	More    bool             `json:"more,omitempty"` // ask again
	Ages    map[string]int64 `json:"ages,omitempty"` // by writer: ms since its node record was confirmed
}

// sync exchanges records with the node, one exchange at a time, until ctx ends.
func (r *remote) sync(ctx context.Context) {
	for {
		var err error
		select {
		case <-r.push:
			err = r.pushPending(ctx)
		case <-r.pull:
			err = r.pullAll(ctx)
		case <-ctx.Done():
			return
		}
		if err != nil {
			r.f.log.Debug("exchange of records", "node", r.name, "err", err)
		}
	}
}

// askAgain is the least time between two pulls that a node's probes cause, so
// that one which speaks of a record and never gives it costs little.
const askAgain = 300 * time.Millisecond

// mayPull reports whether the node's probes may cause a pull now.
func (r *remote) mayPull(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.asked) < askAgain {
		return false
	}
	r.asked = now
	return true
}

// later notes that the node should get the records under keys.
func (r *remote) later(records []*record) {
	r.mu.Lock()
	for _, rec := range records {
		r.pending[rec.id()] = struct{}{}
	}
	r.mu.Unlock()
	signal(r.push)
}

func (r *remote) pushPending(ctx context.Context) error {
	r.mu.Lock()
	keys := make([]recordKey, 0, len(r.pending))
	for k := range r.pending {
		keys = append(keys, k)
	}
	clear(r.pending)
	r.mu.Unlock()
	l := r.live()
	if l == nil || len(keys) == 0 {
		return nil // it will pull when it is back
	}
	var message ask
	size := 0
	for _, rec := range r.f.records.get(keys) {
		if size += rec.size(); size > maxReply {
			break // the rest is pulled
		}
		message.Records = append(message.Records, rec.envelope)
	}
	_, err := l.exchange(ctx, message)
	return err
}

func (r *remote) pullAll(ctx context.Context) error {
	for range maxRecords {
		l := r.live()
		if l == nil {
			return nil
		}
		message := ask{Pull: true}
		for _, rec := range r.f.records.all("") {
			message.Have = append(message.Have, have{rec.Kind, rec.Name, rec.Writer, rec.Version})
		}
		answer, err := l.exchange(ctx, message)
		if err != nil {
			return err
		}
		now := time.Now()
		taken := r.f.take(answer.Records, l.peer, now)
		r.f.agree(answer.Ages, now)
		if !answer.More || taken == 0 {
			return nil
		}
	}
	return nil
}

// maxAge is the oldest word about a record that is worth anything.
const maxAge = time.Hour

// agree takes a peer's word for when records were confirmed.
func (f *Fabric) agree(ages map[string]int64, now time.Time) {
	for writer, ms := range ages {
		if ms < 0 || ms > maxAge.Milliseconds() || writer == f.setup.NodeName {
			continue
		}
		if rec, _ := f.records.nodeRecord(writer); rec != nil {
			f.records.confirm(writer, rec.Version, now.Add(-time.Duration(ms)*time.Millisecond))
		}
	}
}

// exchange sends one ask and reads its reply.
func (l *link) exchange(ctx context.Context, message ask) (*reply, error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeWait)
	defer cancel()
	b, err := json.Marshal(message)
	if err != nil {
		return nil, err
	}
	s, err := l.openStream(ctx, streamRecords)
	if err != nil {
		return nil, err
	}
	defer s.CancelRead(0)
	_ = s.SetDeadline(time.Now().Add(exchangeWait))
	if _, err := s.Write(b); err != nil {
		s.CancelWrite(0)
		return nil, err
	}
	if err := s.Close(); err != nil {
		return nil, err
	}
	answer := &reply{}
	return answer, readMessage(s, answer)
}

// serveRecords answers one exchange. What waits for its turn is not read, so
// that QUIC's flow control bounds what a peer can make this node hold.
func (l *link) serveRecords(s *quic.Stream) {
	select {
	case l.exchanges <- struct{}{}:
		defer func() { <-l.exchanges }()
	case <-l.conn.Context().Done():
		return
	}
	_ = s.SetDeadline(time.Now().Add(exchangeWait))
	var message ask
	if err := readMessage(s, &message); err != nil {
		l.f.refuse.add(RecordRefused, "malformed", l.peer, err.Error())
		s.CancelRead(0)
		s.CancelWrite(0)
		return
	}
	now := time.Now()
	l.f.take(message.Records, l.peer, now)
	var answer reply
	if message.Pull {
		answer = l.f.answer(message.Have, l.peer, now)
	}
	b, err := json.Marshal(answer)
	if err == nil {
		_, err = s.Write(b)
	}
	if err != nil {
		s.CancelWrite(0)
		return
	}
	_ = s.Close()
}

func readMessage(r io.Reader, into any) error {
	b, err := io.ReadAll(io.LimitReader(r, maxExchange+1))
	if err != nil {
		return err
	}
	if len(b) > maxExchange {
		return errors.New("message is too large")
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("message: %w", err)
	}
	return nil
}

// answer returns what the asker lacks. When the asker holds something later
// than this node, this node asks it in turn.
func (f *Fabric) answer(list []have, from Peer, now time.Time) reply {
	held := make(map[recordKey]world.Version, len(list))
	for _, h := range list {
		held[recordKey{h.Kind, h.Name, h.Writer}] = h.Version
	}
	answer := reply{Ages: map[string]int64{}}
	size, behind, mine := 0, false, 0
	for _, rec := range f.records.all("") {
		v, ok := held[rec.id()]
		if ok {
			mine++
		}
		switch {
		case ok && rec.Version.Less(v):
			behind = true
		case ok && rec.Version == v:
		case size > maxReply:
			answer.More = true
		default:
			size += rec.size()
			answer.Records = append(answer.Records, rec.envelope)
		}
	}
	if behind || mine < len(held) {
		if r := f.roster.get(from.Node); r != nil {
			signal(r.pull)
		}
	}
	for writer, age := range f.records.ages(now) {
		answer.Ages[writer] = age.Milliseconds()
	}
	return answer
}

// size is roughly what the record takes in a message.
func (r *record) size() int { return len(r.Body) + len(r.Cert) + len(r.Sig) }

// take merges records that a peer sent, passes news on, and returns how many
// were news.
func (f *Fabric) take(list []envelope, from Peer, now time.Time) int {
	var news []*record
	for _, e := range list {
		r, err := f.takeOne(e, from, now)
		if err != nil {
			reason := "invalid"
			if why, ok := errors.AsType[*refusal](err); ok {
				reason = why.reason
			}
			f.refuse.add(RecordRefused, reason, from, err.Error())
		}
		news = append(news, r...)
	}
	if len(news) > 0 {
		f.spread(news, from.Node)
	}
	return len(news)
}

// maxAhead is how far the clock of an order's writer may be ahead. The latest
// order counts: one from the far future could not be undone.
const maxAhead = 24 * time.Hour

// takeOne merges one record, and returns what there is to pass on.
func (f *Fabric) takeOne(e envelope, from Peer, now time.Time) ([]*record, error) {
	r, err := verify(f.id, e, now)
	if err != nil {
		return nil, err
	}
	if r.Kind == kindOrder && r.At > now.Add(maxAhead).UnixMilli() {
		return nil, refused("time", "order %s of %s is from %s", r.Name, r.Writer, time.UnixMilli(r.At).UTC().Format(time.RFC3339))
	}
	if w := f.roster.get(r.Writer); w != nil && w.heldByOther(r.key, now) {
		return nil, refused("duplicate name", "%s's record has the key %x, which is not its holder's", r.Writer, r.key[:4])
	}
	verdict, err := f.records.apply(r, now)
	if err != nil {
		return nil, err
	}
	switch verdict {
	case isOld:
		f.refuse.silent(RecordRefused, "stale")
	case isMine:
		return f.records.supersede(r.Version)
	case isNew:
		if r.Kind == kindNode && r.Writer == from.Node {
			f.records.confirm(r.Writer, r.Version, now)
		}
		return []*record{r}, nil
	case isKnown, isOver:
	}
	return nil, nil
}

// heldByOther reports whether another key than key holds the node's name.
func (r *remote) heldByOther(key [32]byte, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.key != [32]byte{} && r.key != key && (r.out != nil || len(r.in) > 0 || now.Sub(r.keySeen) < holdKey)
}

// spread sends news: this node's own to every peer, those that came from
// another to a few.
func (f *Fabric) spread(news []*record, from string) {
	signal(f.rebuild)
	for _, r := range news {
		if r.Kind == kindOrder {
			signal(f.unsaved)
			break
		}
	}
	list := f.roster.all()
	if from != "" {
		shuffle(list)
	}
	sent := 0
	for _, r := range list {
		if r.name == from || r.live() == nil {
			continue
		}
		if from != "" && sent == passOn {
			break
		}
		r.later(news)
		sent++
	}
}

// pullSome asks one random peer after another until ctx ends, so that what a
// push missed arrives all the same.
func (f *Fabric) pullSome(ctx context.Context) {
	for {
		select {
		case <-time.After(pullEvery):
		case <-ctx.Done():
			return
		}
		if f.records.prune(time.Now()) {
			signal(f.unsaved)
			signal(f.rebuild)
		}
		if up := f.roster.up(); len(up) > 0 {
			shuffle(up)
			signal(up[0].pull)
		}
	}
}
