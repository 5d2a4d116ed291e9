package fabric_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"

	"anyedge/fabric"
	"anyedge/fabric/identity"
	"anyedge/internal/world"
)

// identityOf loads a node's identity from the fleet's files.
func (f *fleet) identityOf(geo, node string) *identity.Identity {
	f.t.Helper()
	var pem [3][]byte
	for i, name := range []string{geo + "-" + node + ".crt", geo + "-" + node + ".key", "ca.crt"} {
		b, err := os.ReadFile(filepath.Join(f.dir, name))
		if err != nil {
			f.t.Fatal(err)
		}
		pem[i] = b
	}
	id, err := identity.Load(trustDomain, pem[0], pem[1], pem[2])
	if err != nil {
		f.t.Fatal(err)
	}
	return id
}

// connect opens a bare QUIC connection to a node with the identity id.
func (f *fleet) connect(id *identity.Identity, to string) *quic.Conn {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	conn, err := quic.DialAddr(ctx, f.nodes[to].addr, &tls.Config{
		InsecureSkipVerify: true, NextProtos: []string{fabric.ALPN}, Certificates: []tls.Certificate{id.TLS},
	}, &quic.Config{EnableDatagrams: true})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { conn.CloseWithError(0, "") })
	return conn
}

// push sends a message as an exchange of records, and waits for its end.
func (f *fleet) push(conn *quic.Conn, message []byte) {
	f.t.Helper()
	s, err := conn.OpenStreamSync(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	s.SetDeadline(time.Now().Add(patience))
	if _, err := s.Write(append(quicvarint.Append(nil, fabric.StreamRecords), message...)); err != nil {
		f.t.Fatal(err)
	}
	s.Close()
	io.Copy(io.Discard, s) // it may be reset: that is an answer too
}

func (f *fleet) pushRecords(conn *quic.Conn, list ...fabric.Envelope) {
	f.t.Helper()
	b, err := json.Marshal(fabric.Ask{Records: list})
	if err != nil {
		f.t.Fatal(err)
	}
	f.push(conn, b)
}

// nodeBody returns the body of a node record.
func nodeBody(writer, geo string, epoch uint64, extra string) string {
	v, _ := json.Marshal(world.Version{Epoch: epoch, Counter: 1})
	return `{"kind":"node","name":"` + writer + `","writer":"` + writer + `","geo":"` + geo + `","version":` + string(v) +
		`,"at":1,"payload":{"node":"` + writer + `","geo":"` + geo + `","capacity":7` + extra + `}` + extra + `}`
}

// ringBody returns the body of a ring that nrt-edge1 writes.
func ringBody(geo, payload string) string {
	return `{"kind":"ring","name":"` + geo + `","writer":"nrt-edge1","geo":"nrt","version":{"epoch":1000,"counter":3},"at":1,"payload":` + payload + `}`
}

func TestHostileRecords(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 0, "fra", "iad", "nrt")
	f.start("fra", "iad")
	fra, iad := f.nodes["fra"], f.nodes["iad"]
	within(t, "both up", func() bool { return fra.sees("iad") && iad.sees("fra") })
	nrt := f.identityOf("nrt", "nrt-edge1") // its node does not run: this test is it
	conn := f.connect(nrt, "fra")
	sign := func(body string) fabric.Envelope {
		e, err := fabric.Sign(nrt, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return e
	}

	good := sign(nodeBody("nrt-edge1", "nrt", 1000, `,"later":{"a":[1,2]}`))
	f.pushRecords(conn, good)
	for _, n := range []*node{fra, iad} {
		within(t, n.geo+" has the record with the fields it does not know", func() bool {
			return string(fabric.Held(n.Fabric, "node", "nrt-edge1", "nrt-edge1")) == string(good.Body)
		})
	}
	future := sign(`{"kind":"purge","name":"p1","writer":"nrt-edge1","geo":"nrt","version":{"epoch":1000,"counter":2},"at":1,"payload":[1]}`)
	f.pushRecords(conn, future)
	within(t, "a record of an unknown kind is passed on", func() bool {
		return fabric.Held(iad.Fabric, "purge", "p1", "nrt-edge1") != nil
	})

	tampered := sign(nodeBody("nrt-edge1", "nrt", 2000, ""))
	tampered.Body = []byte(strings.Replace(string(tampered.Body), `"capacity":7`, `"capacity":9`, 1))
	stranger := newFleet(t, 0, "nrt").identityOf("nrt", "nrt-edge1")
	foreignCA, err := fabric.Sign(stranger, []byte(nodeBody("nrt-edge1", "nrt", 2000, "")))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		record fabric.Envelope
		reason string
	}{
		{"body changed", tampered, "signature"},
		{"of another writer", sign(nodeBody("fra-edge1", "fra", 1<<53, "")), "foreign writer"},
		{"of another geo", sign(nodeBody("nrt-edge1", "fra", 2000, "")), "foreign writer"},
		{"signed under another CA", foreignCA, "certificate"},
		{"no JSON", sign(`{"kind":`), "malformed"},
		{"epoch out of bounds", sign(nodeBody("nrt-edge1", "nrt", 1<<63, "")), "malformed"},
		{"no name", sign(`{"kind":"node","writer":"nrt-edge1","geo":"nrt"}`), "malformed"},
		{"negative capacity", sign(strings.Replace(nodeBody("nrt-edge1", "nrt", 2000, ""), ":7", ":-7", 1)), "invalid"},
		{"payload of another node", sign(strings.Replace(nodeBody("nrt-edge1", "nrt", 2000, ""), `{"node":"nrt`, `{"node":"iad`, 1)), "invalid"},
		{"ring of another geo", sign(ringBody("fra", `{"generation":9,"phase":"stable","members":[{"node":"a","weight":1}]}`)), "invalid"},
		{"ring without members", sign(ringBody("nrt", `{"generation":9,"phase":"stable","members":[]}`)), "invalid"},
		{"too large", sign(nodeBody("nrt-edge1", "nrt", 2000, `,"x":"`+strings.Repeat("x", 70<<10)+`"`)), "too large"},
		{"another content of the same version", sign(nodeBody("nrt-edge1", "nrt", 1000, "")), "two of one version"},
		{"replayed older one", sign(nodeBody("nrt-edge1", "nrt", 999, "")), "stale"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := fra.refused("record_refused:" + tt.reason)
			f.pushRecords(conn, tt.record)
			if after := fra.refused("record_refused:" + tt.reason); after != before+1 {
				t.Errorf("refused %v, want one more for %q", fra.Refused(), tt.reason)
			}
			if got := fabric.Held(fra.Fabric, "node", "nrt-edge1", "nrt-edge1"); string(got) != string(good.Body) {
				t.Errorf("it holds %s", got)
			}
		})
	}
	if !fra.event(fabric.RecordRefused, "nrt-edge1") {
		t.Error("no event named a refused record")
	}
	f.push(conn, []byte("]garbage"))
	if fra.refused("record_refused:malformed") < 3 {
		t.Errorf("garbage was not counted: %v", fra.Refused())
	}
	t.Run("of an earlier life of a node, whose clock was ahead", func(t *testing.T) {
		ahead := uint64(time.Now().Add(48 * time.Hour).UnixMilli())
		e, err := fabric.Sign(f.identityOf("fra", "fra-edge1"), []byte(nodeBody("fra-edge1", "fra", ahead, "")))
		if err != nil {
			t.Fatal(err)
		}
		f.pushRecords(f.connect(nrt, "iad"), e)
		if v := recordOf(iad, "fra-edge1").Version; v.Epoch > ahead {
			t.Fatalf("iad has %v", v)
		}
		within(t, "the node supersedes it", func() bool {
			r := recordOf(iad, "fra-edge1")
			return r.Version.Epoch == ahead+1 && r.Capacity == 300
		})
		fra.publish(2)
		within(t, "and goes on", func() bool { return recordOf(iad, "fra-edge1").Services["web"].Healthy == 2 })
	})
	t.Run("load", func(t *testing.T) {
		conn.SendDatagram(fabric.EncodeProbe(1, "iad", world.Load{Offered: 5000}))
		within(t, "load of a foreign geo is refused", func() bool { return fra.refused("load_refused:foreign geo") == 1 })
		b := fabric.EncodeProbe(1, "nrt", world.Load{Offered: 5000})
		conn.SendDatagram(b[:len(b)-3])
		within(t, "half a probe is refused", func() bool { return fra.refused("load_refused:malformed") == 1 })
		conn.SendDatagram(b)
		within(t, "its own is taken", func() bool { return fra.World().Find("nrt").Load.Offered == 5000 })
		if fra.World().Find("iad").Load.Offered == 5000 {
			t.Error("the foreign load was taken")
		}
		if fra.World().Find("nrt").Alive {
			t.Error("a geo is alive that never answered a probe")
		}
	})
}

