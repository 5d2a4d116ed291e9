package interop

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// Serve answers HTTP/1.1 and HTTP/2 without TLS by [App] until ctx ends.
func Serve(ctx context.Context, l net.Listener, wrong func(what string)) error {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{
		Handler: App(wrong), Protocols: &protocols, ReadHeaderTimeout: time.Minute,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// FreePort returns an address on 127.0.0.1 whose port neither TCP nor UDP uses
// at this moment.
func FreePort(ctx context.Context) (netip.AddrPort, error) {
	var lc net.ListenConfig
	for range 20 {
		l, err := lc.Listen(ctx, "tcp4", "127.0.0.1:0")
		if err != nil {
			return netip.AddrPort{}, err
		}
		addr := l.Addr().(*net.TCPAddr).AddrPort()
		u, err := lc.ListenPacket(ctx, "udp4", addr.String())
		_ = l.Close()
		if err == nil {
			return addr, u.Close()
		}
	}
	return netip.AddrPort{}, fmt.Errorf("no port of 20 is free for UDP")
}
