package arch_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"anyedge/internal/arch"
)

// listed is what `go list -json` says of a package.
type listed struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

// packages lists every package of the module.
func packages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = root(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// root is the folder of go.mod.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// ours strips the module's path; ok is false for packages of others.
func ours(path string) (string, bool) { return strings.CutPrefix(path, arch.Module+"/") }

func TestImportsGoOneWay(t *testing.T) {
	all := packages(t)
	if len(all) < 10 {
		t.Fatalf("go list found %d packages", len(all))
	}
	for _, p := range all {
		from, _ := ours(p.ImportPath)
		for _, imp := range p.Imports {
			if to, ok := ours(imp); ok && !arch.Allowed(from, to) {
				t.Errorf("%s imports %s: define a small interface in %s and let cmd/edged/wire.go connect them", from, to, from)
			}
		}
		for _, imp := range slices.Concat(p.TestImports, p.XTestImports) {
			to, ok := ours(imp)
			if ok && to != from && !arch.Allowed(from, to) && !slices.Contains(arch.TestOnly, to) &&
				!slices.Contains(arch.TestMore[from], to) && !testFriend(from, to) {
				t.Errorf("tests of %s import %s", from, to)
			}
		}
	}
}

// testFriend lets a test use the package's own subfolders and the shared
// models.
func testFriend(from, to string) bool {
	return strings.HasPrefix(to, from+"/") || to == "internal/message" || to == "internal/world" || to == "internal/api"
}

func TestStdlibOnly(t *testing.T) {
	for _, p := range packages(t) {
		name, _ := ours(p.ImportPath)
		if !slices.Contains(arch.StdlibOnly, name) {
			continue
		}
		for _, imp := range p.Imports {
			if _, own := ours(imp); !own && strings.Contains(strings.Split(imp, "/")[0], ".") {
				t.Errorf("%s imports %s, but uses the standard library alone", name, imp)
			}
		}
	}
}

func TestTableNamesExistingPackages(t *testing.T) {
	later := []string{"internal/quicid", "bgp/bfd", "internal/bench"}
	for name := range arch.Table {
		if _, err := os.Stat(filepath.Join(root(t), name)); err != nil && !slices.Contains(later, name) {
			t.Errorf("the table has a row for %s: %v", name, err)
		}
	}
}

// sources yields the Go files that people write.
func sources(t *testing.T) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(root(t), func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, ".go") && !strings.Contains(path, "_bpfel") {
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestFilesAreShort(t *testing.T) {
	const longest = 400
	for _, path := range sources(t) {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		lines := 0
		for s := bufio.NewScanner(f); s.Scan(); {
			lines++
		}
		_ = f.Close()
		if lines > longest {
			t.Errorf("%s has %d lines: above %d two ideas live in one file", path, lines, longest)
		}
	}
}

func TestNobodySleeps(t *testing.T) {
	sleep := "time." + "Sleep("
	for _, path := range sources(t) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(b), "\n") {
			if strings.Contains(line, sleep) {
				t.Errorf("%s:%d: wait for a condition or a timer in a select, never sleep", path, i+1)
			}
		}
	}
}
