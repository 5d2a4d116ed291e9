package h3

import (
	"cmp"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"

	"anyedge/internal/message"
	"anyedge/proxy/h3/qpack"
)

const (
	blockSize    = 16 << 10
	maxChunk     = 1<<14 - 1       // of content in one frame, so that its length has two bytes
	sectionRoom  = 1 + 4           // for the header of a HEADERS frame
	chunkRoom    = 1 + 2           // for that of a DATA frame
	leastRoom    = 1 << 10         // below which what is there is sent first
	stallTimeout = 2 * time.Minute // for a write: a stream that nobody reads holds its backend up
	unstalled    = 1200            // bytes that a stream takes at first without waiting
)

var blocks = sync.Pool{New: func() any { return new([blockSize]byte) }}

// An output gathers what is written to a stream next, so that a small message
// leaves in one piece.
type output struct {
	quic    *quic.Stream
	block   *[blockSize]byte // what b is made of, unless it has grown
	b       []byte
	pace    time.Duration // in which at least minRate has to be taken; 0: nobody hurries
	started bool          // something was written
	sent    bool          // a byte of it, as far as anybody knows
}

// A section is a field section to be written.
type section struct {
	status int // 0: none
	header message.Header
	length string // content-length; "": none is said
	date   string
	asking func(b []byte) []byte // writes a request's pseudo-header fields
}

// room makes sure that there is a block.
func (o *output) room() {
	if o.block == nil {
		o.block = blocks.Get().(*[blockSize]byte)
		o.b = o.block[:0]
	}
}

// drop gives the block back.
func (o *output) drop() {
	if o.block != nil {
		blocks.Put(o.block)
		o.block, o.b = nil, nil
	}
}

// head adds a HEADERS frame.
func (o *output) head(s section) {
	o.room()
	at := len(o.b)
	if at > 0 { // behind something: there must be no gap
		o.b = appendFrame(o.b, s.append(nil))
		return
	}
	var gap [sectionRoom]byte
	b := s.append(append(o.b, gap[:]...))
	length := uint64(len(b) - sectionRoom)
	from := sectionRoom - 1 - quicvarint.Len(length)
	b[from] = frameHeaders
	quicvarint.Append(b[from+1:from+1], length)
	o.b = b[from:]
}

// trailer adds the trailer section, if there is one.
func (o *output) trailer(h message.Header) {
	if len(h) > 0 {
		o.head(section{header: h})
	}
}

// appendFrame appends a HEADERS frame of that field section.
func appendFrame(b, fields []byte) []byte {
	return append(appendFrameHeader(b, frameHeaders, int64(len(fields))), fields...)
}

// append appends the field section.
func (s *section) append(b []byte) []byte {
	b = qpack.Begin(b)
	if s.status != 0 {
		b = qpack.AppendStatus(b, s.status)
	}
	if s.asking != nil {
		b = s.asking(b)
	}
	dated := s.date == ""
	for i := range s.header {
		f := &s.header[i]
		switch kindOf(f.Name) {
		case kindDropped:
			continue
		case kindHead:
			if s.status == 0 && s.asking == nil {
				continue
			}
		case kindDate:
			dated = true
		}
		b = qpack.Append(b, f.Name, clean(f.Value))
	}
	if !dated {
		b = qpack.Append(b, "date", s.date)
	}
	if s.length != "" {
		b = qpack.Append(b, "content-length", s.length)
	}
	return b
}

// What becomes of a field on its way out.
const (
	kindPlain = iota
	kindDropped
	kindHead // not for trailers
	kindDate
)

// kindOf looks at a field's name: its length rules most of them out.
func kindOf(name string) int {
	switch len(name) {
	case 2:
		if fold(name, "te") {
			return kindHead
		}
	case 4:
		switch {
		case fold(name, "date"):
			return kindDate
		case fold(name, "host"):
			return kindDropped
		}
	case 7:
		switch {
		case fold(name, "trailer"):
			return kindHead
		case fold(name, "upgrade"):
			return kindDropped
		}
	case 10:
		if fold(name, "connection") || fold(name, "keep-alive") {
			return kindDropped
		}
	case 14:
		if fold(name, "content-length") {
			return kindDropped
		}
	case 16:
		if fold(name, "proxy-connection") {
			return kindDropped
		}
	case 17:
		if fold(name, "transfer-encoding") {
			return kindDropped
		}
	}
	if !message.IsToken(name) {
		return kindDropped
	}
	return kindPlain
}

// flush sends what was gathered.
func (o *output) flush() error {
	if len(o.b) == 0 {
		return nil
	}
	p := o.b
	o.b = o.block[:0]
	paced := o.started || len(p) > unstalled
	o.started = true
	for {
		if paced {
			_ = o.quic.SetWriteDeadline(time.Now().Add(cmp.Or(o.pace, stallTimeout)))
		}
		n, err := o.quic.Write(p)
		o.sent = o.sent || n > 0
		if p = p[n:]; !isTimeout(err) || o.pace == 0 || atRate(int64(n)) < o.pace {
			return err
		}
	}
}

// chunk adds a DATA frame of what read gives, unless that is nothing. It returns how
// much that was, and the error of read.
func (o *output) chunk(read func(p []byte) (int, error)) (int, error) {
	var gap [chunkRoom]byte
	at := len(o.b)
	o.b = append(o.b, gap[:]...)
	p := o.b[len(o.b):min(cap(o.b), len(o.b)+maxChunk)]
	n, err := read(p)
	if n == 0 {
		o.b = o.b[:at]
		return 0, err
	}
	o.b = o.b[:len(o.b)+n]
	o.b[at], o.b[at+1], o.b[at+2] = frameData, 0x40|byte(n>>8), byte(n)
	return n, err
}
