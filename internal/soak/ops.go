package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"strings"

	"anyedge/internal/interop"
)

const maxSize = 2 << 20 // bytes of one content

// An operation is one thing that clients do; it returns how many bytes it
// checked.
type operation struct {
	name  string
	times int  // out of all
	h1    bool // over HTTP/1.1 alone
	do    func(ctx context.Context, w way) (int64, outcome)
}

var operations = []operation{
	{name: "get", times: 10, do: func(ctx context.Context, w way) (int64, outcome) { return get(ctx, w, "bytes") }},
	{name: "get chunked", times: 10, do: func(ctx context.Context, w way) (int64, outcome) { return get(ctx, w, "chunked") }},
	{name: "get slow", times: 2, do: func(ctx context.Context, w way) (int64, outcome) {
		return get(ctx, w, fmt.Sprintf("slow/%d", below(2000)))
	}},
	{name: "post", times: 8, do: func(ctx context.Context, w way) (int64, outcome) { return post(ctx, w, true) }},
	{name: "post chunked with trailers", times: 8, do: func(ctx context.Context, w way) (int64, outcome) { return post(ctx, w, false) }},
	{name: "echo", times: 6, do: echo},
	{name: "early answer", times: 3, do: early},
	{name: "events", times: 3, do: events},
	{name: "websocket", times: 4, h1: true, do: socket},
	{name: "broken answer", times: 3, do: broken},
	{name: "download given up", times: 6, do: giveUpDownload},
	{name: "upload given up", times: 6, do: giveUpUpload},
}

// draw picks one.
func draw() operation {
	var all int
	for _, o := range operations {
		all += o.times
	}
	n := below(all)
	for _, o := range operations {
		if n -= o.times; n < 0 {
			return o
		}
	}
	return operations[0]
}

// size is small often and large sometimes.
func size() int {
	return int(math.Exp(rand.Float64() * math.Log(maxSize))) //nolint:gosec // no secret
}

// ask sends a request and returns the answer, which the caller closes.
func ask(ctx context.Context, w way, method, path string, body io.Reader, h http.Header) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, w.base+path, body)
	if err != nil {
		return nil, err
	}
	r.Host = interop.Name
	maps.Copy(r.Header, h)
	if _, ok := body.(*bytes.Reader); body != nil && !ok {
		r.Trailer = http.Header{"X-Client": {"says"}}
	}
	return w.http.Do(r)
}

