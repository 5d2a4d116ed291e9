package bpf_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"anyedge/bpf"
)

// nodeEnv makes the test's program a node: it holds its Setup.
const nodeEnv = "BPF_TEST_NODE"

func TestMain(m *testing.M) {
	if text := os.Getenv(nodeEnv); text != "" {
		if err := runNode(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A said is what a node tells after everything that it was told, and when its
// Self changes.
type said struct {
	Self   bpf.Self
	Status bpf.Status
}

// runNode follows the states that come in by the standard input until it is told
// to stop, and tells of itself on the standard output.
func runNode(text string) error {
	var setup bpf.Setup
	if err := json.Unmarshal([]byte(text), &setup); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	p, err := bpf.New(setup, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return err
	}
	go func() {
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			var s bpf.State
			if json.Unmarshal(lines.Bytes(), &s) == nil {
				p.Follow(s)
			}
		}
	}()
	go func() {
		out, tick := json.NewEncoder(os.Stdout), time.NewTicker(20*time.Millisecond)
		for range tick.C {
			if out.Encode(said{p.Self(), p.Status()}) != nil {
				return
			}
		}
	}()
	return p.Run(ctx, func() {})
}
