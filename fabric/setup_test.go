package fabric_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"anyedge/fabric"
	"anyedge/fabric/identity"
)

func TestNewSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, f *fleet, s *fabric.Setup)
		says []string
	}{
		{
			"certificate of another node", func(_ *testing.T, _ *fleet, s *fabric.Setup) { s.NodeName = "fra-edge9" },
			[]string{"node.fabric.cert", "fra/fra-edge1", "fra/fra-edge9"},
		},
		{
			"certificate of another geo", func(_ *testing.T, _ *fleet, s *fabric.Setup) { s.Geo = "iad" },
			[]string{"node.fabric.cert", "fra/fra-edge1", "iad/fra-edge1"},
		},
		{
			"another trust domain", func(_ *testing.T, _ *fleet, s *fabric.Setup) { s.Config.TrustDomain = "example.org" },
			[]string{"node.fabric.cert", "edge.example.net", "example.org"},
		},
		{
			"key of another node", func(_ *testing.T, f *fleet, s *fabric.Setup) { s.Node.Key.File = filepath.Join(f.dir, "ca.key") },
			[]string{"node.fabric.cert", "private key does not match"},
		},
		{
			"no secret", func(_ *testing.T, f *fleet, s *fabric.Setup) { s.Config.Secret.File = filepath.Join(f.dir, "none") },
			[]string{"fabric.secret", "none: no such file"},
		},
		{
			"something else as secret", func(_ *testing.T, f *fleet, s *fabric.Setup) { s.Config.Secret.File = filepath.Join(f.dir, "ca.crt") },
			[]string{"fabric.secret", "edgectl fabric init"},
		},
		{
			"no address", func(_ *testing.T, _ *fleet, s *fabric.Setup) { s.Node.Listen = "localhost" },
			[]string{"node.fabric.listen"},
		},
		{
			"every address", func(_ *testing.T, _ *fleet, s *fabric.Setup) { s.Node.Listen = "0.0.0.0:7000" },
			[]string{"node.fabric.listen", "name an address of this machine"},
		},
		{
			"via", func(_ *testing.T, _ *fleet, s *fabric.Setup) { s.Node.Via = map[string]string{"iad-edge1": "iad"} },
			[]string{"node.fabric.via[iad-edge1]"},
		},
		{
			"state that is no folder", func(_ *testing.T, f *fleet, s *fabric.Setup) { s.StateDir = filepath.Join(f.dir, "ca.crt") },
			[]string{"orders"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFleet(t, 0, "fra")
			setup := f.nodes["fra"].setup
			tt.do(t, f, &setup)
			_, err := fabric.New(setup, testLog(t))
			if err == nil {
				t.Fatal("no error")
			}
			for _, s := range tt.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q does not say %q", err, s)
				}
			}
		})
	}
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 0, "fra")
	taken, err := net.ListenPacket("udp", f.nodes["fra"].addr)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	fab, err := fabric.New(f.nodes["fra"].setup, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	err = fab.Run(context.Background(), func() { t.Error("it says that it is ready") })
	if err == nil || !strings.Contains(err.Error(), "node.fabric.listen") || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("error %v", err)
	}
}

func TestOpenKeysAreWarnedOf(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 0, "fra")
	path := filepath.Join(f.dir, identity.SecretFile)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	if _, err := fabric.New(f.nodes["fra"].setup, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "chmod 600 "+path) || strings.Count(log.String(), "level=WARN") != 1 {
		t.Errorf("log: %s", log.String())
	}
}
