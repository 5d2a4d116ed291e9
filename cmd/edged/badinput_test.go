package main_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"anyedge/internal/testpeer"
)

// A configuration with mistakes starts nothing: every mistake is told, with its
// place, and the exit code is 3.
func TestWrongConfiguration(t *testing.T) {
	t.Parallel()
	port := strconv.Itoa(int(testpeer.FreePort(t, edgeIP)))
	const (
		head  = "listeners:\n"
		shop  = "services:\n  - {name: shop, hosts: [\"*\"], backends: [{name: a, url: \"http://127.0.0.1:9\"}]}\n"
		plain = "  - {name: web, bind: [\"" + edgeIP + ":"
	)
	for _, tt := range []struct {
		name, config string
		want         []string // in stderr; FILE is the file's path
	}{
		{
			"a typing mistake", head + plain + port + "\"]}\n" + strings.Replace(shop, "hosts", "hsots", 1),
			[]string{`FILE:5:18: error: services[0].hsots: unknown field "hsots" (did you mean "hosts"?)`, "^^^^^", "Nothing was changed."},
		},
		{
			"three mistakes", head + plain + port + "\"], tls: {certificates: [dev]}}\n" + shop + "overload: {mode: sometimes}\nshutdown: {max: 5}\n",
			[]string{
				`FILE:3:66: error: listeners[0].tls.certificates[0]: unknown certificate "dev"`,
				`FILE:6:18: error: overload.mode: got "sometimes", want act or observe`,
				`FILE:7:17: error: shutdown.max: a duration needs a unit`,
				"3 errors. Nothing was changed.",
			},
		},
		{"not YAML", head + plain + port + "\"\n", []string{"FILE:", "error:", "Nothing was changed."}},
		{"a field of a later version", head + plain + port + "\"]}\n" + shop + "dns: {}\n", []string{"FILE:6:1: error: dns"}},
		{"BGP without a node", head + plain + port + "\"]}\n" + shop + "bgp: {asn: 65010}\n", []string{"FILE:", "node"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			file := setUp(t, dir, tt.config)
			for _, args := range [][]string{{"--config", file}, {"run", "--config", file}, {"--check", "--config", file}} {
				got := runEdged(t, nil, args...)
				if got.code != 3 || got.stdout != "" {
					t.Errorf("edged %v: exit code %d, stdout %q", args, got.code, got.stdout)
				}
				for _, want := range tt.want {
					if want = strings.ReplaceAll(want, "FILE", file); !strings.Contains(got.stderr, want) {
						t.Errorf("edged %v does not say %q:\n%s", args, want, got.stderr)
					}
				}
			}
			wantOnly(t, dir, "edged.yaml")
		})
	}
}

// wantOnly checks that a folder holds nothing but the files.
func wantOnly(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(names, " ") {
		t.Errorf("the folder holds %v, want %v", got, names)
	}
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	port := testpeer.FreePort(t, edgeIP)
	dir := t.TempDir()
	file := setUp(t, dir, localConfig(port, serviceAt("app", "/", backendIP+":9")))
	for _, tt := range []struct {
		name   string
		args   []string
		code   int
		stdout string
		stderr string
	}{
		{"--check", []string{"--check", "--config", file}, 0, file + ": valid, digest ", ""},
		{"--version", []string{"--version"}, 0, "edged 0.", ""},
		{"--help", []string{"--help"}, 0, "", "edged demo [flags]"},
		{"help", []string{"help"}, 0, "", "edged demo [flags]"},
		{"unknown command", []string{"sevre"}, 2, "", `edged: "sevre" is not a command; there are run (the default), demo, doctor, cleanup and help`},
		{"unknown flag", []string{"--cofnig", file}, 2, "", "edged: see edged --help"},
		{"one word too many", []string{"--config", file, "now"}, 2, "", `edged: unexpected "now"; the file is named with --config`},
		{"unknown log level", []string{"--config", file, "--log-level", "loud"}, 2, "", `edged: log level "loud": want debug, info, warn or error`},
		{"no file", []string{"--config", filepath.Join(dir, "nowhere.yaml")}, 3, "", filepath.Join(dir, "nowhere.yaml") + ": error: no such file"},
		{"a folder", []string{"--check", "--config", dir}, 3, "", dir + ": error: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := runEdged(t, nil, tt.args...)
			if got.code != tt.code || !strings.HasPrefix(got.stdout, tt.stdout) || tt.stdout == "" && got.stdout != "" || !strings.Contains(got.stderr, tt.stderr) {
				t.Errorf("exit code %d\nstdout: %s\nstderr: %s", got.code, got.stdout, got.stderr)
			}
		})
	}
	wantOnly(t, dir, "edged.yaml")
}

