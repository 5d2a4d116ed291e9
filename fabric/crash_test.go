package fabric_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"anyedge/fabric"
	"anyedge/internal/message"
	"anyedge/internal/world"
)

// A childSetup is what a node in a process of its own is told.
type childSetup struct {
	Config fabric.Config
	Node   fabric.NodeConfig
	Geo    string
	Name   string
	State  string
	Geos   []world.GeoConfig
}

// childNode runs one node until it is killed.
func childNode(path string) int {
	b, err := os.ReadFile(path)
	if err != nil {
		return 1
	}
	var c childSetup
	if err := json.Unmarshal(b, &c); err != nil {
		return 1
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	fab, err := fabric.New(fabric.Setup{
		Config: c.Config, Node: c.Node, Geo: c.Geo, NodeName: c.Name, Geos: c.Geos, StateDir: c.State, Handler: answer,
	}, log)
	if err != nil {
		log.Error("child", "err", err)
		return 1
	}
	fab.SetLoad(world.Load{Capacity: 1})
	if err := fab.Publish(world.NodeRecord{}); err != nil {
		return 1
	}
	// The pipe ends with the parent, so that no child outlives it.
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		_, _ = os.Stdin.Read(make([]byte, 1))
	}()
	if err := fab.Run(ctx, func() {}); err != nil {
		log.Error("child", "err", err)
		return 1
	}
	return 0
}

// startChild starts the geo's node in a process of its own, and returns a
// function that kills it.
func (f *fleet) startChild(geo string) (kill func()) {
	f.t.Helper()
	_, kill = f.startProcess(geo)
	return kill
}

// startProcess is startChild for who wants to do more to the process.
func (f *fleet) startProcess(geo string) (p *os.Process, kill func()) {
	f.t.Helper()
	n := f.nodes[geo]
	b, err := json.Marshal(childSetup{n.setup.Config, n.setup.Node, n.geo, n.name, n.setup.StateDir, f.geos})
	if err != nil {
		f.t.Fatal(err)
	}
	path := filepath.Join(f.dir, "child.json")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		f.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), "FABRIC_TEST_NODE="+path)
	cmd.Stderr = f.t.Output()
	if _, err := cmd.StdinPipe(); err != nil {
		f.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	killed := false
	kill = func() {
		if !killed {
			killed = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	f.t.Cleanup(kill)
	return cmd.Process, kill
}

func TestKilledNode(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 0, "fra", "iad")
	f.start("fra")
	fra := f.nodes["fra"]
	kill := f.startChild("iad")
	within(t, "full view", func() bool { return fra.sees("iad") })
	first := recordOf(fra, "iad-edge1").Version

	hang := func() chan error {
		done := make(chan error, 1)
		go func() {
			_, err := fra.get(context.Background(), "iad", "/hang")
			done <- err
		}()
		within(t, "request under way", func() bool { return inFlight(fra) == 1 })
		return done
	}
	done := hang()
	kill()
	begin := time.Now()
	err := <-done
	took := time.Since(begin)
	t.Logf("request under way ended %s after the kill: %v", took.Round(time.Millisecond), err)
	if message.SentBy(err) != message.MaybeExecuted {
		t.Errorf("it says %v", err)
	}
	if took > 3*time.Second {
		t.Errorf("it took %s", took)
	}
	within(t, "membership calls it lost", func() bool { return fra.World().Find("iad").Nodes[0].Status == world.Lost })

	kill = f.startChild("iad")
	within(t, "back", func() bool { return fra.sees("iad") })
	within(t, "its record superseded the old one", func() bool { return first.Less(recordOf(fra, "iad-edge1").Version) })

	second := recordOf(fra, "iad-edge1").Version

	// Killed and back at once: the stateless reset tells the peer.
	done = hang()
	kill()
	begin = time.Now()
	f.startChild("iad")
	err = <-done
	t.Logf("request under way ended %s after kill and restart: %v", time.Since(begin).Round(time.Millisecond), err)
	if message.SentBy(err) != message.MaybeExecuted {
		t.Errorf("it says %v", err)
	}
	within(t, "back again", func() bool {
		return fra.sees("iad") && second.Less(recordOf(fra, "iad-edge1").Version)
	})
}
