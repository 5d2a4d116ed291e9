package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"anyedge/internal/message"
	"anyedge/internal/steering"
	"anyedge/internal/world"
	"anyedge/proxy"
)

// A fleet is the edges of several geos and a fabric between them, which is
// calls: no wire, but what comes out is no more than what a wire carries.
type fleet struct {
	mu    sync.Mutex
	edges map[string]*edge
	order []string // distance is the same from everywhere
	hops  []string // "shed fra>nrt", in order
	cut   map[string]bool
	// intercept answers in place of a geo; nil passes on.
	intercept func(geo string, r *message.Request) (*message.Response, error)
}

func newFleet(order ...string) *fleet {
	return &fleet{edges: map[string]*edge{}, order: order, cut: map[string]bool{}}
}

// start adds the edge of geo.
func (f *fleet) start(t *testing.T, geo string, s proxy.Setup) *edge {
	t.Helper()
	s.Geo = geo
	s.Fabric = fabricFrom{f, geo}
	s.World = func() *world.World { return f.world(geo) }
	s.ReplaySeed = [32]byte{7}
	e := start(t, s)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.edges[geo] = e
	return e
}

// plan makes edges know of each other as steering would, with p's sheds.
func (f *fleet) plan(geo string, p steering.ShedPlan) {
	f.mu.Lock()
	defer f.mu.Unlock()
	plan := &steering.Plan{At: time.Now(), Shed: p, Services: map[string]steering.ServicePlan{}}
	for _, s := range f.edges[geo].Services() {
		sp := steering.ServicePlan{Healthy: s.Healthy}
		for _, other := range f.order {
			if other != geo {
				sp.Elsewhere = append(sp.Elsewhere, other)
			}
		}
		plan.Services[s.Name] = sp
	}
	f.edges[geo].Door().SetPlan(plan)
}

// world is what the edge of geo knows.
func (f *fleet) world(geo string) *world.World {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := &world.World{At: time.Now(), Geo: geo, Geos: []world.Geo{{Name: geo, Alive: true}}}
	for _, other := range f.order {
		if other == geo {
			continue
		}
		g := world.Geo{Name: other, Alive: !f.cut[other]}
		if e := f.edges[other]; e != nil {
			services := map[string]world.Counts{}
			for _, s := range e.Services() {
				services[s.Name] = world.Counts{Healthy: s.Healthy, Total: s.Total}
			}
			g.Nodes = []world.Node{{Name: other + "-edge1", Geo: other, Status: world.Joined, Record: &world.NodeRecord{Services: services}}}
		}
		w.Geos = append(w.Geos, g)
	}
	return w
}

func (f *fleet) taken() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.hops...)
}

// fabricFrom is the fabric as one geo sees it.
type fabricFrom struct {
	f    *fleet
	from string
}

func (f fabricFrom) RoundTrip(ctx context.Context, geo string, r *message.Request) (*message.Response, error) {
	f.f.mu.Lock()
	target, cut, intercept := f.f.edges[geo], f.f.cut[geo], f.f.intercept
	f.f.hops = append(f.f.hops, fmt.Sprintf("%s %s>%s", r.Header.Get("Edge-Hop"), f.from, geo))
	f.f.mu.Unlock()
	if intercept != nil {
		if resp, err := intercept(geo, r); resp != nil || err != nil {
			return resp, err
		}
	}
	if target == nil || cut {
		return nil, &message.TryError{Sent: message.NothingSent, To: geo, Err: errors.New("unreachable")}
	}
	// The other side sees another Body: the wire's.
	r = r.Clone()
	if r.Body != nil {
		src, err := r.Body.Open()
		if err != nil {
			return nil, &message.TryError{Sent: message.NothingSent, To: geo, Err: err}
		}
		r.Body = message.NewBody(src, r.Body.Length(), message.MiB, r.Body.Trailer)
	}
	r.Peer, r.Scheme, r.Version = netip.AddrPort{}, "https", message.HTTP3
	return target.ServeFabric(ctx, proxy.Sender{Geo: f.from, Node: f.from + "-edge1"}, r)
}