// What stands in the way of a start is told in one line that says what to do,
// and the exit code is 1.
func TestCannotStart(t *testing.T) {
	t.Parallel()
	taken := take(t)
	dir := t.TempDir()
	living := start(t, localConfig(testpeer.FreePort(t, edgeIP), serviceAt("app", "/", backendIP+":9")))
	blocked := filepath.Join(dir, "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, config string
		want         []string
	}{
		{
			"port in use", localConfig(taken.Port, serviceAt("app", "/", backendIP+":9")),
			[]string{"listener https: ", taken.Addr, "is in use by ", fmt.Sprintf("(pid %d)", os.Getpid()), "stop it or change listeners[].bind"},
		},
		{
			"another address's port", strings.ReplaceAll(localConfig(443, serviceAt("app", "/", backendIP+":9")), edgeIP, "192.0.2.99"),
			[]string{"listener https: ", "192.0.2.99:443 is no address of this machine", "change listeners[].bind"},
		},
		{
			"missing certificate", strings.Replace(free(t), "    self_signed: true\n    domains: [shop.localhost, localhost, "+edgeIP+"]\n", "    files: {cert: "+dir+"/site.crt, key: "+dir+"/site.key}\n", 1),
			[]string{"certificate", "dev", dir + "/site.crt", "no such file"},
		},
		{
			"socket of a living edged", free(t) + "admin: {socket: " + filepath.Join(living.dir, "edged.sock") + "}\n",
			[]string{"admin.socket", filepath.Join(living.dir, "edged.sock"), "another edged answers there", "give this one another socket"},
		},
		{
			"socket under a file", free(t) + "admin: {socket: " + blocked + "/edged.sock}\n",
			[]string{"admin.socket", blocked, "not a directory"},
		},
		{
			"state under a file", free(t) + "state: {dir: " + blocked + "/state}\n",
			[]string{"state.dir", blocked, "not a directory", "set state.dir to one that this user may write"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := setUp(t, t.TempDir(), tt.config)
			wantOneLine(t, runEdged(t, nil, "--config", file), tt.want...)
		})
	}
	if _, err := living.admin.Version(t.Context()); err != nil || living.ended() {
		t.Errorf("the first edged suffered: %v", err)
	}
}

// free is a configuration that could start.
func free(t *testing.T) string {
	t.Helper()
	return localConfig(testpeer.FreePort(t, edgeIP), serviceAt("app", "/", backendIP+":9"))
}

// wantOneLine checks that edged ended with code 1 and one line that says all of
// words.
func wantOneLine(t *testing.T, got ran, words ...string) {
	t.Helper()
	if got.code != 1 {
		t.Errorf("exit code %d, want 1", got.code)
	}
	var lines []string
	for line := range strings.Lines(got.stderr) {
		if !strings.HasPrefix(line, "{") || !strings.Contains(line, `"WARN"`) { // what a machine reads, about something else
			lines = append(lines, line)
		}
	}
	if len(lines) != 1 || !strings.HasPrefix(lines[0], "edged: ") {
		t.Errorf("want one line:\n%s", got.stderr)
	}
	for _, w := range words {
		if !strings.Contains(got.stderr, w) {
			t.Errorf("it does not say %q:\n%s", w, got.stderr)
		}
	}
}

// An inUse is an address that this process listens on.
type inUse struct {
	Addr string
	Port uint16
}

func take(t *testing.T) inUse {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp4", edgeIP+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return inUse{l.Addr().String(), uint16(l.Addr().(*net.TCPAddr).Port)}
}

// Keys of the fabric that are missing, wrong or another node's.
func TestWrongFabricKeys(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, keys string)
		want  []string
	}{
		{"no secret", remove("secret"), []string{"fabric.secret", "secret: no such file", "edgectl fabric init"}},
		{"no CA", remove("ca.crt"), []string{"fabric.ca", "ca.crt: no such file", "edgectl fabric init"}},
		{"no key", remove("fra-fra-edge1.key"), []string{"node.fabric.key", "fra-fra-edge1.key: no such file", "edgectl fabric issue"}},
		{"a secret of another form", func(t *testing.T, keys string) {
			t.Helper()
			if err := os.WriteFile(filepath.Join(keys, "secret"), []byte("hunter2\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, []string{"fabric.secret"}},
		{"another node's certificate", func(t *testing.T, keys string) {
			t.Helper()
			for _, ext := range []string{".crt", ".key"} {
				if err := os.Rename(filepath.Join(keys, "iad-iad-edge1"+ext), filepath.Join(keys, "fra-fra-edge1"+ext)); err != nil {
					t.Fatal(err)
				}
			}
		}, []string{"iad/iad-edge1", "fra/fra-edge1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFleet(t, "fra", "iad")
			tt.spoil(t, f.keys)
			dir := f.write(t, "fra", appService(backendIP+":9"))
			wantOneLine(t, runEdged(t, nil, "--config", filepath.Join(dir, "edged.yaml")), tt.want...)
		})
	}
}

func remove(name string) func(t *testing.T, keys string) {
	return func(t *testing.T, keys string) {
		t.Helper()
		if err := os.Remove(filepath.Join(keys, name)); err != nil {
			t.Fatal(err)
		}
	}
}

// A process without privileges is told which one it lacks.
func TestNoPrivilege(t *testing.T) {
	t.Parallel()
	testpeer.NeedRoot(t)
	const nobody = 65534
	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start"); err != nil || strings.TrimSpace(string(b)) != "1024" {
		t.Skip("this machine lets anybody have low ports")
	}
	dir, err := os.MkdirTemp("", "edged-nobody") //nolint:usetesting // of t.TempDir, the parent is closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	as := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	t.Run("low port", func(t *testing.T) {
		file := setUp(t, dir, strings.Replace(free(t), "bind: [\""+edgeIP, "bind: [\""+edgeIP+":81\", \""+edgeIP, 1))
		wantOneLine(t, runEdged(t, as, "--config", file), "listener https: "+edgeIP+":81: a port below 1024 needs root or CAP_NET_BIND_SERVICE")
	})
	t.Run("state.dir", func(t *testing.T) {
		file := setUp(t, dir, free(t)+"state: {dir: "+t.TempDir()+"/state}\n")
		wantOneLine(t, runEdged(t, as, "--config", file), "state.dir", "permission denied", "set state.dir to one that this user may write")
	})
	t.Run("state.dir of another", func(t *testing.T) {
		file := setUp(t, dir, free(t)+"state: {dir: /usr}\n")
		wantOneLine(t, runEdged(t, as, "--config", file), "state.dir", "/usr: permission denied", "set state.dir to one that this user may write")
	})
}
