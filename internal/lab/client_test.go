package lab_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"anyedge/internal/lab"
)

// An edge stands for a geo's edged: the demo app behind TLS, over h1, h2 and
// h3, with the key for stateless resets that all geos share.
type edge struct {
	site  *lab.Site
	trust *tls.Config
	web   *http.Server
	web3  *http3.Server
	quic  *quic.Transport
	udp   net.PacketConn
}

// selfSigned returns a certificate for 127.0.0.1.
func selfSigned(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// fleet is what edges share.
type fleet struct {
	cert tls.Certificate
	pool *x509.CertPool
	key  quic.StatelessResetKey
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{}
	f.cert, f.pool = selfSigned(t)
	_, _ = rand.Read(f.key[:])
	return f
}

func (f *fleet) trust() *tls.Config {
	return &tls.Config{RootCAs: f.pool, MinVersion: tls.VersionTLS13}
}

// edge starts one at addr.
func (f *fleet) edge(t *testing.T, geo, addr string) *edge {
	t.Helper()
	tcp, udp := listen(t, addr)
	app := lab.App(geo, geo+"-a")
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Edge-Geo", geo)
		app.ServeHTTP(w, r)
	})
	cfg := &tls.Config{Certificates: []tls.Certificate{f.cert}, MinVersion: tls.VersionTLS13}
	e := &edge{site: lab.NewSite(geo, tcp.Addr().(*net.TCPAddr).AddrPort()), trust: f.trust(), udp: udp}
	e.web = &http.Server{Handler: handler, TLSConfig: cfg.Clone()}
	e.web3 = &http3.Server{Handler: handler}
	e.quic = &quic.Transport{Conn: udp, StatelessResetKey: &f.key}
	l3, err := e.quic.ListenEarly(http3.ConfigureTLSConfig(cfg), &quic.Config{})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = e.web.ServeTLS(tcp, "", "") })
	wg.Go(func() { _ = e.web3.ServeListener(l3) })
	t.Cleanup(func() { e.kill(); e.web.Close(); e.web3.Close(); e.quic.Close(); wg.Wait() })
	return e
}

// kill makes the edge silent, as a SIGKILL would.
func (e *edge) kill() {
	e.site.Die()
	e.udp.Close()
	e.web.Close()
}

var protocols = []lab.Protocol{lab.H1, lab.H2, lab.H3}

func TestClientSpeaksItsProtocolFromItsAddress(t *testing.T) {
	f := newFleet(t)
	e, _ := newEntry(t, f.edge(t, "fra", "127.0.45.1").site)
	for _, p := range protocols {
		t.Run(string(p), func(t *testing.T) {
			c := lab.NewClient(e.Addr(), netip.MustParseAddr("127.9.8.7"), p, f.trust())
			defer c.Close()
			for i := range 3 {
				r := c.Do(t.Context(), http.MethodPost, "/x", strings.NewReader("hello"))
				if r.Err != nil || r.Status != http.StatusOK {
					t.Fatalf("status %d, %v", r.Status, r.Err)
				}
				if r.Fresh != (i == 0) {
					t.Errorf("request %d: on a new connection: %v", i, r.Fresh)
				}
				const sum = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
				if r.Answer.SHA256 != sum || r.Answer.Body != 5 || r.Served() != "fra" || r.Entered() != "fra" {
					t.Errorf("got %+v", r.Answer)
				}
			}
		})
	}
}

func TestClientCountsAFailureOnlyOnce(t *testing.T) {
	f := newFleet(t)
	fra := f.edge(t, "fra", "127.0.45.1")
	e, route := newEntry(t, fra.site)
	c := lab.NewClient(e.Addr(), netip.MustParseAddr("127.9.8.7"), lab.H1, f.trust())
	defer c.Close()
	for _, test := range []struct {
		path string
		fail bool
	}{{"/", false}, {"/status/404", false}, {"/status/500", true}, {"/status/503", true}, {"/slow/nonsense", false}} {
		if r := c.Get(t.Context(), test.path); (r.Err != nil) != test.fail {
			t.Errorf("%s: %v", test.path, r.Err)
		}
	}
	// An idle connection that was reset is no failure: a new one is opened.
	route.Store(f.edge(t, "iad", "127.0.45.2").site)
	fra.kill()
	waitFor(t, "an answer from iad", func() bool {
		r := c.Get(t.Context(), "/")
		return r.Err == nil && r.Served() == "iad" && r.Fresh
	})
}

func TestH3ClientNoticesThatItsGeoIsDead(t *testing.T) {
	f := newFleet(t)
	fra, iad := f.edge(t, "fra", "127.0.45.1"), f.edge(t, "iad", "127.0.45.2")
	e, route := newEntry(t, fra.site)
	c := lab.NewClient(e.Addr(), netip.MustParseAddr("127.9.8.7"), lab.H3, f.trust())
	defer c.Close()
	if r := c.Get(t.Context(), "/"); r.Err != nil || r.Served() != "fra" {
		t.Fatalf("served by %q, %v", r.Served(), r.Err)
	}
	fra.kill()
	route.Store(iad.site)
	r := c.Get(t.Context(), "/")
	if _, ok := errors.AsType[*quic.StatelessResetError](r.Err); !ok {
		t.Fatalf("after %s: %v, want a stateless reset", r.Took, r.Err)
	}
	if r := c.Get(t.Context(), "/"); r.Err != nil || r.Served() != "iad" {
		t.Errorf("then served by %q, %v", r.Served(), r.Err)
	}
}

