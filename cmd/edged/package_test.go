package main_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"anyedge/internal/testpeer"
)

// packageTime bounds the making of a package: both programs are built anew for
// it where the build cache is cold.
const packageTime = 10 * time.Minute

// makePackage runs scripts/package and returns the package's path.
func makePackage(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), packageTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join("..", "..", "scripts", "package"))
	cmd.Env = append(os.Environ(), "OUT="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("scripts/package: %v\n%s", err, out)
	}
	found, err := filepath.Glob(filepath.Join(dir, "edged_*.deb"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%q, %v", found, err)
	}
	return found[0]
}

// TestPackage: a package is made, twice the same, and lives its whole life in a
// fresh root: install, check of the unit, init, start by the unit's own line,
// stop, upgrade, remove, purge.
func TestPackage(t *testing.T) {
	testpeer.NeedRoot(t)
	testpeer.Need(t, "dpkg-deb", "systemd-analyze", "unshare", "setpriv", "git")
	deb := makePackage(t)
	t.Run("the same again", func(t *testing.T) {
		if !bytes.Equal(readFile(t, deb), readFile(t, makePackage(t))) {
			t.Error("two runs made two packages")
		}
	})
	t.Run("content", func(t *testing.T) { packageContent(t, deb) })
	t.Run("lint", func(t *testing.T) {
		lintian, err := exec.LookPath("lintian")
		if err != nil {
			t.Skip("lintian is not installed; it is no part of what the tests need")
		}
		out, err := exec.CommandContext(t.Context(), lintian, "--fail-on", "error", "--suppress-tags", "statically-linked-binary,no-manual-page", deb).CombinedOutput()
		if t.Logf("%s", out); err != nil {
			t.Error(err)
		}
	})
	t.Run("life", func(t *testing.T) { packageLife(t, deb) })
}

// packageContent looks at what is in the package.
func packageContent(t *testing.T, deb string) {
	t.Helper()
	list, err := exec.CommandContext(t.Context(), "dpkg-deb", "-c", deb).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, list)
	}
	for _, want := range []string{
		`-rwxr-xr-x root/root +\d+ .* \./usr/bin/edged\n`, `-rwxr-xr-x root/root +\d+ .* \./usr/bin/edgectl\n`,
		`-rw-r--r-- root/root +\d+ .* \./lib/systemd/system/edged\.service\n`, `\./usr/share/edged/edged\.schema\.json\n`,
		`\./usr/share/edged/sysctl\.conf\n`, `\./usr/share/doc/edged/copyright\n`, `\./usr/share/doc/edged/quickstart\.md\n`,
		`\./usr/share/doc/edged/examples/edged\.yaml\n`, `\./usr/share/doc/edged/modules-licenses\.gz\n`, `drwxr-xr-x root/root .* \./etc/edged/\n`,
	} {
		if !regexp.MustCompile(want).Match(list) {
			t.Errorf("lacks %s", want)
		}
	}
	if files := regexp.MustCompile(`(?m)^-.* \./etc/.*$`).FindAll(list, -1); len(files) > 0 {
		t.Errorf("files in /etc: %q", files)
	}
	info, err := exec.CommandContext(t.Context(), "dpkg-deb", "-I", deb).CombinedOutput()
	if err != nil || !regexp.MustCompile(`(?s) Package: edged\n Version: [0-9][^\n]*\n Architecture: [a-z0-9]+\n.* Depends: passwd\n`).Match(info) {
		t.Errorf("%v: %s", err, info)
	}
}

// packageLife runs testdata/package.sh and checks what it printed.
func packageLife(t *testing.T, deb string) {
	t.Helper()
	unit := string(readFile(t, filepath.Join("..", "..", "configs", "package", "edged.service")))
	shared := t.TempDir()
	m := newManager(t, filepath.Join(shared, "notify"))
	for path, mode := range map[string]os.FileMode{shared: 0o755, m.socket: 0o777} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*testpeer.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc",
		"bash", filepath.Join("testdata", "package.sh"), deb, shared)
	cmd.Env = append(os.Environ(), "EXEC_START="+unitLine(t, unit, "ExecStart"), "RUN_AS="+unitLine(t, unit, "User"), "CAPABILITIES="+unitLine(t, unit, "AmbientCapabilities"))
	out := &output{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	testpeer.WaitFor(t, "READY=1 and a pat of the watchdog", func() bool {
		select {
		case err := <-done:
			t.Fatalf("%v:\n%s", err, out)
		default:
		}
		return m.heard("READY=1") == 1 && m.heard("WATCHDOG=1") > 0
	})
	if err := os.WriteFile(filepath.Join(shared, "ready"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := <-done
	t.Logf("%s", out)
	if err != nil {
		t.Fatalf("%v; the daemon said:\n%s", err, readFile(t, filepath.Join(shared, "log")))
	}
	if m.heard("STOPPING=1") != 1 {
		t.Errorf("the manager heard %q", m.all())
	}
	steps := map[string]string{}
	for _, s := range strings.Split("\n"+out.String(), "\n== ")[1:] {
		name, text, _ := strings.Cut(s, "\n")
		steps[name] = text
	}
	for step, want := range map[string][]string{
		"install":         {`edged is installed and does nothing yet\. Next: sudo edgectl init`, `uid=\d+\(edged\) gid=\d+\(edged\)`, `/etc/edged 2750 root`},
		"verify":          {`(?m)^verified$`, `Overall exposure level for edged\.service: `},
		"init":            {`/etc/edged/edged\.yaml is written\. It announces nothing\.`, `/etc/edged/edged\.yaml 640`, `sudo systemctl enable --now edged`, `1 warning\. Digest`},
		"start":           {`Uid:\t[1-9]`, `CapEff:\t000000c000003400`, `203\.0\.113\.10/32`, `fra-edge1`, `not in group "?edged|permission denied`, `exit 5`, `never`},
		"stop":            {`ended well`},
		"upgrade":         {`edged: what runs is still the old version\. Next: systemctl restart edged`},
		"remove":          {`the configuration stays`},
		"purge":           {`nothing is left`},
		"purge with keys": {`kept, for they are not the package's: /etc/edged/fabric`, `/etc/edged 700 root:root`},
	} {
		for _, w := range want {
			if !regexp.MustCompile(w).MatchString(steps[step]) {
				t.Errorf("%s: lacks %s", step, w)
			}
		}
	}
	if strings.Contains(steps["stop"], "203.0.113.10") {
		t.Error("the VIP's address stays after the stop")
	}
	checkExposure(t, steps["verify"])
}

// maxExposure is the most that systemd's judgment of the unit may be, of 10.
const maxExposure = 2.5

// checkExposure reads what systemd-analyze security says.
func checkExposure(t *testing.T, text string) {
	t.Helper()
	found := regexp.MustCompile(`exposure level for edged\.service: ([0-9.]+)`).FindStringSubmatch(text)
	if found == nil {
		t.Fatalf("no exposure level in %q", text)
	}
	if level, err := strconv.ParseFloat(found[1], 64); err != nil || level > maxExposure {
		t.Errorf("the unit's exposure level is %s, want at most %.1f: %v", found[1], maxExposure, err)
	}
}

// unitLine returns the value of a unit's setting.
func unitLine(t *testing.T, unit, name string) string {
	t.Helper()
	for line := range strings.Lines(unit) {
		if value, ok := strings.CutPrefix(line, name+"="); ok {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("the unit has no %s", name)
	return ""
}
