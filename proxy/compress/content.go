package compress

import (
	"errors"
	"io"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"anyedge/internal/message"
)

// The content codings, as fields name them.
const (
	zstdName = "zstd"
	brName   = "br"
	gzipName = "gzip"
)

// Levels that an edge can afford: about the cost of TLS for the same content.
const (
	gzipLevel   = 5
	brLevel     = 4
	brWindow    = 18        // log2 of bytes
	zstdWindow  = 512 << 10 // clients must take 8 MiB (RFC 9659)
	sourceBlock = 16 << 10
)

// An encoder compresses what is written to it.
type encoder interface {
	io.WriteCloser
	Flush() error
	Reset(w io.Writer)
}

// tools are an encoder and the block that content is read into.
type tools struct {
	encoder encoder
	block   [sourceBlock]byte
}

var pools = map[string]*sync.Pool{
	zstdName: {New: func() any {
		w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest),
			zstd.WithWindowSize(zstdWindow), zstd.WithLowerEncoderMem(true))
		if err != nil {
			panic(err) // the options are constants
		}
		return &tools{encoder: w}
	}},
	brName: {New: func() any {
		return &tools{encoder: brotli.NewWriterOptions(nil, brotli.WriterOptions{Quality: brLevel, LGWin: brWindow})}
	}},
	gzipName: {New: func() any {
		w, err := gzip.NewWriterLevel(nil, gzipLevel)
		if err != nil {
			panic(err) // the level is a constant
		}
		return &tools{encoder: w}
	}},
}

// content is an answer's content, compressed while it is read.
type content struct {
	src   io.ReadCloser
	live  bool // nobody knows how much comes, or when: what is there goes at once
	pool  *sync.Pool
	tools *tools // nil: given back
	freed func()

	out  []byte // compressed
	from int    // of it, what was read
	end  error  // behind out; nil: more comes
}

// newContent returns src compressed; freed is called once when it ends.
func newContent(name string, src io.ReadCloser, live bool, freed func()) *content {
	c := &content{src: src, live: live, pool: pools[name], freed: freed}
	c.tools = c.pool.Get().(*tools)
	c.tools.encoder.Reset((*sink)(c))
	return c
}

// A sink is where the encoder of a content writes.
type sink content

// Write never fails.
func (s *sink) Write(p []byte) (int, error) {
	s.out = append(s.out, p...)
	return len(p), nil
}

// Read returns the next compressed bytes. An error of the source ends them as it
// is: what was there before it has been read, and never looks whole.
func (c *content) Read(p []byte) (int, error) {
	for c.from == len(c.out) && c.end == nil {
		c.out, c.from = c.out[:0], 0
		c.more()
	}
	n := copy(p, c.out[c.from:])
	c.from += n
	if c.from < len(c.out) {
		return n, nil
	}
	return n, c.end
}

// more compresses a block of the source.
func (c *content) more() {
	t := c.tools
	n, err := c.src.Read(t.block[:])
	if n > 0 {
		if _, failed := t.encoder.Write(t.block[:n]); failed != nil {
			err = failed
		}
	}
	switch {
	case errors.Is(err, io.EOF):
		if failed := t.encoder.Close(); failed != nil {
			err = failed
		}
	case n > 0 && (err != nil || c.live && message.Ready(c.src) == 0):
		if failed := t.encoder.Flush(); failed != nil && err == nil {
			err = failed
		}
	}
	if err != nil {
		c.end = err
		c.release()
	}
}

// Ready returns how many bytes Read gives without waiting.
func (c *content) Ready() int { return len(c.out) - c.from }

// Close closes the source.
func (c *content) Close() error {
	if c.end == nil {
		c.end = io.ErrClosedPipe
	}
	c.release()
	return c.src.Close()
}

// release gives the tools back.
func (c *content) release() {
	if c.tools == nil {
		return
	}
	c.tools.encoder.Reset(nil)
	c.pool.Put(c.tools)
	c.tools = nil
	c.freed()
}
