package fabric

import (
	"strconv"
	"time"

	"github.com/hashicorp/serf/serf"

	"anyedge/fabric/identity"
	"anyedge/internal/world"
)

// What tests need to play a node that misbehaves.
const (
	ALPN          = alpn
	StreamRecords = streamRecords
)

// An Envelope is a record as it travels.
type Envelope = envelope

// A Content is what a record says.
type Content = content

// An Ask opens an exchange of records.
type Ask = ask

// Sign signs whatever body says.
func Sign(id *identity.Identity, body []byte) (Envelope, error) { return signBody(id, body) }

// DecodeEnvelope reads a record without looking at its signature.
func DecodeEnvelope(e Envelope) (any, error) { return decodeEnvelope(e) }

// RingOf returns the ring that a record holds, nil for none.
func RingOf(r any) *world.Ring { return r.(*record).ring }

// EncodeProbe returns a probe that describes geo.
func EncodeProbe(seq uint32, geo string, l world.Load) []byte {
	return (&probe{kind: datagramProbe, seq: seq, geo: geo, load: l}).encode()
}

// RecodeProbe decodes a datagram and encodes what it said.
func RecodeProbe(b []byte) ([]byte, world.Load, error) {
	p, err := decodeProbe(b)
	if err != nil {
		return nil, world.Load{}, err
	}
	return p.encode(), p.load, nil
}

// A Pulse is the history of the probes to one node.
type Pulse struct{ p pulse }

// Send enters a probe, while the connection has received so many packets.
func (p *Pulse) Send(at time.Time, packets uint64) uint32 {
	p.p.note(at, packets)
	return p.p.send(at)
}

// Answer enters an echo.
func (p *Pulse) Answer(at time.Time, seq uint32) { p.p.answer(at, seq) }

// Excuse forgives a time in which this node stood still.
func (p *Pulse) Excuse(d time.Duration) { p.p.excuse(d) }

// Refuse enters a refusal by the node's machine.
func (p *Pulse) Refuse(at time.Time) bool { return p.p.refuse(at) }

// Judge returns the verdicts.
func (p *Pulse) Judge(at time.Time, packets uint64) (alive, dead, hopeless bool) {
	p.p.note(at, packets)
	return p.p.alive, p.p.dead(at), p.p.hopeless(at)
}

// Measured returns the smoothed round trip and the loss.
func (p *Pulse) Measured(at time.Time) (time.Duration, float64) { return p.p.rtt, p.p.loss(at) }

// Held returns the body of a record that f holds, nil when it holds none.
func Held(f *Fabric, kind, name, writer string) []byte {
	for _, r := range f.records.get([]recordKey{{kind, name, writer}}) {
		return r.Body
	}
	return nil
}

// Bounds that tests fill.
const (
	MaxGossiped  = maxGossiped
	MaxExchanges = maxExchanges
)

// EncodeEcho returns an echo that describes geo.
func EncodeEcho(seq uint32, geo string) []byte {
	return (&probe{kind: datagramEcho, seq: seq, geo: geo}).encode()
}

// Probes returns how many probes f sent to the node.
func Probes(f *Fabric, node string) uint32 {
	r := f.roster.get(node)
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pulse.seq
}

// Gossip makes f hear of a member of that name, which says it is in geo.
func Gossip(f *Fabric, name, geo string) {
	f.members.heard(&serf.Member{Name: name, Status: serf.StatusAlive, Tags: map[string]string{"geo": geo}})
}

// Agree makes f take a peer's word for the age of a node's record, and returns
// when f then takes it for confirmed.
func Agree(f *Fabric, writer string, ms int64) time.Time {
	f.agree(map[string]int64{writer: ms}, time.Now())
	_, seen := f.records.nodeRecord(writer)
	return seen
}

// Told returns what judges whether a refusal is an event.
func Told() func(now time.Time) bool {
	var t told
	return t.next
}

// Sum returns what a geo tells others whose nodes have these loads.
func Sum(now time.Time, own world.Load, others ...world.Load) world.Load {
	l := newLoads("fra")
	l.set(now, own)
	for i, o := range others {
		o.At = now
		l.hear(Peer{Geo: "fra", Node: strconv.Itoa(i)}, o)
	}
	return l.sum(now)
}
