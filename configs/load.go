package configs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"syscall"
)

// nodeFile is where the node section may live alone, beside the main file.
const nodeFile = "node.yaml"

// Load reads the configuration file at path, and node.yaml beside it if there
// is one. The Config is nil when the Report holds an error.
func Load(path string) (*Config, Report) {
	main, problem := read(path)
	if problem != nil {
		return nil, Report{Problems: []Problem{*problem}}
	}
	files := []input{{path, main}}
	beside := filepath.Join(filepath.Dir(path), nodeFile)
	if filepath.Base(path) != nodeFile {
		node, problem := read(beside)
		switch {
		case problem == nil:
			files = append(files, input{beside, node})
		case problem.Code != "file-missing":
			return nil, Report{Problems: []Problem{*problem}}
		}
	}
	return parse(files)
}

// Parse reads a configuration from data; name stands in the problems.
func Parse(name string, data []byte) (*Config, Report) {
	return parse([]input{{name, data}})
}

// input is one file's name and text.
type input struct {
	name string
	data []byte
}

// read returns the file's bytes, at most one more than allowed.
func read(path string) ([]byte, *Problem) {
	bad := func(code string, err error) *Problem {
		return &Problem{File: path, Code: code, Message: err.Error(), Severity: Error}
	}
	// Not blocking: a FIFO that nobody writes to is empty, not for ever.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, bad("file-missing", errors.New("no such file"))
	}
	if errors.Is(err, fs.ErrPermission) {
		return nil, bad("file-unreadable", errors.New("permission denied"))
	}
	if err != nil {
		return nil, bad("file-unreadable", err)
	}
	defer func() { _ = f.Close() }() // only read
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, bad("file-unreadable", errors.New("this is a directory"))
	}
	data, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err != nil {
		return nil, bad("file-unreadable", err)
	}
	return data, nil
}

// parse reads the main file and, if given, the node file.
func parse(files []input) (*Config, Report) {
	var report Report
	names := make([]string, 0, len(files))
	addAll := func(mistakes []mistake) {
		for _, m := range mistakes {
			report.Problems = append(report.Problems, m.problem(Error))
		}
	}
	var root *value
	for i, f := range files {
		names = append(names, f.name)
		src, v, mistakes := readSource(f.name, f.data)
		addAll(mistakes)
		if len(mistakes) > 0 && v == nil {
			report.sort(names)
			return nil, report
		}
		if v == nil {
			v = &value{at: src.whole("", "").at, fields: map[string]*value{}}
			v.key = v.at
		}
		if !v.isMap() {
			addAll([]mistake{{at: v.at, code: "wrong-type", message: "a configuration is a section with fields, like \"version: 1\""}})
			return nil, report
		}
		if i == 0 {
			root = v
			continue
		}
		addAll(addNode(root, v))
	}
	c := newCheck(root)
	addAll(validate(root))
	for _, p := range report.Problems {
		c.broken = append(c.broken, p.Path)
	}
	decode(root, "", reflect.ValueOf(&c.cfg).Elem(), c)
	for _, r := range rules {
		r(c)
	}
	report.Problems = append(report.Problems, c.problems...)
	report.sort(names)
	report.Problems = slices.CompactFunc(report.Problems, func(a, b Problem) bool { return a == b })
	if report.Errors() > 0 {
		return nil, report
	}
	return &c.cfg, report
}

// addNode puts the node section of the node file into root.
func addNode(root, node *value) []mistake {
	var bad []mistake
	for _, field := range node.names {
		f := node.fields[field]
		switch {
		case field != "node":
			bad = append(bad, mistake{at: f.key, path: field, code: "node-file", message: fmt.Sprintf("%s holds the section \"node\" and nothing else", nodeFile)})
		case root.fields["node"] != nil:
			at := root.fields["node"].key
			bad = append(bad, mistake{at: f.key, path: field, code: "node-file", message: fmt.Sprintf("\"node\" also stands in %s, line %d: one place only", at.src.name, at.line)})
		default:
			root.fields["node"] = f
			root.names = append(root.names, "node")
		}
	}
	return bad
}