// whole asks and reads a whole answer, which has to be a 200. It returns the
// content, and what the answer says to be its sum.
func whole(ctx context.Context, w way, method, path string, body io.Reader, h http.Header) (got []byte, said string, out outcome) {
	resp, err := ask(ctx, w, method, path, body, h)
	if err != nil {
		return nil, "", failure(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if got, err = io.ReadAll(resp.Body); err != nil {
		return nil, "", failure(err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, "", outcome{kind: fmt.Sprint("status ", resp.StatusCode)}
	}
	return got, resp.Header.Get(interop.SumField) + resp.Trailer.Get(interop.SumField), outcome{}
}

func get(ctx context.Context, w way, kind string) (int64, outcome) {
	n := size()
	got, said, out := whole(ctx, w, "GET", fmt.Sprintf("/%s/%d", kind, n), nil, nil)
	if out.kind != "" {
		return 0, out
	}
	want := sum(interop.Content(n))
	if sum(got) != want || said != want {
		return 0, outcome{wrong: fmt.Sprintf("%d bytes of %d, said to be %q", len(got), n, said)}
	}
	return int64(n), outcome{}
}

func post(ctx context.Context, w way, known bool) (int64, outcome) {
	content := interop.Content(size())
	var body io.Reader = bytes.NewReader(content)
	if !known {
		body = io.NopCloser(body)
	}
	got, _, out := whole(ctx, w, "POST", "/sum", body, http.Header{interop.SumField: {sum(content)}})
	if out.kind != "" {
		return 0, out
	}
	var r interop.Receipt
	if err := json.Unmarshal(got, &r); err != nil {
		return 0, outcome{wrong: fmt.Sprintf("a receipt that is none: %q", got)}
	}
	if r.SHA256 != sum(content) || !known && r.Trailer.Get("X-Client") != "says" {
		return 0, outcome{wrong: fmt.Sprintf("an upload of %d bytes arrived as %d, trailers %v", len(content), r.Bytes, r.Trailer)}
	}
	return r.Bytes, outcome{}
}

func echo(ctx context.Context, w way) (int64, outcome) {
	content := interop.Content(size())
	got, said, out := whole(ctx, w, "POST", "/echo", bytes.NewReader(content), http.Header{interop.SumField: {sum(content)}})
	if out.kind != "" {
		return 0, out
	}
	if !bytes.Equal(got, content) || said != sum(content) {
		return 0, outcome{wrong: fmt.Sprintf("%d bytes came back as %d", len(content), len(got))}
	}
	return int64(len(content)), outcome{}
}

func early(ctx context.Context, w way) (int64, outcome) {
	resp, err := ask(ctx, w, "POST", "/early", bytes.NewReader(interop.Content(size())), nil)
	if err != nil {
		return 0, failure(err)
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return 0, failure(err)
	case resp.StatusCode != http.StatusForbidden:
		return 0, outcome{kind: fmt.Sprint("status ", resp.StatusCode)}
	case string(got) != "no need for more\n":
		return 0, outcome{wrong: fmt.Sprintf("an early answer is %q", got)}
	}
	return int64(len(got)), outcome{}
}

func events(ctx context.Context, w way) (int64, outcome) {
	n := 1 + below(50)
	got, _, out := whole(ctx, w, "GET", fmt.Sprintf("/events/%d", n), nil, nil)
	if out.kind != "" {
		return 0, out
	}
	var want strings.Builder
	for i := range n {
		fmt.Fprintf(&want, "id: %d\ndata: event %d\n\n", i, i)
	}
	if string(got) != want.String() {
		return 0, outcome{wrong: fmt.Sprintf("%d events came as %q", n, got)}
	}
	return int64(len(got)), outcome{}
}

// broken asks for an answer that its backend breaks off: it must not look
// whole.
func broken(ctx context.Context, w way) (int64, outcome) {
	n := 2 + size()
	got, _, out := whole(ctx, w, "GET", fmt.Sprintf("/broken/%d", n), nil, nil)
	switch {
	case out.kind == "":
		return 0, outcome{wrong: fmt.Sprintf("half of %d bytes came as a whole of %d", n, len(got))}
	case strings.HasPrefix(out.kind, "status") && out.kind != "status 502":
		return 0, out
	}
	return 0, outcome{}
}

func giveUpDownload(ctx context.Context, w way) (int64, outcome) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	n := size()
	resp, err := ask(ctx, w, "GET", fmt.Sprintf("/chunked/%d", n), nil, nil)
	if err != nil {
		return 0, failure(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return 0, outcome{kind: fmt.Sprint("status ", resp.StatusCode)}
	}
	got := make([]byte, below(n+1))
	if _, err := io.ReadFull(resp.Body, got); err != nil {
		return 0, failure(err)
	}
	if !bytes.Equal(got, interop.Content(n)[:len(got)]) {
		return 0, outcome{wrong: fmt.Sprintf("the first %d bytes of %d", len(got), n)}
	}
	return int64(len(got)), outcome{}
}

var errGivenUp = errors.New("given up")

// giveUpUpload breaks its upload off: it must not be taken for a whole one,
// which the application sees by the sum.
func giveUpUpload(ctx context.Context, w way) (int64, outcome) {
	content := interop.Content(2 + size())
	part := content[:below(len(content)-1)]
	body := io.MultiReader(bytes.NewReader(part), giveUp{})
	got, _, out := whole(ctx, w, "POST", "/sum", body, http.Header{interop.SumField: {sum(content)}})
	if out.kind == "" {
		return 0, outcome{wrong: fmt.Sprintf("%d bytes of an upload of %d were answered with %q", len(part), len(content), got)}
	}
	return 0, outcome{}
}

type giveUp struct{}

// Read gives up.
func (giveUp) Read([]byte) (int, error) { return 0, errGivenUp }

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}
