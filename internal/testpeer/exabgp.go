package testpeer

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// An ExaBGP is a running ExaBGP that writes down what it hears.
type ExaBGP struct {
	process
	heard string // file with one JSON message a line
}

// StartExaBGP runs ExaBGP, listening on addr and port. session is the body of
// one neighbor section; neighbor is its address.
func StartExaBGP(tb testing.TB, addr string, port uint16, neighbor, session string) *ExaBGP {
	tb.Helper()
	Need(tb, "exabgp")
	dir := tb.TempDir()
	e := &ExaBGP{heard: filepath.Join(dir, "heard")}
	write(tb, e.heard, "")
	script := filepath.Join(dir, "write-down")
	write(tb, script, fmt.Sprintf(writeDown, e.heard))
	if err := os.Chmod(script, 0o755); err != nil { //nolint:gosec // ExaBGP runs it
		tb.Fatal(err)
	}
	write(tb, filepath.Join(dir, "exabgp.conf"), fmt.Sprintf(`
process heard { run %s; encoder json; }
neighbor %s {
	passive;
	%s
	api { processes [ heard ]; receive { parsed; update; } }
}
`, script, neighbor, session))
	me, err := user.Current()
	if err != nil {
		tb.Fatal(err)
	}
	e.process = process{
		name: "exabgp", args: []string{filepath.Join(dir, "exabgp.conf")},
		env: []string{
			"exabgp.tcp.bind=" + addr, "exabgp.tcp.port=" + strconv.Itoa(int(port)),
			"exabgp.daemon.user=" + me.Username, "exabgp.api.cli=false", "exabgp.api.ack=false", "exabgp.log.destination=stdout",
		},
	}
	e.start(tb)
	return e
}

// writeDown is the program that ExaBGP, which hands it a pipe that does not
// block, tells what it hears.
const writeDown = `#!/usr/bin/env python3
import os, sys
os.set_blocking(0, True)
with open(%q, "w", buffering=1) as heard:
    for line in sys.stdin:
        heard.write(line)
`

// exaMessage is one UPDATE as ExaBGP writes it.
type exaMessage struct {
	Type     string
	Neighbor struct {
		Message struct {
			Update struct {
				Attribute struct {
					ASPath         []uint32   `json:"as-path"`
					Communities    [][]uint32 `json:"community"`
					LargeCommunity [][]uint32 `json:"large-community"`
					MED            *uint32    `json:"med"`
					LocalPref      *uint32    `json:"local-preference"`
				}
				Announce map[string]map[string][]exaNLRI
				Withdraw map[string][]exaNLRI
			}
		}
	}
}

type exaNLRI struct{ NLRI netip.Prefix }

// Routes returns the routes that stand after everything heard so far.
func (e *ExaBGP) Routes(tb testing.TB) map[netip.Prefix]Route {
	tb.Helper()
	text, err := os.ReadFile(e.heard)
	if err != nil {
		tb.Fatal(err)
	}
	routes := make(map[netip.Prefix]Route)
	for line := range strings.Lines(string(text)) {
		var m exaMessage
		if json.Unmarshal([]byte(line), &m) == nil && m.Type == "update" {
			m.apply(routes)
		}
	}
	return routes
}

func (m exaMessage) apply(routes map[netip.Prefix]Route) {
	u := m.Neighbor.Message.Update
	for _, list := range u.Withdraw {
		for _, n := range list {
			delete(routes, n.NLRI)
		}
	}
	for _, hops := range u.Announce {
		for hop, list := range hops {
			addr, err := netip.ParseAddr(hop)
			if err != nil {
				continue // "null": an End-of-RIB
			}
			for _, n := range list {
				routes[n.NLRI] = Route{
					Prefix: n.NLRI, NextHop: addr, ASPath: u.Attribute.ASPath, MED: u.Attribute.MED, LocalPref: u.Attribute.LocalPref,
					Communities: colons(u.Attribute.Communities), LargeCommunities: colons(u.Attribute.LargeCommunity),
				}
			}
		}
	}
}

func colons(list [][]uint32) []string {
	var out []string
	for _, numbers := range list {
		out = append(out, strings.ReplaceAll(strings.Trim(fmt.Sprint(numbers), "[]"), " ", ":"))
	}
	slices.Sort(out)
	return out
}
