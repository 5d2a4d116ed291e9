package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/quic-go/quic-go/http3"

	"anyedge/internal/interop"
)

const (
	pause    = 200 * time.Millisecond // between two operations of a worker, at most
	opTime   = 30 * time.Second       // for one operation
	freshOne = 50                     // one of so many operations lets go of the kept connections first
)

// A way is one client of a worker.
type way struct {
	name string
	base string
	http *http.Client
	tls  *tls.Config
}

// load runs operations of all kinds through the edge until the time is over,
// and lets go of all connections.
func load(ctx context.Context, edge *interop.Edge, t *tally, length time.Duration) error {
	pem, err := os.ReadFile(edge.CA)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return errors.New("no certificate in " + edge.CA)
	}
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	var running sync.WaitGroup
	for range workers {
		running.Go(func() { work(ctx, edge, pool, t) })
	}
	running.Wait()
	return nil
}

// work is one worker: it runs operations one after another.
func work(ctx context.Context, edge *interop.Edge, pool *x509.CertPool, t *tally) {
	config := &tls.Config{RootCAs: pool, ServerName: interop.Name, MinVersion: tls.VersionTLS12}
	ways, letGo := clients(edge, config)
	defer letGo(true)
	for wait(ctx, some(0, pause)) {
		if below(freshOne) == 0 {
			letGo(false)
		}
		w := ways[below(len(ways))]
		op := draw()
		if op.h1 {
			w = ways[below(2)]
		}
		prefix := []string{"", "/h2c"}[below(2)]
		if op.h1 {
			prefix = ""
		}
		w.base += prefix
		// What has begun may end: the load's end is no fault.
		opCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), opTime)
		began := time.Now()
		bytes, out := op.do(opCtx, w)
		cancel()
		t.add(op.name, w.name+prefix, began, bytes, out)
	}
}

// clients makes one for each protocol. letGo closes the idle connections that they
// keep, and with last what else they hold.
func clients(edge *interop.Edge, config *tls.Config) (ways []way, letGo func(last bool)) {
	secure := "https://" + edge.TLS.String()
	var kept []*http.Transport
	client := func(set func(*http.Protocols)) *http.Client {
		var p http.Protocols
		set(&p)
		tr := &http.Transport{Protocols: &p, TLSClientConfig: config.Clone(), DisableCompression: true}
		kept = append(kept, tr)
		return &http.Client{Transport: tr}
	}
	h3 := &http3.Transport{TLSClientConfig: config.Clone(), DisableCompression: true}
	ways = []way{
		{"h1", "http://" + edge.Plain.String(), client(func(p *http.Protocols) { p.SetHTTP1(true) }), config},
		{"h1 TLS", secure, client(func(p *http.Protocols) { p.SetHTTP1(true) }), config},
		{"h2 TLS", secure, client(func(p *http.Protocols) { p.SetHTTP2(true) }), config},
		{"h2c", "http://" + edge.H2C.String(), client(func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) }), config},
		{"h3", secure, &http.Client{Transport: h3}, config},
	}
	return ways, func(last bool) {
		for _, tr := range kept {
			tr.CloseIdleConnections()
		}
		if last {
			_ = h3.Close()
		} else {
			h3.CloseIdleConnections()
		}
	}
}
