package interop

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
)

// Fields of answers.
const (
	SumField    = "X-Sum"    // hexadecimal SHA-256 of the content; a trailer where it is not known before
	ServedField = "X-Served" // the protocol that the application was asked in
)

const (
	maxBytes   = 256 << 20 // of a content that is asked for
	maxMessage = 64 << 20  // of a WebSocket
	echoPart   = 16 << 10  // bytes that an echo reads at once
)

// A Receipt is what the application says about an upload.
type Receipt struct {
	Bytes   int64       `json:"bytes"`
	SHA256  string      `json:"sha256"`
	Method  string      `json:"method"`
	Target  string      `json:"target"`
	Proto   string      `json:"proto"` // that the application was asked in
	Header  http.Header `json:"header"`
	Trailer http.Header `json:"trailer,omitempty"`
}

// App is an application whose contents can be checked:
//
//	/bytes/N    N bytes of [Content], with ranges; X-Sum is their SHA-256
//	/chunked/N  the same without a length; X-Sum is a trailer
//	/gzip/N     the same, compressed
//	/echo       the content back while it comes; X-Sum is a trailer
//	/sum        a [Receipt]
//	/early      403 at once, whatever is still to come
//	/hints      103 with a Link, then a Receipt
//	/slow/MS/N  N bytes after some time
//	/broken/N   half of N bytes, and then the connection breaks
//	/events/N   that many server-sent events, 10 ms apart
//	/ws         a WebSocket that sends back what it gets
//
// A prefix /h2c is dropped, so that one host can have two services. A client
// says the sum of its upload in X-Sum; an upload that ends well and has
// another is told to wrong.
func App(wrong func(what string)) http.Handler {
	a := app{wrong}
	mux := http.NewServeMux()
	mux.HandleFunc("/bytes/{n}", sized(func(w http.ResponseWriter, r *http.Request, n int) {
		content := Content(n)
		sum := sha256.Sum256(content)
		w.Header().Set(SumField, hex.EncodeToString(sum[:]))
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(content)))
	}))
	mux.HandleFunc("/chunked/{n}", sized(func(w http.ResponseWriter, _ *http.Request, n int) { chunked(w, n) }))
	mux.HandleFunc("/gzip/{n}", sized(func(w http.ResponseWriter, _ *http.Request, n int) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = z.Write(Content(n))
		_ = z.Close()
	}))
	mux.HandleFunc("/echo", a.echo)
	mux.HandleFunc("/sum", a.receipt)
	mux.HandleFunc("/early", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no need for more", http.StatusForbidden) })
	mux.HandleFunc("/hints", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload; as=style")
		w.WriteHeader(http.StatusEarlyHints)
		a.receipt(w, r)
	})
	mux.HandleFunc("/broken/{n}", sized(func(w http.ResponseWriter, _ *http.Request, n int) {
		w.Header().Set("Content-Length", strconv.Itoa(n))
		_, _ = w.Write(Content(n)[:n/2])
		panic(http.ErrAbortHandler)
	}))
	mux.HandleFunc("/slow/{ms}/{n}", slow)
	mux.HandleFunc("/events/{n}", sized(events))
	mux.HandleFunc("/ws", socket)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(ServedField, r.Proto)
		r.URL.Path = strings.TrimPrefix(r.URL.Path, "/h2c")
		mux.ServeHTTP(w, r)
	})
}

// noise repeats in a Content: its length is prime, so that bytes in a wrong
// place are wrong bytes.
var noise = sync.OnceValue(func() []byte {
	b := make([]byte, 1_048_573)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
})

// Content returns n bytes that follow from n alone and do not compress.
func Content(n int) []byte {
	b := make([]byte, n)
	from := noise()
	for at := copy(b, from[n%len(from):]); at < n; {
		at += copy(b[at:], from)
	}
	return b
}

type app struct{ wrong func(what string) }

