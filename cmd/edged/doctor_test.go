package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"anyedge/internal/testpeer"
)

const aService = "services:\n  - {name: shop, hosts: [\"*\"], backends: [{name: a, url: \"http://127.0.0.1:9\"}]}\n"

// doctorInNamespace looks at a machine with planted faults, runs the script that
// mends them, and looks again. $1 is the program, $2 the configuration.
const doctorInNamespace = `
ip link set lo up
ip link add up0 type veth peer name up1
sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.up0.rp_filter=1 net.core.somaxconn=4096 net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
ip link set up0 mtu 1280
ip link set up0 up
ip link set up1 up
ip address add 192.0.2.2/24 dev up0
ip route add default via 192.0.2.1 dev up0
mkfifo ready
python3 -c 'import socket, sys
s = socket.socket()
s.bind(("127.0.0.1", 8443))
s.listen()
open("ready", "w").close()
sys.stdin.read()' <&3 >user.log 2>&1 &
user=$!
: <ready
echo $user >user
look() { "$1" doctor --config "$2" --only sysctl,mtu,bgp,ports "$3" "$4" >"$5" || echo $? >"$5.code"; }
look "$1" "$2" -o table table
look "$1" "$2" -o json json
look "$1" "$2" --fix-script --color=never fix.sh
sh -n fix.sh
sh fix.sh
look "$1" "$2" -o table after
kill $user
`

