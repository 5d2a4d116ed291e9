package fabric

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"anyedge/internal/world"
)

// probeVersion is the form of a probe. A later one may only append, and keeps
// the number as long as old nodes can read what they know.
const probeVersion = 1

// A probe asks whether a path lives; an echo is the answer. Both carry what
// their sender says of itself.
//
//	0      kind (datagramProbe, datagramEcho)
//	1      probeVersion
//	2-5    sequence number; an echo repeats the probe's
//	6      flags: 1 = the sender hears the receiver's probes
//	7-14   boot epoch of the sender's node record
//	15-22  counter of the sender's node record
//	23     length n of the geo's name, then the name
//	24+n   8 load values, IEEE 754
//
// All numbers are big-endian.
type probe struct {
	kind   byte
	seq    uint32
	hears  bool
	record world.Version
	geo    string // that the load describes
	load   world.Load
}

const (
	probeHead  = 24
	probeRates = 8 * 8
	flagHears  = 1
)

var errProbe = errors.New("probe is malformed")

// encode returns p as a datagram.
func (p *probe) encode() []byte {
	b := make([]byte, 0, probeHead+len(p.geo)+probeRates)
	b = append(b, p.kind, probeVersion)
	b = binary.BigEndian.AppendUint32(b, p.seq)
	flags := byte(0)
	if p.hears {
		flags |= flagHears
	}
	b = append(b, flags)
	b = binary.BigEndian.AppendUint64(b, p.record.Epoch)
	b = binary.BigEndian.AppendUint64(b, p.record.Counter)
	b = append(b, byte(len(p.geo)))
	b = append(b, p.geo...)
	for _, v := range rates(&p.load) {
		b = binary.BigEndian.AppendUint64(b, math.Float64bits(*v))
	}
	return b
}

// decodeProbe reads a datagram. Bytes behind what this version knows are left
// to later ones.
func decodeProbe(b []byte) (*probe, error) {
	if len(b) < probeHead {
		return nil, fmt.Errorf("%w: %d bytes", errProbe, len(b))
	}
	p := &probe{kind: b[0], seq: binary.BigEndian.Uint32(b[2:]), hears: b[6]&flagHears != 0}
	if p.kind != datagramProbe && p.kind != datagramEcho {
		return nil, fmt.Errorf("%w: kind %d", errProbe, p.kind)
	}
	if b[1] != probeVersion {
		return nil, fmt.Errorf("%w: version %d", errProbe, b[1])
	}
	p.record = world.Version{Epoch: binary.BigEndian.Uint64(b[7:]), Counter: binary.BigEndian.Uint64(b[15:])}
	n := int(b[23])
	if len(b) < probeHead+n+probeRates {
		return nil, fmt.Errorf("%w: %d bytes with a name of %d", errProbe, len(b), n)
	}
	p.geo = string(b[probeHead : probeHead+n])
	b = b[probeHead+n:]
	for i, v := range rates(&p.load) {
		*v = math.Float64frombits(binary.BigEndian.Uint64(b[8*i:]))
		if !(*v >= 0 && *v <= maxRate) {
			return nil, fmt.Errorf("%w: load value %d is %v", errProbe, i, *v)
		}
	}
	return p, nil
}
