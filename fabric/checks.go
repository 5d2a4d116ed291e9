package fabric

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"anyedge/fabric/identity"
	"anyedge/internal/secret"
	"anyedge/internal/world"
)

// ErrNotPermitted means that this process may not read what the fabric needs;
// edged itself may.
var ErrNotPermitted = errors.New("not permitted")

// errSeen ends a handshake when the peer's certificate was judged.
var errSeen = errors.New("the certificate was seen")

// A Reach is what became of one handshake with a node of another geo.
type Reach struct {
	Geo     string // whose address it is; "" for one of node.fabric.via
	Node    string // of node.fabric.via; "" for a geo's
	Address string // ADDRESS:PORT as configured
	Peer    Peer   // as its certificate names it; zero when none was judged
	Err     error  // nil: it answered
	Hint    string // what to do about Err

	MTU  int // bytes of an IP packet that the route takes; 0: not known
	Size int // largest UDP payload, in bytes, that was answered; 0: none
	Full int // UDP payload, in bytes, that the fabric would use here
}

// CheckReach begins a handshake with every address of other geos. It judges
// the peer's certificate and breaks the handshake off before this node is
// named: the peer never sees a second connection of a node that runs. Without
// an identity it only asks for an answer (id nil).
func CheckReach(ctx context.Context, id *identity.Identity, node NodeConfig, geo string, geos []world.GeoConfig) []Reach {
	var out []Reach
	for _, g := range geos {
		if g.Name == geo {
			continue
		}
		for _, a := range g.Fabric {
			out = append(out, Reach{Geo: g.Name, Address: a})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(node.Via)) {
		out = append(out, Reach{Node: name, Address: node.Via[name]})
	}
	var wg sync.WaitGroup
	for i := range out {
		wg.Go(func() { out[i].try(ctx, id, node) })
	}
	wg.Wait()
	return out
}

// try fills in what can be found out about r.
func (r *Reach) try(ctx context.Context, id *identity.Identity, node NodeConfig) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	to, err := netip.ParseAddrPort(r.Address)
	if err != nil {
		r.Err, r.Hint = err, "write ADDRESS:PORT"
		return
	}
	var from netip.Addr
	if l, err := netip.ParseAddrPort(node.Listen); err == nil {
		from = l.Addr()
	}
	var wg sync.WaitGroup
	wg.Go(func() { r.MTU, r.Full, r.Size = probeSizes(ctx, from, to) })
	if id != nil {
		r.Peer, err = greet(ctx, id, from, to)
	}
	wg.Wait()
	r.judge(err, id != nil, to)
}

// judge turns the end of a handshake, if there was one, into what to do.
func (r *Reach) judge(err error, greeted bool, to netip.AddrPort) {
	switch {
	case err == nil && greeted && !r.expects(r.Peer):
		r.Err, r.Hint = fmt.Errorf("%s answers there", r.Peer), "correct the address in the configuration"
	case err != nil && r.Size > 0 && errors.Is(err, context.DeadlineExceeded):
		r.Err, r.Hint = errors.New("it answers, but the handshake does not end"), "see the log of edged there"
	case errors.Is(err, identity.ErrUntrusted), errors.Is(err, identity.ErrTrustDomain), errors.Is(err, identity.ErrName), errors.Is(err, identity.ErrExpired):
		r.Err, r.Hint = err, "issue its certificate from this fabric's CA: edgectl fabric issue"
	case err != nil && !errors.Is(err, context.DeadlineExceeded):
		r.Err, r.Hint = err, "see that it speaks the fabric's protocol, and the log of edged there"
	case err != nil, r.Size == 0 && !greeted:
		r.Err, r.Hint = errors.New("no answer by UDP"), fmt.Sprintf("see that edged runs there, and that UDP port %d is open on both sides", to.Port())
	}
}

// expects reports whether peer is what the configuration says.
func (r *Reach) expects(peer Peer) bool {
	if r.Node != "" {
		return peer.Node == r.Node
	}
	return peer.Geo == r.Geo
}