// judge compares an upload that ended well with what its client said.
func (a app) judge(r *http.Request, sum hash.Hash) {
	if want := r.Header.Get(SumField); want != "" && want != hex.EncodeToString(sum.Sum(nil)) {
		a.wrong(fmt.Sprintf("an upload by %s %s is not what its client sent", r.Proto, r.RequestURI))
	}
}

// sized takes the number in the path.
func sized(h func(w http.ResponseWriter, r *http.Request, n int)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.PathValue("n"))
		if err != nil || n < 0 || n > maxBytes {
			http.Error(w, "want a number of bytes", http.StatusBadRequest)
			return
		}
		h(w, r, n)
	}
}

func chunked(w http.ResponseWriter, n int) {
	content := Content(n)
	sum := sha256.Sum256(content)
	w.Header().Set("Trailer", SumField)
	w.WriteHeader(http.StatusOK)
	for len(content) > 0 {
		part := content[:min(len(content), 10_000)]
		if _, err := w.Write(part); err != nil {
			return
		}
		content = content[len(part):]
	}
	_ = http.NewResponseController(w).Flush()
	w.Header().Set(SumField, hex.EncodeToString(sum[:]))
}

func (a app) echo(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	_ = rc.EnableFullDuplex()
	w.Header().Set("Trailer", SumField)
	w.WriteHeader(http.StatusOK)
	_ = rc.Flush()
	sum := sha256.New()
	buf := make([]byte, echoPart)
	for {
		n, err := r.Body.Read(buf)
		sum.Write(buf[:n])
		if _, werr := w.Write(buf[:n]); werr != nil {
			return
		}
		_ = rc.Flush()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			panic(http.ErrAbortHandler) // half an upload is not to be taken for a whole one
		}
	}
	a.judge(r, sum)
	w.Header().Set(SumField, hex.EncodeToString(sum.Sum(nil)))
}

func (a app) receipt(w http.ResponseWriter, r *http.Request) {
	sum := sha256.New()
	n, err := io.Copy(sum, r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	a.judge(r, sum)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(Receipt{
		Bytes: n, SHA256: hex.EncodeToString(sum.Sum(nil)), Method: r.Method, Target: r.RequestURI, Proto: r.Proto,
		Header: r.Header, Trailer: r.Trailer,
	})
}

func slow(w http.ResponseWriter, r *http.Request) {
	ms, err := strconv.Atoi(r.PathValue("ms"))
	if err != nil || ms < 0 || ms > 60_000 {
		http.Error(w, "want a number of milliseconds", http.StatusBadRequest)
		return
	}
	select {
	case <-time.After(time.Duration(ms) * time.Millisecond):
		sized(func(w http.ResponseWriter, _ *http.Request, n int) { chunked(w, n) })(w, r)
	case <-r.Context().Done():
	}
}

func events(w http.ResponseWriter, r *http.Request, n int) {
	rc := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for i := range n {
		if _, err := fmt.Fprintf(w, "id: %d\ndata: event %d\n\n", i, i); err != nil {
			return
		}
		_ = rc.Flush()
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}

// socket sends back every message. It offers compression, and it judges
// frames and UTF-8 as RFC 6455 says.
func socket(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		InsecureSkipVerify: true, Subprotocols: []string{"echo"}, CompressionMode: websocket.CompressionContextTakeover,
	})
	if err != nil {
		return
	}
	defer func() { _ = c.CloseNow() }()
	c.SetReadLimit(maxMessage)
	for {
		kind, b, err := c.Read(r.Context())
		if err != nil {
			return
		}
		if kind == websocket.MessageText && !utf8.Valid(b) { // which coder/websocket leaves to us (RFC 6455 section 8.1)
			_ = c.Close(websocket.StatusInvalidFramePayloadData, "text is not UTF-8")
			return
		}
		if err := c.Write(r.Context(), kind, b); err != nil {
			return
		}
	}
}
