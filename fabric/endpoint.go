package fabric

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/quic-go/quic-go"

	"anyedge/fabric/identity"
	"anyedge/internal/message"
	"anyedge/proxy/h3"
)

// alpn names the protocol between nodes.
const alpn = "edge-fabric/1"

// How long a connection may be silent, and how fast a dial must succeed.
const (
	idleTimeout = 6 * time.Second
	keepAlive   = 2 * time.Second
	dialTimeout = 2 * time.Second
)

// Codes with which a connection is closed. HTTP/3 uses those from 0x100 up.
const (
	codeLeaving   quic.ApplicationErrorCode = 0x10 // the node says goodbye
	codeDuplicate quic.ApplicationErrorCode = 0x11 // another key holds this name
	codeReplaced  quic.ApplicationErrorCode = 0x12 // there is a better connection
	codeDead      quic.ApplicationErrorCode = 0x13 // probes stay unanswered
)

// An endpoint is the one UDP socket and what runs on it.
type endpoint struct {
	addr   netip.AddrPort
	socket *net.UDPConn
	quic   *quic.Transport
	config *quic.Config
	ln     *quic.Listener
}

// open binds the socket and listens.
func (f *Fabric) open() (*endpoint, error) {
	socket, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(f.listen))
	if err != nil {
		return nil, fmt.Errorf("node.fabric.listen: %w", err)
	}
	reset := quic.StatelessResetKey(f.secret.Key("fabric-stateless-reset", 0))
	e := &endpoint{
		addr:   socket.LocalAddr().(*net.UDPAddr).AddrPort(),
		socket: socket,
		quic:   &quic.Transport{Conn: socket, StatelessResetKey: &reset},
		config: &quic.Config{
			EnableDatagrams: true, KeepAlivePeriod: keepAlive, MaxIdleTimeout: idleTimeout,
			HandshakeIdleTimeout: dialTimeout, MaxIncomingStreams: 16384, MaxIncomingUniStreams: 1024,
			MaxStreamReceiveWindow: 8 << 20, MaxConnectionReceiveWindow: 32 << 20,
		},
	}
	e.addr = netip.AddrPortFrom(e.addr.Addr().Unmap(), e.addr.Port())
	if e.ln, err = e.quic.Listen(f.serverTLS(), e.config); err != nil {
		_ = socket.Close()
		return nil, fmt.Errorf("node.fabric.listen: %w", err)
	}
	return e, nil
}

// close ends what is left after every connection was closed by itself:
// quic.Transport.Close tells the peers nothing.
func (e *endpoint) close() {
	_ = e.ln.Close()
	_ = e.quic.Close()
	_ = e.socket.Close()
}

func (f *Fabric) serverTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{alpn},
		Certificates:           []tls.Certificate{f.id.TLS},
		ClientAuth:             tls.RequireAnyClientCert, // judged by VerifyConnection
		SessionTicketsDisabled: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			_, err := f.id.Verify(state.PeerCertificates)
			if err != nil {
				f.refuse.add(PeerRefused, "certificate", Peer{}, err.Error())
			}
			return err
		},
	}
}

// clientTLS accepts the node named expect alone, or any node of the fabric
// when expect is "".
func (f *Fabric) clientTLS(expect string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{alpn},
		Certificates:       []tls.Certificate{f.id.TLS},
		ServerName:         "fabric",
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection judges: a node has a URI name, which crypto/tls does not compare
		VerifyConnection: func(state tls.ConnectionState) error {
			peer, err := f.id.Verify(state.PeerCertificates)
			if err == nil && expect != "" && peer.Node != expect {
				err = fmt.Errorf("%w: want node %s, its certificate says %s", errWrongName, expect, peer)
			}
			if err != nil {
				f.refuse.add(PeerRefused, "certificate", Peer{Node: expect}, err.Error())
			}
			return err
		},
	}
}

// accept takes connections until the endpoint closes.
func (f *Fabric) accept(ctx context.Context, e *endpoint) {
	for {
		conn, err := e.ln.Accept(ctx)
		if err != nil {
			return
		}
		l, err := f.newLink(conn, false)
		if err != nil { // the handshake has verified it, so only its time can be over
			_ = conn.CloseWithError(codeReplaced, err.Error())
			continue
		}
		f.roster.ensure(l.peer.Node).attach(l)
	}
}

// dial opens a connection to addr.
func (f *Fabric) dial(ctx context.Context, addr netip.AddrPort, expect string) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	e := f.end.Load()
	conn, err := e.quic.Dial(ctx, net.UDPAddrFromAddrPort(addr), f.clientTLS(expect), e.config)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	l, err := f.newLink(conn, true)
	if err != nil {
		_ = conn.CloseWithError(codeReplaced, err.Error())
		return nil, err
	}
	return l, nil
}

// newLink names the peer of a connection whose handshake is complete.
func (f *Fabric) newLink(conn *quic.Conn, dialed bool) (*link, error) {
	certs := conn.ConnectionState().TLS.PeerCertificates
	peer, err := f.id.Verify(certs)
	if err != nil {
		return nil, err
	}
	l := &link{
		f: f, conn: conn, peer: peer, key: identity.KeyID(certs[0]), dialed: dialed,
		out: make(chan []byte, 64), exchanges: make(chan struct{}, maxExchanges), opened: time.Now(),
	}
	if dialed {
		l.client, err = h3.NewClient(conn, h3.ClientConfig{To: peer.String(), Header: maxHead})
		return l, err
	}
	answer := message.RoundTripFunc(func(ctx context.Context, req *message.Request) (*message.Response, error) {
		return f.serve(ctx, peer, req)
	})
	l.server, err = h3.NewConn(conn, h3.Config{Header: maxHead, Fields: maxFields}, answer, f.log)
	return l, err
}
