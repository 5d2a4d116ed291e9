package interop

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// Serve answers HTTP/1.1 and HTTP/2 without TLS until ctx ends.
func Serve(ctx context.Context, l net.Listener, handler http.Handler) error {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{
		Handler: handler, Protocols: &protocols, ReadHeaderTimeout: time.Minute,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// FreePorts returns n addresses on 127.0.0.1 whose ports neither TCP nor UDP
// uses at this moment.
func FreePorts(ctx context.Context, n int) ([]netip.AddrPort, error) {
	var lc net.ListenConfig
	var found []netip.AddrPort
	for range 20 + n {
		l, err := lc.Listen(ctx, "tcp4", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }() // not before all are found: no port comes twice
		addr := l.Addr().(*net.TCPAddr).AddrPort()
		u, err := lc.ListenPacket(ctx, "udp4", addr.String())
		if err != nil {
			continue
		}
		_ = u.Close()
		if found = append(found, addr); len(found) == n {
			return found, nil
		}
	}
	return nil, errors.New("too few ports are free for TCP and UDP")
}
