package fabric_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"anyedge/fabric"
	"anyedge/fabric/identity"
	"anyedge/internal/message"
	"anyedge/internal/secret"
	"anyedge/internal/world"
)

const trustDomain = "edge.example.net"

// patience bounds every wait of these tests; they end as soon as they can.
const patience = 20 * time.Second

func isClosed(err error) bool { return errors.Is(err, net.ErrClosed) }

// A fleet is nodes in this process, one per geo, that reach each other through
// relays.
type fleet struct {
	t     *testing.T
	dir   string
	geos  []world.GeoConfig
	nodes map[string]*node
	links map[string]*relay // "fra>iad": what fra sends to iad, and the answers
}

// A node is one of them.
type node struct {
	*fabric.Fabric
	t     *testing.T
	fleet *fleet
	key   string // in fleet.nodes
	geo   string
	name  string
	addr  string
	setup fabric.Setup
	stop  func() // ends it with a goodbye

	mu     sync.Mutex
	events []fabric.Event
}

// newFleet makes the files of a fleet whose links have the one-way delay; no
// node runs yet. "nrt~2" is a second node of nrt, which must be named before.
func newFleet(t *testing.T, delay time.Duration, geos ...string) *fleet {
	t.Helper()
	f := &fleet{t: t, dir: t.TempDir(), nodes: map[string]*node{}, links: map[string]*relay{}}
	if err := identity.Init(f.dir, trustDomain); err != nil {
		t.Fatal(err)
	}
	for i, key := range geos {
		geo, number, second := strings.Cut(key, "~")
		if !second {
			number = "1"
		}
		n := &node{t: t, fleet: f, key: key, geo: geo, name: geo + "-edge" + number, addr: freeAddr(t)}
		f.nodes[key] = n
		if second {
			last := &f.geos[len(f.geos)-1]
			last.Fabric = append(last.Fabric, n.addr)
		} else {
			f.geos = append(f.geos, world.GeoConfig{Name: geo, Number: uint8(i + 1), Fabric: []string{n.addr}})
		}
		if err := identity.IssueTo(f.dir, geo, n.name); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range geos {
		for _, b := range geos {
			if a != b {
				f.links[a+">"+b] = newRelay(t, f.nodes[b].addr, delay)
			}
		}
	}
	for _, n := range f.nodes {
		n.setup = f.setupFor(n)
	}
	return f
}

func freeAddr(t *testing.T) string {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().String()
}

func (f *fleet) setupFor(n *node) fabric.Setup {
	via := map[string]string{}
	for key, other := range f.nodes {
		if key != n.key {
			via[other.name] = f.links[n.key+">"+key].addr
		}
	}
	return fabric.Setup{
		Config: fabric.Config{
			TrustDomain: trustDomain,
			CA:          secret.Ref{File: filepath.Join(f.dir, "ca.crt")},
			Secret:      secret.Ref{File: filepath.Join(f.dir, "secret")},
		},
		Node: fabric.NodeConfig{
			Listen: n.addr, Via: via,
			Cert: secret.Ref{File: filepath.Join(f.dir, n.geo+"-"+n.name+".crt")},
			Key:  secret.Ref{File: filepath.Join(f.dir, n.geo+"-"+n.name+".key")},
		},
		Geo: n.geo, NodeName: n.name, Number: 1, Software: "test", Geos: f.geos,
		Handler:  answer,
		StateDir: filepath.Join(f.dir, n.name),
		Events: func(e fabric.Event) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.events = append(n.events, e)
		},
	}
}

// start starts the nodes of the geos, all by default.
func (f *fleet) start(geos ...string) {
	f.t.Helper()
	if len(geos) == 0 {
		for geo := range f.nodes {
			geos = append(geos, geo)
		}
	}
	for _, geo := range geos {
		f.nodes[geo].start()
	}
}

func (n *node) start() {
	n.t.Helper()
	log := slog.New(slog.NewTextHandler(n.t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})).With("on", n.name)
	fab, err := fabric.New(n.setup, log)
	if err != nil {
		n.t.Fatal(err)
	}
	n.Fabric = fab
	n.stop = runFabric(n.t, fab)
	n.publish(1)
	n.SetLoad(world.Load{Capacity: 300, Offered: 100})
}

func runFabric(t *testing.T, fab *fabric.Fabric) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- fab.Run(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("run: %v", err)
	}
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("run: %v", err)
			}
		case <-time.After(patience):
			t.Error("the fabric does not stop")
		}
	})
	t.Cleanup(stop)
	return stop
}