func TestDoctorWithPlantedFaults(t *testing.T) {
	t.Parallel()
	testpeer.NeedRoot(t)
	testpeer.Need(t, "ip", "unshare", "sysctl", "python3", "sh", "mkfifo")
	dir := t.TempDir()
	file := setUp(t, dir, `
node:
  router_id: 192.0.2.2
  bgp: {neighbors: [{name: tor1, address: 127.0.0.1, port: 1790, asn: 65001}]}
bgp: {asn: 65010}
vips: [{name: www, prefixes: [203.0.113.0/24], addresses: [203.0.113.10]}]
listeners:
  - {name: http, vips: [www], port: 80}
  - {name: own, bind: ["127.0.0.1:8443"]}
`+aService)
	open, closing, err := os.Pipe() // its end is the end of the port's user
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	defer closing.Close()
	ctx, cancel := context.WithTimeout(t.Context(), testpeer.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", "--net", "sh", "-e", "-c", doctorInNamespace, "sh", edgedBinary, file)
	cmd.Dir = dir
	cmd.ExtraFiles = []*os.File{open}
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	user := strings.TrimSpace(read(t, dir, "user"))
	const (
		rp     = "FAIL  net.ipv4.conf.up0.rp_filter=1 drops packets whose way back is another interface. Fix: sysctl -w net.ipv4.conf.up0.rp_filter=2"
		mtu    = "mtu     warn  up0 1280 < 1500: larger packets depend on path MTU discovery. Fix: if the network behind it carries that: ip link set dev up0 mtu 1500"
		tor    = "bgp     FAIL  tor1 127.0.0.1:1790: refused. Fix: see that BGP runs at 127.0.0.1:1790, and has a neighbor statement for this machine"
		vip    = "ports   ok    203.0.113.10:80/tcp (listener http) is free; edged adds the address to lo"
		advice = ".  doctor --fix-script prints a script with the fixes above (it does not run them)."
	)
	used := "ports   FAIL  127.0.0.1:8443/tcp (listener own) is used by python3 (pid " + user + "). Fix: stop it, or give listener own another port"
	// The buffers' limits are not a namespace's own everywhere.
	if d := cmp.Diff([]string{mtu, "sysctl  " + rp, tor, vip, used}, rowsWithout(read(t, dir, "table"), "mem_max", "somaxconn", "arp_", "FAIL, ")); d != "" {
		t.Errorf("before (-want +got):\n%s", d)
	}
	if text := read(t, dir, "table"); !strings.Contains(text, "\n3 FAIL, ") || !strings.HasSuffix(text, advice+"\n") || strings.Contains(text, "\x1b") {
		t.Errorf("the end of the table:\n%s", text)
	}
	wantDiagnosis(t, read(t, dir, "json"))
	for _, name := range []string{"table.code", "json.code", "fix.sh.code", "after.code"} {
		if got := read(t, dir, name); got != "1\n" {
			t.Errorf("%s: %q, want 1", name, got)
		}
	}
	if d := cmp.Diff([]string{
		mtu, tor, vip, used,
	}, rowsWithout(read(t, dir, "after"), "mem_max", "somaxconn", "arp_", "FAIL, ")); d != "" {
		t.Errorf("after the script (-want +got):\n%s\n%s", d, read(t, dir, "fix.sh"))
	}
	if t.Failed() {
		t.Logf("output:\n%s", out)
	}
}

// read returns a file's text.
func read(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

// rowsWithout returns the lines with none of the words.
func rowsWithout(text string, words ...string) []string {
	var out []string
	for line := range strings.Lines(text) {
		keep := true
		for _, w := range words {
			keep = keep && !strings.Contains(line, w)
		}
		if keep {
			out = append(out, strings.TrimSuffix(line, "\n"))
		}
	}
	return out
}

// wantDiagnosis checks the numbers of -o json and one fix in it.
func wantDiagnosis(t *testing.T, text string) {
	t.Helper()
	d := diagnosed(t, text)
	fails := 0
	for _, c := range d.Checks {
		if c.Verdict == "FAIL" {
			fails++
		}
		if strings.Contains(c.Text, "rp_filter=1") && !cmp.Equal(c.Script, []string{"sysctl -w net.ipv4.conf.up0.rp_filter=2"}) {
			t.Errorf("%+v", c)
		}
	}
	if fails != 3 || d.Fail != 3 {
		t.Errorf("%d FAIL, says %d:\n%s", fails, d.Fail, text)
	}
}

// A diagnosis is what -o json prints.
type diagnosis struct {
	Fail, Warn int
	Checks     []struct {
		Area, Verdict, Text, Fix string
		Script                   []string
	}
}

func diagnosed(t *testing.T, text string) diagnosis {
	t.Helper()
	var d diagnosis
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	return d
}

// The ports of an edged that runs are no fault.
func TestDoctorBesideADaemon(t *testing.T) {
	t.Parallel()
	port := strconv.Itoa(int(testpeer.FreePort(t, edgeIP)))
	config := fmt.Sprintf("listeners:\n  - {name: web, bind: [\"%s:%s\"], protocols: [h1, h3], tls: {certificates: [dev]}}\n"+
		"certificates: [{name: dev, self_signed: true, domains: [localhost]}]\n", edgeIP, port) + aService
	d := start(t, config)
	got := runEdged(t, nil, "doctor", "--config", filepath.Join(d.dir, "edged.yaml"), "--only", "ports,certs,config")
	if got.code != 0 || strings.Count(got.stdout, "is used by edged (pid ") != 2 || !strings.HasSuffix(got.stdout, "\n0 FAIL, 0 warn\n") ||
		!strings.Contains(got.stdout, "dev is self-signed") || !strings.Contains(got.stdout, "edged.yaml: valid, digest ") {
		t.Errorf("%+v", got)
	}
}

// Everything is looked at in bounded time, whatever does not answer; nothing is
// made on the machine.
func TestDoctorIsQuickAndChangesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := setUp(t, dir, `
node: {geo: fra, name: fra-edge1, number: 1, fabric: {listen: "127.0.0.1:8443", cert: {file: /none/crt}, key: {file: /none/key}}}
geos: [{name: fra, number: 1, fabric: ["127.0.0.1:8443"]}, {name: nrt, number: 2, fabric: ["127.0.0.1:1"]}]
fabric: {trust_domain: edge.example.net, ca: {file: /none/ca}, secret: {file: /none/secret}}
listeners:
  - {name: web, bind: ["127.0.0.1:8080"], tls: {certificates: [dev]}}
certificates: [{name: dev, self_signed: true, domains: [localhost]}]
`+aService)
	begun := time.Now()
	got := runEdged(t, nil, "doctor", "--config", file, "-o", "json")
	if took := time.Since(begun); took > 20*time.Second { // on a machine that does other things
		t.Errorf("it took %s", took)
	}
	d := diagnosed(t, got.stdout)
	areas := map[string]bool{}
	for _, c := range d.Checks {
		areas[c.Area] = true
	}
	for _, area := range []string{"config", "kernel", "nic", "mtu", "sysctl", "tcp", "fabric", "certs", "ports", "time", "limits"} {
		if !areas[area] {
			t.Errorf("nothing about %s:\n%s", area, got.stdout)
		}
	}
	if got.code != 1 || !strings.Contains(got.stdout, "nrt 127.0.0.1:1: no answer by UDP") || !strings.Contains(got.stdout, "node.fabric.cert: open /none/crt") {
		t.Errorf("%+v", got)
	}
	wantOnly(t, dir, "edged.yaml")
}

func TestDoctorCommandLine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	broken := setUp(t, dir, "listeners: 7\n"+aService)
	for _, tt := range []struct {
		name   string
		args   []string
		code   int
		stdout string // a part; "": nothing at all
		stderr string
	}{
		{"an area that is none", []string{"--only", "kernel,teeth"}, 2, "", "edged: --only teeth: there are config, kernel, nic, mtu, sysctl, tcp, bgp, fabric, certs, ports, time, limits\n"},
		{"a format that is none", []string{"-o", "xml"}, 2, "", "edged: -o xml: want table or json\n"},
		{"a word", []string{"now"}, 2, "", "edged: unexpected \"now\"\n"},
		{"a color that is none", []string{"--color", "red"}, 2, "", "edged: --color red: want auto, always or never\n"},
		{"broken configuration", []string{"--config", broken, "--only", "config,tcp"}, 3, "only the machine is checked", "edged.yaml:2:12: error: listeners"},
		{"a file that is not there", []string{"--config", filepath.Join(dir, "none.yaml"), "--only", "tcp"}, 3, "tcp", "none.yaml: error: no such file"},
		{"help", []string{"--help"}, 0, "", "edged doctor [flags]"},
		{"colors", []string{"--config", setUp(t, t.TempDir(), "listeners: [{name: web, bind: [\"127.0.0.1:8080\"]}]\n"+aService), "--only", "config", "--color", "always"}, 0, "config  \x1b[32mok  \x1b[0m  ", ""},
	} {
		got := runEdged(t, nil, append([]string{"doctor"}, tt.args...)...)
		if got.code != tt.code || !strings.Contains(got.stdout, tt.stdout) || (tt.stdout == "") != (got.stdout == "") || !strings.Contains(got.stderr, tt.stderr) {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
}

// The script is one of the shell, whatever stands in the configuration.
func TestFixScriptIsAScript(t *testing.T) {
	t.Parallel()
	testpeer.Need(t, "sh")
	dir := t.TempDir()
	evil := filepath.Join(dir, "a'b $(touch ran)\n;touch ran") + ".key"
	if err := os.WriteFile(evil, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(evil)
	if err != nil {
		t.Fatal(err)
	}
	file := setUp(t, dir, fmt.Sprintf(`
node: {geo: fra, name: fra-edge1, number: 1, fabric: {listen: "127.0.0.1:8443", cert: {file: %[1]s}, key: {file: %[1]s}}}
geos: [{name: fra, number: 1, fabric: ["127.0.0.1:8443"]}]
fabric: {trust_domain: edge.example.net, ca: {file: %[1]s}, secret: {file: %[1]s}}
listeners: [{name: web, bind: ["127.0.0.1:8080"]}]
`, text)+aService)
	got := runEdged(t, nil, "doctor", "--config", file, "--only", "fabric,certs", "--fix-script")
	if got.code != 1 || !strings.HasPrefix(got.stdout, "#!/bin/sh\n") || !strings.Contains(got.stdout, "chmod 600 ") {
		t.Fatalf("%+v", got)
	}
	cmd := exec.CommandContext(t.Context(), "sh")
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(got.stdout)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(evil)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key is not mended: %v, %v\n%s\n%s", info, err, got.stdout, &out)
	}
	if _, err := os.Stat(filepath.Join(dir, "ran")); err == nil {
		t.Errorf("a file's name was run:\n%s", got.stdout)
	}
}
