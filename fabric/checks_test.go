package fabric_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"anyedge/fabric"
	"anyedge/fabric/identity"
	"anyedge/internal/secret"
	"anyedge/internal/world"
)

// identityOf returns a node's identity as doctor reads it.
func (n *node) identityOf(t *testing.T) *identity.Identity {
	t.Helper()
	id, problems := fabric.CheckFiles(n.setup.Config, n.setup.Node, n.geo, n.name, time.Now())
	if id == nil || len(problems) > 0 {
		t.Fatalf("problems: %v", problems)
	}
	return id
}

// A handshake is broken off before the peer knows who asks: the connection of
// the node that runs is left alone.
func TestCheckReach(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 0, "fra", "nrt")
	f.start("nrt")
	fra, nrt := f.nodes["fra"], f.nodes["nrt"]
	wrong := []world.GeoConfig{{Name: "fra"}, {Name: "iad", Fabric: []string{nrt.addr}}, {Name: "sin", Fabric: []string{freeAddr(t)}}}
	plain := fra.setup.Node
	plain.Via = nil

	got := fabric.CheckReach(t.Context(), fra.identityOf(t), fra.setup.Node, "fra", f.geos)
	if len(got) != 2 { // nrt's own address, and the way that via says
		t.Fatalf("%+v", got)
	}
	for _, r := range got {
		if r.Err != nil || r.Peer != (fabric.Peer{Geo: "nrt", Node: "nrt-edge1"}) || r.MTU < 1500 || r.Full != 1452 || r.Size != r.Full {
			t.Errorf("%+v", r)
		}
	}
	if got[0].Geo != "nrt" || got[1].Node != "nrt-edge1" {
		t.Errorf("%+v", got)
	}
	for _, p := range nrt.Peers() {
		t.Errorf("nrt knows of a peer: %+v", p)
	}
	nrt.mu.Lock()
	if len(nrt.events) > 0 {
		t.Errorf("nrt has events: %+v", nrt.events)
	}
	nrt.mu.Unlock()

	got = fabric.CheckReach(t.Context(), fra.identityOf(t), plain, "fra", wrong)
	if len(got) != 2 || got[0].Err == nil || got[0].Err.Error() != "nrt/nrt-edge1 answers there" || got[1].Err == nil || got[1].Err.Error() != "no answer by UDP" {
		t.Errorf("%+v", got)
	}
	got = fabric.CheckReach(t.Context(), nil, plain, "fra", f.geos)
	if len(got) != 1 || got[0].Err != nil || got[0].Peer != (fabric.Peer{}) || got[0].Size != 1452 {
		t.Errorf("without an identity: %+v", got)
	}
	stranger := newFleet(t, 0, "fra").nodes["fra"]
	got = fabric.CheckReach(t.Context(), stranger.identityOf(t), plain, "fra", f.geos)
	if len(got) != 1 || !errors.Is(got[0].Err, identity.ErrUntrusted) || got[0].Hint == "" {
		t.Errorf("of another fabric: %+v", got)
	}
}

// A path that swallows large packets, as one with broken path MTU discovery.
func TestCheckReachFindsThePathMTU(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 0, "fra", "nrt")
	f.start("nrt")
	narrow := narrowPath(t, f.nodes["nrt"].addr, 1300)
	fra := f.nodes["fra"]
	fra.setup.Node.Via = nil
	got := fabric.CheckReach(t.Context(), fra.identityOf(t), fra.setup.Node, "fra", []world.GeoConfig{{Name: "nrt", Fabric: []string{narrow}}})
	if len(got) != 1 || got[0].Err != nil || got[0].Size != 1252 || got[0].Full != 1452 {
		t.Errorf("%+v", got)
	}
}

// narrowPath forwards packets to and from one client; larger ones it loses.
func narrowPath(t *testing.T, to string, limit int) string {
	t.Helper()
	outer, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = outer.Close() })
	go func() {
		inner := map[string]net.Conn{} // by client
		defer func() {
			for _, c := range inner {
				_ = c.Close()
			}
		}()
		b := make([]byte, 1<<16)
		for {
			n, from, err := outer.ReadFromUDP(b)
			if err != nil {
				return
			}
			c := inner[from.String()]
			if c == nil {
				if c, err = net.Dial("udp", to); err != nil {
					return
				}
				inner[from.String()] = c
				go func() {
					back := make([]byte, 1<<16)
					for {
						n, err := c.Read(back)
						if errors.Is(err, net.ErrClosed) {
							return
						}
						if err == nil && n <= limit {
							_, _ = outer.WriteToUDP(back[:n], from)
						}
					}
				}()
			}
			if n <= limit {
				_, _ = c.Write(b[:n])
			}
		}
	}()
	return outer.LocalAddr().String()
}

func TestCheckFiles(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		do    func(t *testing.T, n *node)
		after time.Duration
		grave bool
		says  []string // the only problems
	}{
		{"well", func(*testing.T, *node) {}, 0, false, nil},
		{"key open to others", func(t *testing.T, n *node) {
			t.Helper()
			if err := os.Chmod(n.setup.Node.Key.File, 0o644); err != nil {
				t.Fatal(err)
			}
		}, 0, false, []string{".key can be read by others"}},
		{"certificate missing", func(_ *testing.T, n *node) { n.setup.Node.Cert.File = filepath.Join(n.fleet.dir, "none") }, 0, true, []string{"node.fabric.cert: open "}},
		{"kept in the unit alone", func(_ *testing.T, n *node) { n.setup.Node.Key = secret.Ref{Credential: "key"} }, 0, false, []string{"node.fabric.key: not permitted: credential key"}},
		{"secret of another kind", func(_ *testing.T, n *node) { n.setup.Config.Secret = n.setup.Config.CA }, 0, true, []string{"fabric.secret: ", "can be read by others"}},
		{"of another node", func(_ *testing.T, n *node) { n.name = "fra-edge9" }, 0, true, []string{"the certificate is for fra/fra-edge1"}},
		{"ends soon", func(*testing.T, *node) {}, -9*24*time.Hour - time.Minute, false, []string{"the node's certificate ends in 9d"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newFleet(t, 0, "fra").nodes["fra"]
			tt.do(t, n)
			now := time.Now()
			if tt.after != 0 {
				now = n.identityOf(t).Leaf.NotAfter.Add(tt.after)
			}
			_, problems := fabric.CheckFiles(n.setup.Config, n.setup.Node, n.geo, n.name, now)
			if len(problems) != len(tt.says) {
				t.Fatalf("problems: %v", problems)
			}
			for i, p := range problems {
				if !strings.Contains(p.Err.Error(), tt.says[i]) || p.Hint == "" {
					t.Errorf("%+v, want %q", p, tt.says[i])
				}
			}
			if len(problems) > 0 && problems[0].Grave != tt.grave {
				t.Errorf("grave: %+v", problems[0])
			}
		})
	}
}

func FuzzParseNegotiation(f *testing.F) {
	f.Add([]byte("\x80\x00\x00\x00\x00\x08doctor!\x02\x08doctor?\x02\x00\x00\x00\x01"))
	f.Add([]byte("\xc0\x00\x00\x00\x01\x08doctor!\x02"))
	f.Fuzz(func(t *testing.T, b []byte) {
		id, ok := fabric.ParseNegotiation(b)
		if ok != (len(b) >= 14 && b[0] >= 0x80 && string(b[1:13]) == "\x00\x00\x00\x00\x08doctor!") || ok && id != b[13] {
			t.Errorf("%q: %d, %t", b, id, ok)
		}
	})
}