// publish sets the node's record to one that tells how many backends it has.
func (n *node) publish(backends int) {
	n.t.Helper()
	err := n.Publish(world.NodeRecord{
		Capacity: 300, Services: map[string]world.Counts{"web": {Healthy: backends, Total: 2}},
		VIPs: map[string]string{"main": "announced"},
	})
	if err != nil {
		n.t.Fatal(err)
	}
}

// cut cuts or repairs the link between two geos.
func (f *fleet) cut(a, b string, v bool) {
	f.links[a+">"+b].cut(v)
	f.links[b+">"+a].cut(v)
}

// isolate cuts or repairs every link of a geo.
func (f *fleet) isolate(geo string, v bool) {
	for other := range f.nodes {
		if other != geo {
			f.cut(geo, other, v)
		}
	}
}

// event reports whether the node told of such an event.
func (n *node) event(kind fabric.EventKind, node string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, e := range n.events {
		if e.Kind == kind && (node == "" || e.Node == node) {
			return true
		}
	}
	return false
}

// refused returns how often the node refused something with that reason.
func (n *node) refused(reason string) uint64 { return n.Refused()[reason] }

// sees reports whether the node sees geo alive, with its node joined, its
// record and its load.
func (n *node) sees(geo string) bool {
	g := n.World().Find(geo)
	return g != nil && g.Alive && len(g.Nodes) > 0 && g.Nodes[0].Status == world.Joined && g.Nodes[0].Record != nil && g.Load.Capacity > 0
}

// fullView reports whether every running node sees every geo.
func (f *fleet) fullView() bool {
	for _, n := range f.nodes {
		for geo := range f.nodes {
			if n.Fabric == nil || !n.sees(geo) {
				return false
			}
		}
	}
	return true
}

// versions returns the record versions that the node holds, as text.
func (n *node) versions() string {
	lines := map[string]string{}
	for _, g := range n.World().Geos {
		for _, m := range g.Nodes {
			if m.Record != nil {
				lines[m.Name] = fmt.Sprint(m.Record.Version)
			}
		}
	}
	for _, o := range n.World().Orders {
		lines[o.ID] = o.Reason
	}
	return fmt.Sprint(lines)
}

// sameVersions reports whether all nodes hold the same records.
func (f *fleet) sameVersions() bool {
	first := ""
	for _, n := range f.nodes {
		if v := n.versions(); first == "" {
			first = v
		} else if v != first {
			return false
		}
	}
	return true
}

// within waits until cond holds, and logs how long that took.
func within(t *testing.T, what string, cond func() bool) {
	t.Helper()
	begin := time.Now()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		if time.Since(begin) > patience {
			t.Fatalf("%s: not within %s", what, patience)
		}
		<-tick.C
	}
	t.Logf("%s: %s", what, time.Since(begin).Round(time.Millisecond))
}

// answer is the handler of every node: it tells who asked, and echoes.
func answer(ctx context.Context, from fabric.Peer, req *message.Request) (*message.Response, error) {
	header := message.Header{{Name: "X-From", Value: from.String()}}
	switch {
	case req.Path() == "/hang":
		<-ctx.Done()
		return nil, ctx.Err()
	case req.Protocol != "":
		a, b := net.Pipe()
		go func() {
			io.Copy(b, b)
			b.Close()
		}()
		return &message.Response{Status: 101, Stream: a}, nil
	case req.Path() == "/busy":
		return &message.Response{Status: http.StatusServiceUnavailable, Header: message.Header{{Name: "Edge-Busy", Value: "test"}}}, nil
	case req.Path() == "/early":
		req.Inform(http.StatusEarlyHints, message.Header{{Name: "Link", Value: "</a.css>"}})
	case req.Body != nil:
		content, err := req.Body.Open()
		if err != nil {
			return nil, err
		}
		header.Add("Trailer", "X-Sum")
		return &message.Response{Status: 200, Header: header, Length: -1, Body: content, Trailer: func() message.Header {
			return append(req.Body.Trailer(), message.Field{Name: "X-Sum", Value: "done"})
		}}, nil
	}
	return &message.Response{Status: 200, Header: header, Length: 2, Body: io.NopCloser(strings.NewReader("ok"))}, nil
}

// get sends a small request to a geo.
func (n *node) get(ctx context.Context, geo, path string) (*message.Response, error) {
	return n.RoundTrip(ctx, geo, &message.Request{Version: message.HTTP1, Method: "GET", Scheme: "https", Authority: "www.example.net", Target: path})
}

func TestMain(m *testing.M) {
	if path := os.Getenv("FABRIC_TEST_NODE"); path != "" {
		os.Exit(childNode(path))
	}
	code := m.Run()
	// The gossip library's goroutines end at the end of their last wait.
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if err = goleak.Find(); err == nil {
			break
		}
	}
	if err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func testLog(t *testing.T) *slog.Logger {
	t.Helper()
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}
