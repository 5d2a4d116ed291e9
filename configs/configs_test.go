package configs_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"anyedge/configs"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

// base is the least that a configuration needs.
var base = []struct{ section, text string }{
	{"version", "version: 1\n"},
	{"listeners", "listeners: [{name: web, bind: ['127.0.0.1:8080']}]\n"},
	{"services", "services: [{name: shop, hosts: ['*'], backends: [{name: a, url: 'http://127.0.0.1:3000'}]}]\n"},
}

// document returns sections, completed with those of base that they lack.
func document(sections string) string {
	var b strings.Builder
	for _, s := range base {
		if !strings.Contains("\n"+sections, "\n"+s.section+":") {
			b.WriteString(s.text)
		}
	}
	return b.String() + sections
}

// brief lists problems without their places.
func brief(r configs.Report) []string {
	var out []string
	for _, p := range r.Problems {
		out = append(out, fmt.Sprintf("%s: %s: %s", p.Severity, p.Path, p.Message))
	}
	return out
}

func TestExamplesHaveNoProblems(t *testing.T) {
	examples, err := filepath.Glob("examples/*.yaml")
	if err != nil || len(examples) < 2 {
		t.Fatalf("examples: %v, %v", examples, err)
	}
	for _, path := range append(examples, "edged.yaml") {
		t.Run(path, func(t *testing.T) {
			c, report := configs.Load(path)
			if c == nil || len(report.Problems) > 0 {
				t.Errorf("%s\n%s", report.Summary(), strings.Join(brief(report), "\n"))
			}
		})
	}
}

// schemaPaths returns the paths of all fields, with [] for lists and * for
// maps.
func schemaPaths(t *testing.T) []string {
	t.Helper()
	type node struct {
		Properties           map[string]json.RawMessage `json:"properties"`
		Items                json.RawMessage            `json:"items"`
		AdditionalProperties json.RawMessage            `json:"additionalProperties"`
	}
	var out []string
	var walk func(path string, raw json.RawMessage)
	walk = func(path string, raw json.RawMessage) {
		if len(raw) == 0 || raw[0] != '{' {
			return
		}
		var n node
		if err := json.Unmarshal(raw, &n); err != nil {
			t.Fatal(err)
		}
		for _, name := range slices.Sorted(maps.Keys(n.Properties)) {
			full := strings.TrimPrefix(path+"."+name, ".")
			out = append(out, full)
			walk(full, n.Properties[name])
		}
		walk(path+"[]", n.Items)
		walk(path+".*", n.AdditionalProperties)
	}
	walk("", configs.Schema())
	return out
}

// filePaths returns the paths of all fields of a file, in the form of
// schemaPaths; maps are those that the schema calls maps.
func filePaths(t *testing.T, path string, known []string) []string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var doc any
	if err := yaml.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	var out []string
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for name, inner := range v {
				full := strings.TrimPrefix(path+"."+name, ".")
				if isMap := slices.ContainsFunc(known, func(k string) bool { return strings.HasPrefix(k, path+".*") }); isMap || path == "node.fabric.via" {
					full = path + ".*"
				}
				out = append(out, full)
				walk(full, inner)
			}
		case []any:
			for _, inner := range v {
				walk(path+"[]", inner)
			}
		}
	}
	walk("", doc)
	slices.Sort(out)
	return slices.Compact(out)
}

func TestReferenceShowsEveryField(t *testing.T) {
	known := schemaPaths(t)
	shown := filePaths(t, "edged.yaml", known)
	for _, path := range known {
		place, _, isSecret := strings.Cut(path, ".credential")
		if isSecret || strings.HasSuffix(path, ".env") || strings.HasSuffix(path, ".file") {
			path = strings.TrimSuffix(strings.TrimSuffix(place, ".env"), ".file")
		}
		if !slices.Contains(shown, path) {
			t.Errorf("edged.yaml does not show %s", path)
		}
	}
}

func TestReferenceCommentsEveryField(t *testing.T) {
	// Fields of one line share its comment, and a name says what a name is.
	data, err := os.ReadFile("edged.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if comments, lines := strings.Count(string(data), "#"), strings.Count(string(data), "\n"); comments*2 < lines {
		t.Errorf("%d comments on %d lines: it is a reference, every field wants its line", comments, lines)
	}
}