func TestLoadCountsExactly(t *testing.T) {
	f := newFleet(t)
	e, route := newEntry(t, f.edge(t, "fra", "127.0.45.1").site)
	meter := lab.NewMeter()
	load := lab.NewLoad(lab.LoadConfig{
		Region: "eu", Entry: e.Addr(), Rate: 100, Clients: 30, Mix: protocols, Path: "/", TLS: f.trust(),
	}, meter)
	begin := meter.Mark()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- load.Run(ctx, func() {}) }()

	waitFor(t, "all clients to have asked", func() bool { return meter.Sources() == 30 })
	good := meter.RegionSince("eu", begin)
	took := time.Since(begin.At).Seconds()
	if good.Failed != 0 || good.Served["fra"] != good.Sent || good.Entered["fra"] != good.Sent {
		t.Errorf("while all is well: %+v, %v", good, meter.Since(begin).Samples)
	}
	if most := int(took*100) + 2; good.Sent > most {
		t.Errorf("%d requests were sent in %.2f s", good.Sent, took)
	}
	bad := meter.Mark()
	route.Store(nil) // new connections are refused, old ones live
	dead := f.edge(t, "nrt", "127.0.45.3")
	waitFor(t, "more answers", func() bool { return meter.Since(bad).Sent >= 30 })
	if got := meter.Since(bad); got.Failed != 0 {
		t.Errorf("established connections failed: %+v", got)
	}
	dead.kill()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	all := meter.Since(begin)
	if all.Sent != all.Served["fra"]+all.Failed {
		t.Errorf("the sum is wrong: %+v", all)
	}
}

func TestLoadCountsFailures(t *testing.T) {
	f := newFleet(t)
	e, _ := newEntry(t, nil)
	meter := lab.NewMeter()
	load := lab.NewLoad(lab.LoadConfig{
		Region: "us", Entry: e.Addr(), Rate: 100, Clients: 10, Mix: []lab.Protocol{lab.H1, lab.H2}, Path: "/", TLS: f.trust(),
	}, meter)
	begin := meter.Mark()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- load.Run(ctx, func() {}) }()
	waitFor(t, "failures", func() bool { return meter.Since(begin).Failed >= 10 })
	cancel()
	<-done
	got := meter.Since(begin)
	if got.Failed != got.Sent || len(got.Served) != 0 || len(got.Samples) == 0 {
		t.Errorf("got %+v", got)
	}
}

func TestLoadGrows(t *testing.T) {
	f := newFleet(t)
	e, _ := newEntry(t, f.edge(t, "fra", "127.0.45.1").site)
	meter := lab.NewMeter()
	const rate, ramp = 100, 4 * time.Second
	load := lab.NewLoad(lab.LoadConfig{
		Region: "eu", Entry: e.Addr(), Rate: rate, Ramp: ramp, Clients: 20, Mix: []lab.Protocol{lab.H1}, Path: "/", TLS: f.trust(),
	}, meter)
	begin := meter.Mark()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- load.Run(ctx, func() {}) }()
	waitFor(t, "requests", func() bool { return meter.Since(begin).Sent >= 20 })
	elapsed := time.Since(begin.At)
	cancel()
	<-done
	share := min(1, max(0.1, elapsed.Seconds()/ramp.Seconds())) // of the rate, at most
	if sent, most := meter.Since(begin).Sent, int(rate*share*elapsed.Seconds())+20; sent > most {
		t.Errorf("%d requests in %s, want at most %d", sent, elapsed, most)
	}
	if elapsed < time.Second {
		t.Errorf("20 requests after %s: the load did not grow", elapsed)
	}
}

func TestLoadRenewsItsConnections(t *testing.T) {
	f := newFleet(t)
	e, route := newEntry(t, f.edge(t, "fra", "127.0.45.1").site)
	meter := lab.NewMeter()
	load := lab.NewLoad(lab.LoadConfig{
		Region: "eu", Entry: e.Addr(), Rate: 100, Clients: 6, Mix: protocols, Path: "/", TLS: f.trust(),
	}, meter)
	start(t, load.Run)
	begin := meter.Mark()
	waitFor(t, "all clients to have asked", func() bool { return meter.Sources() == 6 })
	route.Store(f.edge(t, "iad", "127.0.45.2").site)
	load.Renew()
	waitFor(t, "all to be served by iad", func() bool {
		mark := meter.Mark()
		waitFor(t, "a round", func() bool { return meter.Since(mark).Sent >= 12 })
		return meter.Since(mark).Served["fra"] == 0
	})
	if got := meter.Since(begin); got.Failed != 0 {
		t.Errorf("renewing broke requests: %+v", got)
	}
}
