package fabric

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"

	"anyedge/internal/world"
)

const (
	// reconnect is how often serf looks for lost nodes; it never gives up.
	reconnect    = time.Second
	reconnectFor = 100 * 365 * 24 * time.Hour
	// gossipPacket is the size of a gossip packet that fits into a datagram.
	gossipPacket = 1150
	// joinWait bounds one exchange of the member list.
	joinWait = 3 * time.Second
	// maxSoftware bounds the build's name, which travels in gossip.
	maxSoftware = 64
)

// A membership is serf over the fabric's own connections: it says which nodes
// exist. It is memberlist's transport.
type membership struct {
	f       *Fabric
	look    chan struct{} // holds one token when a node may have to be joined
	packets chan *memberlist.Packet
	streams chan net.Conn
	events  chan serf.Event
	serf    *serf.Serf // set by start, before any goroutine
}

func newMembership(f *Fabric) *membership {
	return &membership{
		f: f, look: make(chan struct{}, 1),
		packets: make(chan *memberlist.Packet, 512), streams: make(chan net.Conn),
		events: make(chan serf.Event, 256),
	}
}

// start begins to gossip.
func (m *membership) start() error {
	s := m.f.setup
	c := serf.DefaultConfig()
	c.Init()
	c.NodeName = s.NodeName
	c.Tags = map[string]string{"geo": s.Geo, "number": strconv.Itoa(int(s.Number)), "software": s.Software[:min(len(s.Software), maxSoftware)]}
	c.EventCh = m.events
	c.EnableNameConflictResolution = false // its loser would stop; certificates decide here
	c.ReconnectInterval, c.ReconnectTimeout = reconnect, reconnectFor
	c.BroadcastTimeout, c.LeavePropagateDelay = 300*time.Millisecond, 200*time.Millisecond
	c.LogOutput = libraryLog{m.f.log}
	l := memberlist.DefaultLANConfig()
	l.Transport = m
	l.AdvertiseAddr, l.AdvertisePort = m.f.Addr().Addr().String(), int(m.f.Addr().Port())
	l.BindAddr, l.BindPort = l.AdvertiseAddr, l.AdvertisePort
	l.UDPBufferSize = gossipPacket
	l.EnableCompression = false
	l.TCPTimeout = joinWait
	l.ProbeTimeout = 700 * time.Millisecond // above the longest round trip on earth
	l.GossipToTheDeadTime = 8 * time.Second
	l.DeadNodeReclaimTime = time.Second // a node may come back at another address
	l.LogOutput = c.LogOutput
	c.MemberlistConfig = l
	var err error
	if m.serf, err = serf.Create(c); err != nil {
		return fmt.Errorf("start membership: %w", err)
	}
	return nil
}

// stop says goodbye, for at most a second, and ends the gossip.
func (m *membership) stop() {
	if err := m.serf.Leave(); err != nil {
		m.f.log.Debug("leave", "err", err)
	}
	if err := m.serf.Shutdown(); err != nil {
		m.f.log.Debug("stop membership", "err", err)
	}
}

// follow takes what serf says about members until ctx ends.
func (m *membership) follow(ctx context.Context) {
	for {
		select {
		case e := <-m.events:
			if e, ok := e.(serf.MemberEvent); ok {
				for i := range e.Members {
					m.heard(&e.Members[i])
				}
			}
		case <-ctx.Done():
			return
		}
	}
}

// heard enters one member's state.
func (m *membership) heard(s *serf.Member) {
	if s.Name == m.f.setup.NodeName {
		return
	}
	status, kind, text := world.Lost, NodeLost, "it does not answer, and no other node hears it"
	switch s.Status {
	case serf.StatusAlive:
		status, kind, text = world.Joined, NodeJoined, "at "+net.JoinHostPort(s.Addr.String(), strconv.Itoa(int(s.Port)))
	case serf.StatusLeaving, serf.StatusLeft:
		status, kind, text = world.Left, NodeLeft, "it said goodbye"
	case serf.StatusFailed, serf.StatusNone:
	}
	number, _ := strconv.ParseUint(s.Tags["number"], 10, 16) // 0: it told none
	r := m.f.roster.gossiped(s.Name)
	if r == nil {
		m.f.refuse.add(PeerRefused, "too many names", Peer{}, fmt.Sprintf("gossip speaks of more than %d nodes, %.40q is one too many", maxGossiped, s.Name))
		return
	}
	r.mu.Lock()
	news := r.status != status
	if news {
		r.status, r.since = status, time.Now()
	}
	if ip, ok := netip.AddrFromSlice(s.Addr); ok {
		r.addr = netip.AddrPortFrom(ip.Unmap(), s.Port)
	}
	if !r.verified {
		r.geo = s.Tags["geo"]
	}
	r.number, r.software = uint16(number), s.Tags["software"]
	peer := Peer{Geo: r.geo, Node: r.name}
	r.mu.Unlock()
	if news {
		m.f.event(kind, peer, text)
	}
	signal(r.kick)
	signal(m.f.rebuild)
}

// keepJoined exchanges the member list with every node that a connection is
// open to and that is no member: new ones, and lost ones that came back.
func (m *membership) keepJoined(ctx context.Context) {
	tick := time.NewTicker(reconnect)
	defer tick.Stop()
	for {
		for _, r := range m.f.roster.all() {
			if addr, ok := r.joinable(); ok && ctx.Err() == nil {
				if _, err := m.serf.Join([]string{r.name + "/" + addr}, true); err != nil {
					m.f.log.Debug("join", "node", r.name, "err", err)
				}
			}
		}
		select {
		case <-m.look:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// joinable reports whether the node should be joined, and an address to call
// it by; memberlist wants one, the transport goes by the name.
func (r *remote) joinable() (string, bool) {
	l := r.live()
	if l == nil {
		return "", false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.status == world.Joined || r.status == world.Left && l.opened.Before(r.since) {
		return "", false
	}
	return l.conn.RemoteAddr().String(), true
}

// seek finds out, for as long as it takes, which node answers at a configured
// address.
func (f *Fabric) seek(ctx context.Context, addr netip.AddrPort) {
	pause := minDialPause
	for ctx.Err() == nil {
		if n := f.roster.at(addr); n == nil {
			if err := f.roster.identify(ctx, addr); err != nil {
				f.log.Debug("seed does not answer", "addr", addr, "err", err)
			}
			pause = min(2*pause, maxDialPause)
		} else {
			pause = maxDialPause
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// seeds returns the configured addresses of other nodes.
func (f *Fabric) seeds() []netip.AddrPort {
	var list []netip.AddrPort
	for _, g := range f.setup.Geos {
		for _, text := range g.Fabric {
			if addr, err := netip.ParseAddrPort(text); err == nil && addr != f.Addr() && !slices.Contains(list, addr) {
				list = append(list, addr)
			}
		}
	}
	return list
}

// libraryLog writes the lines of a library to the debug log.
type libraryLog struct{ log *slog.Logger }

// Write logs one line.
func (w libraryLog) Write(b []byte) (int, error) {
	w.log.Debug("gossip", "line", strings.TrimSpace(string(b)))
	return len(b), nil
}
