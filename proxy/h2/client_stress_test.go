package h2_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"anyedge/internal/message"
	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h2"
)

// Whatever is given up in whatever moment, no other exchange of the connection
// notices, and the connection's room comes back.
func TestGivenUpAnytime(t *testing.T) {
	_, addr := start(t, h2.Config{Streams: 5}, message.RoundTripFunc(func(_ context.Context, r *message.Request) (*message.Response, error) {
		content, err := whole(r)
		if err != nil {
			return nil, err
		}
		return enginetest.Text(200, r.Target+content), nil
	}))
	c := open(t, h2.ClientConfig{Addr: addr, Connect: enginetest.Patience})
	content := strings.Repeat("x", 40_000)
	var askers sync.WaitGroup
	for asker := range 12 {
		askers.Go(func() {
			for i := range 60 {
				ctx, cancel := context.WithCancelCause(t.Context())
				if i%2 == 0 {
					go func() {
						for range i * asker * 10 { // some while
							_ = ctx.Err()
						}
						cancel(errEnough)
					}()
				}
				r := get()
				r.Method, r.Target = "POST", fmt.Sprintf("/%d-%d", asker, i)
				r.Body = message.NewBody(io.NopCloser(strings.NewReader(content)), int64(len(content)), message.MiB, nil)
				_, got, err := ask(ctx, c, r)
				for message.SentBy(err) == message.NothingSent && err != nil && ctx.Err() == nil { // refused for what others gave up
					_, got, err = ask(ctx, c, r)
				}
				switch {
				case err != nil && (i%2 > 0 || !errors.Is(err, errEnough)):
					t.Error(err)
				case err == nil && got != r.Target+content:
					t.Errorf("%.20q, %d bytes", got, len(got))
				}
				cancel(nil)
			}
		})
	}
	askers.Wait()
	for range 5 * h2.MaxConns { // as many as there is room for at once
		res, err := c.RoundTrip(t.Context(), post())
		if err != nil {
			t.Fatal(err)
		}
		defer res.Close()
	}
}
