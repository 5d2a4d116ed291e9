package h3_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"anyedge/internal/message"
	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h3"
)

// A forwarder is the network between one client and the geo that its route
// leads to.
type forwarder struct {
	front, back *net.UDPConn
	client      atomic.Pointer[net.UDPAddr]
	geo         atomic.Pointer[net.UDPAddr]
}

// forward starts a forwarder to geo that runs until the test ends.
func forward(t *testing.T, geo net.Addr) *forwarder {
	t.Helper()
	f := &forwarder{front: listen(t), back: listen(t)}
	f.route(geo)
	var running sync.WaitGroup
	running.Go(func() {
		copyPackets(f.front, func(p []byte, from *net.UDPAddr) {
			f.client.Store(from)
			_, _ = f.back.WriteToUDP(p, f.geo.Load())
		})
	})
	running.Go(func() {
		copyPackets(f.back, func(p []byte, _ *net.UDPAddr) { _, _ = f.front.WriteToUDP(p, f.client.Load()) })
	})
	t.Cleanup(func() {
		_ = f.front.Close()
		_ = f.back.Close()
		running.Wait()
	})
	return f
}

// route makes geo the one that packets go to.
func (f *forwarder) route(geo net.Addr) { f.geo.Store(geo.(*net.UDPAddr)) }

func copyPackets(c *net.UDPConn, to func([]byte, *net.UDPAddr)) {
	p := make([]byte, 64<<10)
	for {
		n, from, err := c.ReadFromUDP(p)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			to(p[:n], from)
		}
	}
}

// A client whose geo has died learns it from the next geo, when both have the
// same stateless reset key; else it waits in vain.
func TestStatelessReset(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		nextKey [32]byte
		hangs   bool
	}{
		{"same key", [32]byte{1}, false},
		{"other key", [32]byte{2}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server, clientTLS := enginetest.TLS(t)
			ok := message.RoundTripFunc(func(context.Context, *message.Request) (*message.Response, error) {
				return enginetest.Text(200, "ok"), nil
			})
			geo := func(key [32]byte) *h3.Server {
				return h3.NewServer(h3.Config{TLS: server, StatelessResetKey: &key}, ok, enginetest.Log(t))
			}
			first := listen(t)
			died := make(chan struct{})
			go func() {
				_ = geo([32]byte{1}).Serve(first)
				close(died)
			}()
			next := serve(t, geo(tt.nextKey)).LocalAddr()
			network := forward(t, first.LocalAddr())

			ctx, cancel := context.WithTimeout(t.Context(), enginetest.Patience)
			defer cancel()
			q, err := quic.DialAddr(ctx, network.front.LocalAddr().String(), http3.ConfigureTLSConfig(clientTLS), &quic.Config{})
			if err != nil {
				t.Fatal(err)
			}
			defer q.CloseWithError(0, "")
			client := (&http3.Transport{}).NewClientConn(q)
			if err := get(ctx, client, first.LocalAddr()); err != nil {
				t.Fatal(err)
			}

			_ = first.Close() // as a killed process: without a goodbye
			enginetest.Within(t, "the first geo's end", died)
			network.route(next)
			bound := enginetest.Patience
			if tt.hangs {
				bound = 1500 * time.Millisecond
			}
			ctx, cancel = context.WithTimeout(t.Context(), bound)
			defer cancel()
			began := time.Now()
			err = get(ctx, client, first.LocalAddr())
			t.Logf("after %v: %v", time.Since(began), err)
			var reset *quic.StatelessResetError
			switch {
			case err == nil:
				t.Fatal("a dead connection gave an answer")
			case tt.hangs && !errors.Is(err, context.DeadlineExceeded):
				t.Fatalf("%v, want none in time", err)
			case !tt.hangs && !errors.As(err, &reset):
				t.Fatalf("%v, want a stateless reset", err)
			case !tt.hangs && time.Since(began) > time.Second:
				t.Fatalf("the reset took %v", time.Since(began))
			}
		})
	}
}

// get asks for an answer and reads it.
func get(ctx context.Context, rt http.RoundTripper, addr net.Addr) error {
	req, err := http.NewRequestWithContext(ctx, "GET", "https://"+addr.String()+"/", nil)
	if err != nil {
		return err
	}
	res, err := rt.RoundTrip(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return err
}