// TestWholeLanguage walks a file with every field of the language: each is
// either understood or refused as one of a later version.
func TestWholeLanguage(t *testing.T) {
	data, err := os.ReadFile("testdata/language.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, report := configs.Parse("language.yaml", data)
	var refused []string
	for _, p := range report.Problems {
		if p.Code != "not-in-this-version" {
			t.Errorf("%s (%s)", p, p.Code)
			continue
		}
		refused = append(refused, p.Path)
	}
	inSchema := schemaPaths(t)
	all := filePaths(t, "testdata/language.yaml", inSchema)
	for _, path := range all {
		if slices.Contains(inSchema, path) || path == "node.backends.*" || path == "node.fabric.via.*" {
			continue
		}
		known := slices.ContainsFunc(refused, func(r string) bool {
			r = indexes.Replace(r)
			r = strings.Replace(r, "node.backends.shop", "node.backends.*", 1)
			return path == r || strings.HasPrefix(path, r+".") || strings.HasPrefix(path, r+"[]")
		})
		if !known {
			t.Errorf("%s is neither in the schema nor refused", path)
		}
	}
}

var indexes = strings.NewReplacer("[0]", "[]", "[1]", "[]", "[2]", "[]", "[3]", "[]", "[4]", "[]", "[5]", "[]")

// TestLaterFields: whoever adds a field takes it from the list.
func TestLaterFields(t *testing.T) {
	known := schemaPaths(t)
	for _, path := range configs.Later() {
		if slices.Contains(known, path) {
			t.Errorf("%s is in the schema and in the list of later fields", path)
		}
	}
}

func TestNodeFile(t *testing.T) {
	const (
		fleet = "geos: [{name: fra, number: 1}]\n"
		node  = "node: {geo: fra, name: fra-edge1}\n"
	)
	for _, tt := range []struct {
		name, main, node string
		want             []string
	}{
		{"apart", fleet, node, nil},
		{"no node file", fleet + node, "", nil},
		{"empty node file", fleet + node, "# nothing\n", nil},
		{
			"both", fleet + node, node,
			[]string{`node.yaml:1:1: error: node: "node" also stands in edged.yaml, line 5: one place only`},
		},
		{
			"more", fleet, node + "log: {level: debug}\n",
			[]string{`node.yaml:2:1: error: log: node.yaml holds the section "node" and nothing else`},
		},
		{
			"mistake in node", fleet, "node:\n  geo: frb\n",
			[]string{`node.yaml:2:8: error: node.geo: unknown geo "frb" (did you mean "fra"?)`},
		},
		{
			"mistakes in both", fleet + "lgo: {}\n", "node: {geo: fra, namee: a}\n",
			[]string{
				`edged.yaml:5:1: error: lgo: unknown field "lgo" (did you mean "log"?)`,
				`node.yaml:1:18: error: node.namee: unknown field "namee" (did you mean "name"?)`,
			},
		},
		{"list", fleet, "- a\n", []string{`node.yaml:1:1: error: a configuration is a section with fields, like "version: 1"`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "edged.yaml"), document(tt.main))
			if tt.node != "" {
				write(t, filepath.Join(dir, "node.yaml"), tt.node)
			}
			c, report := configs.Load(filepath.Join(dir, "edged.yaml"))
			var got []string
			for _, p := range report.Problems {
				got = append(got, strings.ReplaceAll(p.String(), dir+"/", ""))
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("problems (-want +got):\n%s", d)
			}
			if (c != nil) != (len(tt.want) == 0) {
				t.Errorf("config: %v", c)
			}
		})
	}
}

func TestUnreadableFile(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct{ path, want string }{
		{filepath.Join(dir, "none.yaml"), "no such file"},
		{dir, "this is a directory"},
	} {
		c, report := configs.Load(tt.path)
		if c != nil || len(report.Problems) != 1 || report.Err() == nil || !strings.HasSuffix(report.Err().Error(), tt.want) {
			t.Errorf("Load(%s) = %v, %v; want %q", tt.path, c, report.Err(), tt.want)
		}
	}
}

// A FIFO that nobody writes to is empty: reading it ends.
func TestFIFO(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo.yaml")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if c, report := configs.Load(fifo); c != nil || report.Err() == nil {
		t.Errorf("Load = %v, %v", c, report.Err())
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
