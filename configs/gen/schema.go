package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math"
	"net/netip"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"

	"anyedge/configs"
	"anyedge/internal/message"

	"github.com/invopop/jsonschema"
)

// generate returns the generated files by path; root is the module's folder.
func generate(root string) (map[string][]byte, error) {
	comments, err := readComments(root)
	if err != nil {
		return nil, err
	}
	schema, err := makeSchema(comments)
	if err != nil {
		return nil, err
	}
	doc, err := makeDoc(schema)
	if err != nil {
		return nil, err
	}
	return map[string][]byte{
		filepath.Join(root, "configs", "edged.schema.json"): schema,
		filepath.Join(root, "docs", "configuration.md"):     doc,
	}, nil
}

// makeSchema returns the JSON schema of configs.Config; comments become
// descriptions.
func makeSchema(comments map[string]string) ([]byte, error) {
	r := &jsonschema.Reflector{
		Anonymous:      true,
		DoNotReference: true,
		Mapper:         mapType,
		LookupComment: func(t reflect.Type, field string) string {
			key := t.PkgPath() + "." + t.Name()
			if field != "" {
				key += "." + field
			}
			return comments[key]
		},
	}
	s := r.Reflect(&configs.Config{})
	s.Title = "edged.yaml"
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(s); err != nil {
		return nil, fmt.Errorf("encode schema: %w", err)
	}
	return b.Bytes(), nil
}

// mapType returns the schema of types that are strings in the file, and the
// bounds of whole numbers.
func mapType(t reflect.Type) *jsonschema.Schema {
	text := func(format string) *jsonschema.Schema {
		return &jsonschema.Schema{Type: "string", Format: format}
	}
	switch t {
	case reflect.TypeFor[netip.Addr]():
		return text("address")
	case reflect.TypeFor[netip.Prefix]():
		return text("prefix")
	case reflect.TypeFor[time.Duration]():
		return text("go-duration")
	case reflect.TypeFor[message.Size]():
		return text("size")
	}
	bounds := map[reflect.Kind]uint64{
		reflect.Uint8: math.MaxUint8, reflect.Uint16: math.MaxUint16, reflect.Uint32: math.MaxUint32,
	}
	if top, ok := bounds[t.Kind()]; ok {
		return &jsonschema.Schema{Type: "integer", Minimum: "0", Maximum: json.Number(strconv.FormatUint(top, 10))}
	}
	return nil
}

// readComments returns the comments of all configuration types and their
// fields: they stand in files named config.go or configs.go, and secret.go.
func readComments(root string) (map[string]string, error) {
	out := map[string]string{}
	for _, dir := range []string{
		"bgp", "bpf", "configs", "fabric", "internal/admin", "internal/dnsserver", "internal/metrics", "internal/secret", "internal/steering", "internal/world",
		"proxy", "proxy/certs", "proxy/upstream", "replay",
	} {
		paths, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
		if err != nil {
			return nil, err
		}
		for _, p := range paths {
			switch filepath.Base(p) {
			case "config.go", "configs.go", "secret.go":
				if err := readFile(p, "anyedge/"+dir, out); err != nil {
					return nil, err
				}
			}
		}
	}
	return out, nil
}

// readFile adds the comments of one source file to out.
func readFile(path, pkg string, out map[string]string) error {
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
	if err != nil {
		return err
	}
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		st, ok := spec.Type.(*ast.StructType)
		if !ok {
			return true
		}
		for _, field := range st.Fields.List {
			text := field.Doc.Text()
			if text == "" {
				text = field.Comment.Text()
			}
			for _, name := range field.Names {
				out[pkg+"."+spec.Name.Name+"."+name.Name] = strings.Join(strings.Fields(text), " ")
			}
		}
		return true
	})
	return nil
}