func TestStrangersAreRefused(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 0, "fra", "iad")
	f.start()
	within(t, "full view", f.fullView)
	fra := f.nodes["fra"]

	t.Run("certificate of another CA", func(t *testing.T) {
		other := newFleet(t, 0, "fra", "iad", "nrt")
		rogue := other.nodes["nrt"]
		rogue.setup.Geos = append(slices.Clone(f.geos), world.GeoConfig{Name: "nrt", Number: 3})
		rogue.setup.Node.Via = nil
		rogue.start()
		within(t, "refused", func() bool { return rogue.refused("peer_refused:certificate") > 0 })
		if n := len(fra.Peers()); n != 1 {
			t.Errorf("fra knows %d peers", n)
		}
		// And the other way round: fra refuses one that would take it.
		conn, err := quic.DialAddr(t.Context(), fra.addr, &tls.Config{
			InsecureSkipVerify: true, NextProtos: []string{fabric.ALPN}, Certificates: []tls.Certificate{other.identityOf("nrt", "nrt-edge1").TLS},
		}, nil)
		if err == nil {
			<-conn.Context().Done()
		}
		within(t, "counted", func() bool { return fra.refused("peer_refused:certificate") > 0 })
	})
	t.Run("another key with a node's name", func(t *testing.T) {
		twin := &fleet{t: t, dir: t.TempDir(), geos: f.geos, nodes: map[string]*node{}}
		for _, name := range []string{"ca.crt", "ca.key", "secret"} {
			b, err := os.ReadFile(filepath.Join(f.dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(twin.dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := identity.IssueTo(twin.dir, "iad", "iad-edge1"); err != nil {
			t.Fatal(err)
		}
		n := &node{t: t, fleet: twin, key: "iad", geo: "iad", name: "iad-edge1", addr: freeAddr(t)}
		n.setup = twin.setupFor(n)
		n.start()
		within(t, "refused and told", func() bool { return fra.event(fabric.DuplicateName, "iad-edge1") })
		within(t, "the twin knows why", func() bool {
			p := n.Peers()
			return len(p) > 0 && strings.Contains(p[0].LastError, "another key")
		})
		if !fra.sees("iad") || f.nodes["iad"].World().Find("fra").Alive == false {
			t.Error("the holder of the name suffers")
		}
		res, err := fra.get(t.Context(), "iad", "/")
		if err != nil {
			t.Fatal(err)
		}
		res.Close()
	})
}

func TestWrongNodeAtAnAddress(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 0, "fra", "iad", "nrt")
	fra := f.nodes["fra"]
	fra.setup.Node.Via["iad-edge1"] = f.nodes["nrt"].addr
	f.start()
	within(t, "the wrong node is refused", func() bool {
		for _, p := range fra.Peers() {
			if p.Node == "iad-edge1" && strings.Contains(p.LastError, "its certificate says nrt/nrt-edge1") {
				return p.State == fabric.Down
			}
		}
		return false
	})
	within(t, "the others are fine", func() bool { return fra.sees("nrt") && f.nodes["iad"].sees("nrt") })
}