// greet begins a handshake and returns the name in the peer's certificate.
func greet(ctx context.Context, id *identity.Identity, from netip.Addr, to netip.AddrPort) (Peer, error) {
	socket, err := listenAny(from)
	if err != nil {
		return Peer{}, err
	}
	defer func() { _ = socket.Close() }() // nothing is lost
	transport := &quic.Transport{Conn: socket}
	defer func() { _ = transport.Close() }()
	judged := make(chan error, 1)
	var peer Peer
	conf := &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{alpn}, ServerName: "fabric",
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection judges, as in clientTLS
		VerifyConnection: func(state tls.ConnectionState) error {
			var err error
			peer, err = id.Verify(state.PeerCertificates)
			judged <- err
			return errors.Join(errSeen, err) // it ends here, whatever the verdict
		},
	}
	conn, err := transport.Dial(ctx, net.UDPAddrFromAddrPort(to), conf, &quic.Config{HandshakeIdleTimeout: dialTimeout})
	if err == nil {
		_ = conn.CloseWithError(codeLeaving, "seen")
	}
	select {
	case err := <-judged:
		return peer, err
	default:
	}
	if _, idle := errors.AsType[*quic.IdleTimeoutError](err); idle || ctx.Err() != nil {
		return Peer{}, context.DeadlineExceeded
	}
	if _, slow := errors.AsType[*quic.HandshakeTimeoutError](err); slow {
		return Peer{}, context.DeadlineExceeded
	}
	return Peer{}, err
}

// listenAny opens a UDP socket at an address, or at any when it is not this
// machine's (which is another check's business).
func listenAny(from netip.Addr) (*net.UDPConn, error) {
	if from.IsValid() {
		if c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0))); err == nil {
			return c, nil
		}
	}
	return net.ListenUDP("udp", nil)
}

// A FileProblem is something wrong with this node's own keys.
type FileProblem struct {
	Err     error
	Hint    string // what to do, for a person
	Exposed string // path of a file that others can read; "": it is something else
	Grave   bool   // the fabric does not start like this
}

// soon is how long before its end a node's certificate should be renewed.
const soon = 14 * 24 * time.Hour

// CheckFiles reads this node's certificate, its key, the CA and the fleet
// secret. The identity is nil when the fabric could not start with them.
func CheckFiles(c Config, node NodeConfig, geo, name string, now time.Time) (*identity.Identity, []FileProblem) {
	var problems []FileProblem
	add := func(grave bool, hint string, err error) {
		problems = append(problems, FileProblem{Err: err, Hint: hint, Grave: grave})
	}
	read := func(field string, ref secret.Ref) []byte {
		b, err := ref.Load()
		switch {
		case errors.Is(err, fs.ErrPermission):
			add(false, "run doctor as root, or as edged's user", fmt.Errorf("%s: %w: %w", field, ErrNotPermitted, err))
		case err != nil && ref.File == "":
			add(false, "run doctor in the environment that edged's unit gives", fmt.Errorf("%s: %w: %w", field, ErrNotPermitted, err))
		case err != nil:
			add(true, "make it with: edgectl fabric init, then edgectl fabric issue", fmt.Errorf("%s: %w", field, err))
		}
		return b
	}
	cert, key := read("node.fabric.cert", node.Cert), read("node.fabric.key", node.Key)
	ca, fleet := read("fabric.ca", c.CA), read("fabric.secret", c.Secret)
	if len(problems) == 0 {
		if _, err := identity.ParseSecret(fleet); err != nil {
			add(true, "make it with: edgectl fabric init", fmt.Errorf("fabric.secret: %w", err))
		}
	}
	for _, ref := range []secret.Ref{node.Key, c.Secret} {
		if text := identity.Exposed(ref.File); ref.File != "" && text != "" {
			problems = append(problems, FileProblem{Err: fmt.Errorf("%s can be read by others", ref.File), Hint: "chmod 600 " + ref.File, Exposed: ref.File})
		}
	}
	if cert == nil || key == nil || ca == nil {
		return nil, problems
	}
	id, err := identity.Load(c.TrustDomain, cert, key, ca)
	if err == nil {
		err = id.Check(geo, name)
	}
	again := fmt.Sprintf("edgectl fabric issue %s %s", geo, name)
	if err != nil {
		add(true, again, err)
		return nil, problems
	}
	if left := id.Leaf.NotAfter.Sub(now); left < soon {
		add(false, again, fmt.Errorf("the node's certificate ends in %dd", int(left.Hours()/24)))
	}
	return id, problems
}
